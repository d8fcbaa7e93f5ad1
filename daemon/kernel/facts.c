// SPDX-License-Identifier: Apache-2.0
/* Facts about this host: see facts.h. Every file here may be missing on some kernel. */
#include "kernel/facts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/io.h"
#include "base/text.h"
#include "kernel/proc.h"

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27 /* Linux 6.3 */
#endif

#define SMALL_BYTES 4096
#define LARGE_BYTES 65536
#define KIB         1024ULL
#define NS_PER_S    1000000000LL

/* First line of a file, "" when it cannot be read. */
static char *line_of(struct arena *a, const char *path)
{
	char *text = NULL;
	autoerr struct err *e = io_read_file(a, path, SMALL_BYTES, &text, NULL);

	if (e)
		return arena_strdup(a, "");
	text[strcspn(text, "\n")] = 0;
	return text;
}

static uint64_t number_of(struct arena *a, const char *path)
{
	const char *p = line_of(a, path);
	uint64_t v = 0;

	return text_scan_u64(&p, 10, &v) ? v : 0;
}

/* A line "Name:   123 kB" of meminfo in bytes. */
static uint64_t meminfo(const char *text, const char *name)
{
	const char *p = strstr(text, name);
	uint64_t v = 0;

	if (!p)
		return 0;
	p += strlen(name);
	p += strspn(p, " ");
	return text_scan_u64(&p, 10, &v) ? v * KIB : 0;
}

static void read_memory(struct arena *a, struct facts *f)
{
	char *text = NULL;
	autoerr struct err *e = io_read_file(a, "/proc/meminfo", LARGE_BYTES, &text, NULL);

	if (!e)
		f->mem_free_bytes = meminfo(text, "MemAvailable:") + meminfo(text, "SwapFree:");
}

/* Of our own mapping: it is the same in every process of this kernel. */
static void read_vdso(struct arena *a, struct facts *f)
{
	uint64_t at = getauxval(AT_SYSINFO_EHDR);
	struct vma_list maps = { 0 };
	autoerr struct err *e = proc_maps(a, getpid(), &maps);
	const struct vma *v = e || !at ? NULL : vma_at(&maps, at);

	if (!v)
		return;
	f->vdso_bytes = v->end - v->start;
	f->vdso_hash = XXH3_64bits((const void *)(uintptr_t)v->start, f->vdso_bytes);
}

static int64_t clock_of(clockid_t id)
{
	struct timespec t = { 0 };

	clock_gettime(id, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static char *model(struct arena *a)
{
	char buf[64];

	cpu_model(buf, sizeof(buf));
	return arena_strdup(a, buf);
}

void facts_read(struct arena *a, struct facts *f)
{
	struct utsname u = { 0 };

	memset(f, 0, sizeof(*f));
	uname(&u);
	f->kernel = arena_printf(a, "%s %s", u.release, u.version);
	f->machine = arena_strdup(a, u.machine);
	f->hostname = arena_strdup(a, u.nodename);
	f->state_components = cpu_state_components();
	f->state_bytes = cpu_state_bytes();
	f->n_cpu_words = cpu_words(f->cpu_words);
	f->cpu_model = model(a);
	f->rseq_bytes = (uint32_t)getauxval(AT_RSEQ_FEATURE_SIZE);
	read_vdso(a, f);
	f->max_map_count = number_of(a, "/proc/sys/vm/max_map_count");
	f->overcommit = (uint32_t)number_of(a, "/proc/sys/vm/overcommit_memory");
	f->pid_max = number_of(a, "/proc/sys/kernel/pid_max");
	f->nr_open = number_of(a, "/proc/sys/fs/nr_open");
	read_memory(a, f);
	f->lsm = line_of(a, "/sys/kernel/security/lsm");
	f->lsm_label = facts_lsm_label(a, 0);
	f->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
	f->cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	f->realtime_ns = clock_of(CLOCK_REALTIME);
	f->monotonic_ns = clock_of(CLOCK_MONOTONIC);
	f->boottime_ns = clock_of(CLOCK_BOOTTIME);
}

/* AppArmor writes "unconfined" or "profile (mode)"; SELinux a context; Smack a label. */
const char *facts_lsm_label(struct arena *a, pid_t pid)
{
	const char *path = pid ? arena_printf(a, "/proc/%d/attr/current", (int)pid)
			       : "/proc/self/attr/current";
	char *label = line_of(a, path);

	return strcmp(label, "unconfined") == 0 ? "" : label;
}
