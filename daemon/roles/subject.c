// SPDX-License-Identifier: Apache-2.0
#include "roles/subject.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/text.h"
#include "kernel/proc.h"

#define PF_KTHREAD 0x00200000
#define STATUS_MAX (64 << 10)

static bool same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

static struct err *no_process(int32_t pid)
{
	return err_hint(err_new(ERR_GONE, "there is no process %d on this host", pid),
		"check the number, for example with ps");
}

/* /proc/TID exists for every thread, though it is not listed. */
static struct err *thread_group(struct arena *a, pid_t pid, uint64_t *tgid)
{
	const char *path = arena_printf(a, "/proc/%d/status", pid), *p;
	char *text;

	TRY(io_read_file(a, path, STATUS_MAX, &text, NULL));
	p = strstr(text, "\nTgid:\t");
	if (!p)
		return err_new(ERR_BUG, "%s without Tgid", path);
	p += strlen("\nTgid:\t");
	if (!text_scan_u64(&p, 10, tgid))
		return err_new(ERR_BUG, "%s: Tgid is no number", path);
	return NULL;
}

static void add_ids(uint32_t **v, size_t *n, const uint32_t *ids, size_t n_ids)
{
	*v = xrealloc_array(*v, *n + n_ids + 1, sizeof(**v));
	for (size_t i = 0; i < n_ids; i++)
		(*v)[(*n)++] = ids[i];
}

/* Each thread has credentials of its own; a program can leave them different. */
struct err *subject_rights(pid_t pid, struct rights *ret)
{
	autoarena struct arena *a = arena_new();
	AUTO(rights_fini) struct rights r = { NULL, 0, NULL, 0, 0, 0 };
	pid_t *tids;
	size_t n;

	TRY(proc_tids(a, pid, &tids, &n));
	for (size_t i = 0; i < n; i++) {
		struct proc_status status;

		TRY(proc_status(a, pid, tids[i], &status));
		add_ids(&r.uids, &r.n_uids, status.uid, ARRAY_LEN(status.uid));
		add_ids(&r.gids, &r.n_gids, status.gid, ARRAY_LEN(status.gid));
		add_ids(&r.gids, &r.n_gids, status.groups, status.n_groups);
		r.capabilities |= status.cap_prm | status.cap_inh | status.cap_amb;
		r.memory_bytes = status.vm_rss_bytes + status.vm_swap_bytes;
	}
	if (!n)
		return no_process(pid);
	*ret = r;
	r = (struct rights){ NULL, 0, NULL, 0, 0, 0 };
	return NULL;
}

static struct err *read_facts(struct arena *a, struct subject *s)
{
	const char *dir = arena_printf(a, "/proc/%d", s->pid);
	const char *status = arena_printf(a, "%s/status", dir);
	struct proc_stat facts;
	struct stat st;
	uint64_t tgid;

	TRY(proc_stat(a, s->pid, 0, &facts));
	TRY(thread_group(a, s->pid, &tgid));
	/* Root's when it is not dumpable. The directory itself is its user's in any case. */
	if (stat(status, &st) < 0)
		return err_errno(errno, "stat %s", status);
	if (tgid != (uint64_t)s->pid)
		return err_hint(err_new(ERR_INVALID, "%d is a thread of process %ju", s->pid,
					(uintmax_t)tgid),
			"name the process");
	snprintf(s->comm, sizeof(s->comm), "%s", facts.comm);
	for (char *c = s->comm; *c; c++) /* the process chose it, and it goes to logs */
		if (!isprint((unsigned char)*c) || *c == '"')
			*c = '?';
	s->start_time = facts.start_time;
	s->owner = st.st_uid;
	s->zombie = facts.state == 'Z' || facts.state == 'X';
	s->kernel_thread = facts.flags & PF_KTHREAD;
	s->ours = same_file(arena_printf(a, "%s/exe", dir), "/proc/self/exe");
	return subject_rights(s->pid, &s->rights);
}

struct err *subject_read(int32_t pid, struct subject *ret)
{
	autoarena struct arena *a = arena_new();
	AUTO(subject_fini) struct subject s = { .pid = pid };
	struct err *e;

	if (pid <= 0)
		return err_new(ERR_INVALID, "%d is no process id", pid);
	e = read_facts(a, &s);
	if (e && (err_code(e) == ERR_GONE || err_sysno(e) == ENOENT)) {
		err_free(e);
		return no_process(pid);
	}
	TRY(e);
	*ret = s;
	s.rights = (struct rights){ NULL, 0, NULL, 0, 0, 0 };
	return NULL;
}

/* As they were when it connected: nothing that the client does later changes them. */
static struct err *read_groups(int fd, struct asker *a)
{
	socklen_t len = 0;
	size_t n;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0)
		return NULL; /* it has none */
	if (errno != ERANGE)
		return err_errno(errno, "ask the kernel for the client's groups");
	n = len / sizeof(gid_t);
	a->groups = xrealloc_array(NULL, n, sizeof(gid_t));
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, a->groups, &len) < 0)
		return err_errno(errno, "ask the kernel for the client's groups");
	a->n_groups = n;
	return NULL;
}

struct err *asker_read(int fd, struct asker *ret)
{
	AUTO(asker_fini) struct asker a = { .uid = UINT32_MAX };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	char path[64];

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return err_errno(errno, "ask the kernel who the client is");
	/* pid 0: not visible from our pid namespace. */
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", cred.pid);
	if (cred.pid <= 0 || !same_file(path, "/proc/self/ns/pid"))
		return err_hint(err_new(ERR_DENIED,
					"the client has ended or lives in another pid namespace"),
			"run migratectl on the host itself");
	a.uid = cred.uid;
	a.gid = cred.gid;
	a.pid = cred.pid;
	TRY(read_groups(fd, &a));
	*ret = a;
	a.groups = NULL;
	return NULL;
}
