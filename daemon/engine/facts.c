// SPDX-License-Identifier: Apache-2.0
/*
 * The comparison of two hosts. Everything that differs is noted, not only the first: a user who
 * asks `check` wants the whole list. What a program has found out at its start (processor, vdso)
 * and what has no slack (numbers, memory) is a blocker; what only changes how it goes on is a
 * warning.
 */
#include "engine/facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "kernel/facts.h"
#include "kernel/proc.h"
#include "kernel/unit.h"

/* vm.overcommit_memory: refuse what could not all be used. */
#define OVERCOMMIT_NEVER 2
#define MIB              (1024 * 1024)
#define NS_PER_MS        1000000

void facts_fill(struct arena *a, Migrate__Facts *m)
{
	struct facts f;

	facts_read(a, &f);
	m->kernel = (char *)f.kernel;
	m->machine = (char *)f.machine;
	m->hostname = (char *)f.hostname;
	m->xcr0 = f.state_components;
	m->xsave_bytes = f.state_bytes;
	m->cpuid.len = f.n_cpu_words * sizeof(*f.cpu_words);
	m->cpuid.data = arena_dup(a, f.cpu_words, m->cpuid.len);
	m->cpu_model = (char *)f.cpu_model;
	m->rseq_bytes = f.rseq_bytes;
	m->vdso_hash = f.vdso_hash;
	m->vdso_bytes = f.vdso_bytes;
	m->max_map_count = f.max_map_count;
	m->overcommit = f.overcommit;
	m->pid_max = f.pid_max;
	m->nr_open = f.nr_open;
	m->mem_free_bytes = f.mem_free_bytes;
	m->realtime_ns = f.realtime_ns;
	m->monotonic_ns = f.monotonic_ns;
	m->boottime_ns = f.boottime_ns;
	m->lsm = (char *)f.lsm;
	m->lsm_label = (char *)f.lsm_label;
	m->page_bytes = f.page_bytes;
	m->cpus = f.cpus;
}

struct err *facts_fill_begin(struct arena *a, pid_t pid, Migrate__Begin *m)
{
	struct vma_list maps;
	const char *unit;

	TRY(proc_maps(a, pid, &maps));
	m->vmas = (uint32_t)maps.n;
	m->lsm_label = (char *)facts_lsm_label(a, pid);
	if (m->unit && *m->unit)
		return NULL;
	TRY(unit_of(a, pid, &unit));
	m->unit = (char *)unit;
	return NULL;
}

/* One comparison's view of the world. */
struct pair {
	const Migrate__Begin *begin;
	const Migrate__Facts *src, *dst;
	struct notes *notes;
};

static void compare_machine(const struct pair *p)
{
	if (strcmp(p->src->machine, p->dst->machine) != 0)
		notes_refuse(p->notes, err_new(ERR_MISMATCH, "the machine is %s here and %s there",
					       p->src->machine, p->dst->machine));
	if (p->src->page_bytes != p->dst->page_bytes)
		notes_refuse(
			p->notes, err_new(ERR_MISMATCH, "pages have %u bytes here and %u there",
					  p->src->page_bytes, p->dst->page_bytes));
}

struct words {
	uint32_t v[CPU_WORDS_MAX];
	size_t n;
};

static struct words words_of(const Migrate__Facts *f)
{
	struct words w = { .n = MIN(f->cpuid.len / sizeof(*w.v), (size_t)CPU_WORDS_MAX) };

	if (w.n)
		memcpy(w.v, f->cpuid.data, w.n * sizeof(*w.v));
	return w;
}

static void add_feature(void *arg, const char *feature)
{
	struct text *t = arg;

	text_addf(t, "%s%s", t->len ? ", " : "", feature);
}

static void compare_cpu(const struct pair *p)
{
	struct words src = words_of(p->src), dst = words_of(p->dst);
	uint64_t missing = p->src->xcr0 & ~p->dst->xcr0;
	autotext struct text features = { 0 };
	int moved;

	cpu_compare((struct cpu_list){ src.v, src.n }, (struct cpu_list){ dst.v, dst.n },
		add_feature, &features);
	if (features.len)
		notes_refuse(p->notes,
			err_hint(err_new(ERR_MISMATCH, "the processor there (%s) lacks %s",
					 p->dst->cpu_model, text_str(&features)),
				"choose a host whose processor has all that this one (%s) has",
				p->src->cpu_model));
	if (missing)
		notes_refuse(p->notes, err_new(ERR_MISMATCH,
					       "extended processor state 0x%jx is enabled here and "
					       "not there (XCR0)",
					       (uintmax_t)missing));
	moved = cpu_state_moved(p->src->xcr0 & p->dst->xcr0, src.v, src.n, dst.v, dst.n);
	if (moved >= 0)
		notes_refuse(p->notes, err_new(ERR_MISMATCH,
					       "component %d of the extended processor state lies "
					       "elsewhere there (xsave layout)",
					       moved));
}

static void compare_kernel(const struct pair *p)
{
	if (p->src->vdso_hash != p->dst->vdso_hash || p->src->vdso_bytes != p->dst->vdso_bytes)
		notes_refuse(
			p->notes, err_hint(err_new(ERR_MISMATCH,
						   "the kernel's code in the process (vdso) is "
						   "another one there: \"%s\" here, \"%s\" there",
						   p->src->kernel, p->dst->kernel),
					  "boot both hosts with the same kernel"));
	else if (strcmp(p->src->kernel, p->dst->kernel) != 0)
		notes_warnf(p->notes, "the kernel is \"%s\" here and \"%s\" there", p->src->kernel,
			p->dst->kernel);
	/* 0 is a kernel that does not say; then it is the 20 bytes of the first version. */
	if (p->dst->rseq_bytes < p->src->rseq_bytes)
		notes_refuse(p->notes,
			err_new(ERR_MISMATCH,
				"the kernel fills %u bytes of the rseq area here and %u there",
				p->src->rseq_bytes, p->dst->rseq_bytes));
}

static void compare_numbers(const struct pair *p)
{
	const Migrate__Begin *b = p->begin;
	int32_t highest = b->pid;

	for (size_t i = 0; i < b->n_tids; i++)
		highest = MAX(highest, b->tids[i]);
	if (p->dst->max_map_count && b->vmas > p->dst->max_map_count)
		notes_refuse(p->notes,
			err_hint(err_new(ERR_LIMIT,
					 "it has %u mappings and vm.max_map_count is %ju there",
					 b->vmas, (uintmax_t)p->dst->max_map_count),
				"raise vm.max_map_count there"));
	else if (p->dst->max_map_count < p->src->max_map_count)
		notes_warnf(p->notes, "vm.max_map_count is %ju here and %ju there",
			(uintmax_t)p->src->max_map_count, (uintmax_t)p->dst->max_map_count);
	if (p->dst->pid_max && (uint64_t)highest >= p->dst->pid_max)
		notes_refuse(p->notes,
			err_hint(err_new(ERR_LIMIT, "its id %d is beyond kernel.pid_max, %ju there",
					 highest, (uintmax_t)p->dst->pid_max),
				"raise kernel.pid_max there"));
	if (p->dst->nr_open && b->fd_max >= p->dst->nr_open)
		notes_refuse(p->notes,
			err_hint(err_new(ERR_LIMIT,
					 "its descriptor %u is beyond fs.nr_open, %ju there",
					 b->fd_max, (uintmax_t)p->dst->nr_open),
				"raise fs.nr_open there"));
}

static void compare_memory(const struct pair *p)
{
	if (p->begin->need_bytes > p->dst->mem_free_bytes)
		notes_refuse(p->notes,
			err_new(ERR_LIMIT,
				"it needs %ju MiB and %ju MiB of memory and swap are free there",
				(uintmax_t)p->begin->need_bytes / MIB,
				(uintmax_t)p->dst->mem_free_bytes / MIB));
	if (p->dst->overcommit == p->src->overcommit)
		return;
	notes_warnf(p->notes, "vm.overcommit_memory is %u here and %u there%s", p->src->overcommit,
		p->dst->overcommit,
		p->dst->overcommit == OVERCOMMIT_NEVER ? ": mappings may be refused" : "");
}

/* The new process gets the label of the daemon there. */
static void compare_security(const struct pair *p)
{
	const char *label = p->begin->lsm_label, *there = p->dst->lsm_label;

	if (strcmp(p->src->lsm, p->dst->lsm) != 0)
		notes_warnf(p->notes, "security modules are \"%s\" here and \"%s\" there",
			p->src->lsm, p->dst->lsm);
	if (strcmp(label, there) != 0)
		notes_refuse(
			p->notes, err_new(ERR_MISMATCH,
					  "its security label is \"%s\" and would be \"%s\" there",
					  label, there));
}

/* The monotonic clocks are made to fit by a time namespace; nothing can do that for the wall clock:
 * timers and timestamps of the process would jump. */
static void compare_clocks(const struct pair *p, int64_t offset_ns)
{
	if (offset_ns <= FACTS_REALTIME_APART_NS && offset_ns >= -FACTS_REALTIME_APART_NS)
		return;
	notes_refuse(p->notes,
		err_hint(err_new(ERR_MISMATCH,
				 "the wall clock there is %jd ms %s: times that the process keeps "
				 "would jump",
				 (intmax_t)(offset_ns < 0 ? -offset_ns : offset_ns) / NS_PER_MS,
				 offset_ns < 0 ? "behind" : "ahead"),
			"synchronise the clocks of both hosts (NTP)"));
}

void facts_compare(const Migrate__Begin *src, const Migrate__Facts *dst, int64_t realtime_offset_ns,
	struct notes *notes)
{
	struct pair p = { src, src->facts, dst, notes };

	if (!dst || !src->facts) {
		notes_refuse(notes, err_new(ERR_PEER, "the other host says nothing about itself"));
		return;
	}
	compare_machine(&p);
	compare_cpu(&p);
	compare_kernel(&p);
	compare_numbers(&p);
	compare_memory(&p);
	compare_security(&p);
	compare_clocks(&p, realtime_offset_ns);
}
