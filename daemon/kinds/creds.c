// SPDX-License-Identifier: Apache-2.0
/*
 * Credentials of a thread: ids, groups, capability sets, securebits, no_new_privs. Read from
 * status, but for the securebits, which only the thread itself can ask.
 *
 * The seedling starts with the daemon's: all ids 0, all capabilities. Each step must leave what the
 * next ones need, so the order is: groups and gids (CAP_SETGID); inheritable set (it may hold what
 * the bounding set lacks); bounding set (CAP_SETPCAP); uids under SECBIT_NO_SETUID_FIXUP, which
 * keeps the capabilities; ambient set (its capabilities are permitted and inheritable by now, and
 * the final securebits may forbid raising); securebits; permitted and effective set; no_new_privs.
 * A change of credentials makes the kernel forget dumpable and the death signal: see process.c.
 */
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "creds.pb-c.h"
#include "kernel/capability.h"
#include "kinds/calls.h"
#include "kinds/thread_facts.h"

/* Their ids and both capability headers fit the scratch memory. */
#define GROUPS_MAX 900

struct scratch {
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct inherit[2], final[2];
	uint32_t groups[GROUPS_MAX];
};
_Static_assert(sizeof(struct scratch) <= REMOTE_SCRATCH_BYTES, "scratch too small for groups");

static bool same_creds(const struct thread_facts *x, const struct thread_facts *y)
{
	const struct proc_status *a = &x->status, *b = &y->status;

	return memcmp(a->uid, b->uid, sizeof(a->uid)) == 0 &&
	       memcmp(a->gid, b->gid, sizeof(a->gid)) == 0 && a->n_groups == b->n_groups &&
	       (a->n_groups == 0 ||
		       memcmp(a->groups, b->groups, a->n_groups * sizeof(*a->groups)) == 0) &&
	       a->cap_inh == b->cap_inh && a->cap_prm == b->cap_prm && a->cap_eff == b->cap_eff &&
	       a->cap_bnd == b->cap_bnd && a->cap_amb == b->cap_amb &&
	       a->no_new_privs == b->no_new_privs && x->securebits == y->securebits;
}

static struct err *emit(struct capture *c, int32_t *tids, size_t n, const struct thread_facts *f)
{
	Migrate__Kind__Creds m = MIGRATE__KIND__CREDS__INIT;
	struct proc_status s = f->status;

	if (s.n_groups > GROUPS_MAX)
		return err_new(
			ERR_LIMIT, "it is in %zu groups, more than %d", s.n_groups, GROUPS_MAX);
	m.tids = tids;
	m.n_tids = n;
	m.uids = s.uid;
	m.n_uids = ARRAY_LEN(s.uid);
	m.gids = s.gid;
	m.n_gids = ARRAY_LEN(s.gid);
	m.groups = s.groups;
	m.n_groups = s.n_groups;
	m.inheritable = s.cap_inh;
	m.permitted = s.cap_prm;
	m.effective = s.cap_eff;
	m.bounding = s.cap_bnd;
	m.ambient = s.cap_amb;
	m.securebits = f->securebits;
	m.no_new_privs = s.no_new_privs != 0;
	capture_emit(c, (uint64_t)tids[0], &m.base);
	return NULL;
}

static struct err *creds_capture(struct capture *c)
{
	const struct task *t = c->task;
	const struct thread_facts **facts = arena_array(c->arena, t->n_threads, sizeof(*facts));
	int32_t *tids = arena_array(c->arena, t->n_threads, sizeof(*tids));

	for (size_t i = 0; i < t->n_threads; i++)
		TRY(thread_facts(c, t->threads[i], &facts[i]));
	for (size_t i = 0; i < t->n_threads; i++) {
		const struct thread_facts *f = facts[i];
		size_t n = 0;

		for (size_t j = i; f && j < t->n_threads; j++) {
			if (!facts[j] || !same_creds(f, facts[j]))
				continue;
			facts[j] = NULL; /* said */
			tids[n++] = t->threads[j]->tid;
		}
		if (n)
			TRY(emit(c, tids, n, f));
	}
	return NULL;
}

static bool makes_sense(const Migrate__Kind__Creds *m)
{
	return m->n_tids && m->n_uids == 4 && m->n_gids == 4 && m->n_groups <= GROUPS_MAX;
}

static void refuse_missing(struct rebuild *r, uint64_t missing, const char *set)
{
	for (unsigned cap = 0; cap < CAPABILITIES_MAX; cap++)
		if (missing >> cap & 1)
			rebuild_refuse(
				r, err_new(ERR_MISMATCH,
					   "%s is in its %s set, and the daemon there lacks it",
					   capability_name(r->arena, cap), set));
}

static struct err *creds_check(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Creds *m = msg;
	struct proc_status own;

	if (!makes_sense(m) || (uint64_t)m->tids[0] != o->id)
		return err_new(ERR_PEER, "credentials make no sense");
	TRY(proc_status(r->arena, getpid(), 0, &own));
	refuse_missing(r, m->bounding & ~own.cap_bnd, "bounding");
	refuse_missing(r, (m->permitted | m->effective) & ~own.cap_prm, "permitted");
	refuse_missing(r, m->inheritable & ~(own.cap_bnd | own.cap_inh), "inheritable");
	if (own.no_new_privs && !m->no_new_privs)
		rebuild_refuse(r, err_new(ERR_MISMATCH, "the daemon there runs with no_new_privs, "
							"which the process would inherit"));
	if (own.seccomp)
		rebuild_refuse(r, err_new(ERR_MISMATCH,
					  "the daemon there runs under seccomp, which the process "
					  "would inherit"));
	return NULL;
}

static bool same_groups(const Migrate__Kind__Creds *m, const struct proc_status *s)
{
	return m->n_groups == s->n_groups &&
	       (m->n_groups == 0 ||
		       memcmp(m->groups, s->groups, m->n_groups * sizeof(*m->groups)) == 0);
}

static void put_caps(struct __user_cap_data_struct *d, uint64_t eff, uint64_t prm, uint64_t inh)
{
	for (unsigned i = 0; i < 2; i++)
		d[i] = (struct __user_cap_data_struct){ .effective = (uint32_t)(eff >> 32 * i),
			.permitted = (uint32_t)(prm >> 32 * i),
			.inheritable = (uint32_t)(inh >> 32 * i) };
}

static void call_ids(struct calls *l, const Migrate__Kind__Creds *m, const struct proc_status *now,
	uint64_t scratch)
{
	if (!same_groups(m, now))
		CALL(l, "set the groups", SYS_setgroups, m->n_groups,
			scratch + offsetof(struct scratch, groups));
	CALL(l, "set the group ids", SYS_setresgid, m->gids[0], m->gids[1], m->gids[2]);
	CALL(l, "set the file system group id", SYS_setfsgid, m->gids[3]);
}

static void call_caps(struct calls *l, const Migrate__Kind__Creds *m, const struct proc_status *now,
	uint64_t scratch)
{
	uint64_t head = scratch + offsetof(struct scratch, head),
		 drop = now->cap_bnd & ~m->bounding;

	CALL(l, "set the inheritable capabilities", SYS_capset, head,
		scratch + offsetof(struct scratch, inherit));
	for (unsigned cap = 0; cap < CAPABILITIES_MAX; cap++)
		if (drop >> cap & 1)
			CALL(l, "drop a capability from the bounding set", SYS_prctl,
				PR_CAPBSET_DROP, cap);
	CALL(l, "keep capabilities over the change of user", SYS_prctl, PR_SET_SECUREBITS,
		SECBIT_NO_SETUID_FIXUP);
	CALL(l, "set the user ids", SYS_setresuid, m->uids[0], m->uids[1], m->uids[2]);
	CALL(l, "set the file system user id", SYS_setfsuid, m->uids[3]);
	for (unsigned cap = 0; cap < CAPABILITIES_MAX; cap++)
		if (m->ambient >> cap & 1)
			CALL(l, "raise an ambient capability", SYS_prctl, PR_CAP_AMBIENT,
				PR_CAP_AMBIENT_RAISE, cap);
	CALL(l, "set the securebits", SYS_prctl, PR_SET_SECUREBITS, m->securebits);
	CALL(l, "set the capabilities", SYS_capset, head,
		scratch + offsetof(struct scratch, final));
	if (m->no_new_privs)
		CALL(l, "set no_new_privs", SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
}

static bool is_done(const Migrate__Kind__Creds *m, const struct proc_status *s, int64_t securebits)
{
	return memcmp(m->uids, s->uid, sizeof(s->uid)) == 0 &&
	       memcmp(m->gids, s->gid, sizeof(s->gid)) == 0 && same_groups(m, s) &&
	       m->inheritable == s->cap_inh && m->permitted == s->cap_prm &&
	       m->effective == s->cap_eff && m->bounding == s->cap_bnd &&
	       m->ambient == s->cap_amb && m->securebits == (uint32_t)securebits &&
	       m->no_new_privs == (s->no_new_privs != 0);
}

/* The scratch memory is filled already. */
static struct err *set_thread(struct rebuild *r, const Migrate__Kind__Creds *m, int32_t tid,
	const struct proc_status *from)
{
	struct thread *th = task_thread(r->task, tid);
	struct calls calls = { 0 };
	struct proc_status now;

	if (!th)
		return err_new(ERR_PEER, "credentials for a thread %d that is not there", tid);
	call_ids(&calls, m, from, remote_scratch(r->task).v);
	call_caps(&calls, m, from, remote_scratch(r->task).v);
	TRY(calls_run(&calls, r->task, th));
	/* setfsuid and setfsgid have no way to say that they did nothing. */
	TRY(proc_status(r->arena, r->task->pid, tid, &now));
	if (!is_done(m, &now, m->securebits))
		return err_new(
			ERR_KERNEL, "credentials of thread %d are not what was asked for", tid);
	return NULL;
}

static struct err *creds_finish(
	struct rebuild *r, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Creds *m = msg;
	struct scratch s = { .head = { .version = _LINUX_CAPABILITY_VERSION_3 } };
	struct proc_status from;
	int64_t securebits;

	if (!makes_sense(m))
		return err_new(ERR_PEER, "credentials make no sense");
	if (!task_thread(r->task, m->tids[0]))
		return err_new(
			ERR_PEER, "credentials for a thread %d that is not there", m->tids[0]);
	/* All threads of the seedling were born with the same, so the first stands for all. */
	TRY(proc_status(r->arena, r->task->pid, m->tids[0], &from));
	TRY(REMOTE(r->task, task_thread(r->task, m->tids[0]), &securebits, "ask for the securebits",
		SYS_prctl, PR_GET_SECUREBITS));
	if (is_done(m, &from, securebits))
		return NULL;
	put_caps(s.inherit, from.cap_prm, from.cap_prm, m->inheritable);
	put_caps(s.final, m->effective, m->permitted, m->inheritable);
	if (m->n_groups)
		memcpy(s.groups, m->groups, m->n_groups * sizeof(*m->groups));
	TRY(remote_put(r->task, 0, &s, sizeof(s)));
	for (size_t i = 0; i < m->n_tids; i++)
		TRY(set_thread(r, m, m->tids[i], &from));
	return NULL;
}

const struct kind kind_creds = {
	.id = 4,
	.name = "credentials",
	.scope = KIND_PROCESS,
	.stage = STAGE_CRED,
	.msg = &migrate__kind__creds__descriptor,
	.capture = creds_capture,
	.check = creds_check,
	.finish = creds_finish,
};
