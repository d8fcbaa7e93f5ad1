// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel tells nobody its undo values, but refuses an operation that would take one out of its
 * range (-32768 to 32767), with ERANGE, and all of a list of operations with it. So lists are tried
 * that cannot succeed in any case, because their end asks a semaphore to be zero and then to be
 * lowered: EAGAIN says that the value was in range, and nothing has changed, nobody was woken, and
 * nothing shows. A search by halves finds the value.
 *
 * Before that the semaphore itself must stay in its range (0 to 32767) in the list: each step of it
 * that counts for the undo value is taken back by one that does not.
 */
#include "kinds/sysv_undo.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VALUE_MAX 32767
#define UNDO_MIN  (-32768)

/* A step and its taking back, twice: half of the range is always free on one side. Then what
 * fails. */
#define OPS_MAX 6
struct list {
	struct sembuf v[OPS_MAX];
	size_t n;
};

static void add(struct list *l, size_t number, int op, int flags)
{
	l->v[l->n++] = (struct sembuf){ .sem_num = (unsigned short)number,
		.sem_op = (short)op,
		.sem_flg = (short)(flags | IPC_NOWAIT) };
}

/* The undo value falls by `by` (rises, if it is negative), the semaphore stays. */
static void shift(struct list *l, size_t number, uint16_t value, int by)
{
	int up = VALUE_MAX - value, room = MAX(up, (int)value), sign = by < 0 ? -1 : 1;

	for (int left = by * sign; left > 0; left -= room) {
		int step = MIN(left, room) * sign;
		bool counts_first = (step > 0) == (up >= (int)value);

		add(l, number, counts_first ? step : -step, counts_first ? SEM_UNDO : 0);
		add(l, number, counts_first ? -step : step, counts_first ? 0 : SEM_UNDO);
	}
}

static struct err *run(const struct undo_of *u, const struct list *l, size_t n, struct call *calls)
{
	uint64_t at = remote_scratch(u->task).v;

	TRY(remote_put(u->task, 0, l, n * sizeof(*l)));
	for (size_t i = 0; i < n; i++)
		calls[i] = (struct call){ .nr = SYS_semop,
			.args = { (uint64_t)u->id, at + i * sizeof(*l) + offsetof(struct list, v),
				l[i].n } };
	return remote_run(u->task, u->thread, calls, n);
}

/* Would that take the value out of its range? */
static struct list question(const struct undo_of *u, size_t number, int by)
{
	struct list l = { .n = 0 };

	shift(&l, number, u->values[number], by);
	add(&l, number, 0, 0);
	add(&l, number, -1, 0);
	return l;
}

static struct err *answer(const struct undo_of *u, const struct call *c, bool *out_of_range)
{
	*out_of_range = c->ret == -ERANGE;
	if (c->ret == -ERANGE || c->ret == -EAGAIN)
		return NULL;
	return err_errno(c->ret < 0 ? (int)-c->ret : EBUSY,
		"find out what semaphore set %d gets back when the process ends", u->id);
}

/* The smallest change that is too much: by halves. */
static struct err *search(const struct undo_of *u, size_t number, int sign, int32_t *ret)
{
	int lo = 0, hi = sign < 0 ? VALUE_MAX : -UNDO_MIN;

	while (hi - lo > 1) {
		int mid = lo + (hi - lo) / 2;
		const struct list l = question(u, number, mid * sign);
		struct call c;
		bool out = false;

		TRY(run(u, &l, 1, &c));
		TRY(answer(u, &c, &out));
		if (out)
			hi = mid;
		else
			lo = mid;
	}
	/* What falls is at most as far above the lowest value as that; what rises, below the
	 * highest. */
	*ret = sign < 0 ? VALUE_MAX - hi + 1 : UNDO_MIN + hi - 1;
	return NULL;
}

#define SEMS_AT_ONCE 16

/* Most are 0: neither the greatest fall nor the greatest rise is too much. */
static struct err *read_some(
	const struct undo_of *u, size_t first, size_t n, int32_t *ret, bool *may)
{
	struct list l[2 * SEMS_AT_ONCE] = { 0 };
	struct call calls[2 * SEMS_AT_ONCE];

	for (size_t i = 0; i < n; i++) {
		l[2 * i] = question(u, first + i, -UNDO_MIN);
		l[2 * i + 1] = question(u, first + i, -VALUE_MAX);
	}
	TRY(run(u, l, 2 * n, calls));
	for (size_t i = 0; i < n; i++) {
		bool low = false, high = false;

		*may = calls[2 * i].ret != -EACCES;
		if (!*may)
			return NULL;
		TRY(answer(u, &calls[2 * i], &low));
		TRY(answer(u, &calls[2 * i + 1], &high));
		ret[first + i] = 0;
		if (low || high)
			TRY(search(u, first + i, low ? 1 : -1, &ret[first + i]));
	}
	return NULL;
}

struct err *undo_read(const struct undo_of *u, int32_t *ret, bool *may)
{
	*may = true;
	for (size_t i = 0; i < u->n && *may; i += SEMS_AT_ONCE)
		TRY(read_some(u, i, MIN(u->n - i, (size_t)SEMS_AT_ONCE), ret, may));
	return NULL;
}

struct err *undo_set(const struct undo_of *u, size_t number, int32_t undo)
{
	struct list l = { .n = 0 };
	struct call c;

	shift(&l, number, u->values[number], -undo);
	TRY(run(u, &l, 1, &c));
	if (c.ret < 0)
		return err_errno(
			(int)-c.ret, "set what semaphore %zu of set %d gets back", number, u->id);
	return NULL;
}

/* ---- lists ---- */

static struct err *same_list(pid_t a, pid_t b, bool *ret)
{
	long got = syscall(SYS_kcmp, a, b, KCMP_SYSVSEM, 0, 0);

	if (got < 0)
		return err_errno(errno, "compare %d with %d (kcmp)", (int)a, (int)b);
	*ret = got == 0;
	return NULL;
}

struct err *undo_list_shared(pid_t a, pid_t b, bool *ret)
{
	return same_list(a, b, ret);
}

/* Ours is empty, and there only because we have threads: without it we can be compared with. */
struct err *undo_list_there(pid_t tid, bool *ret)
{
	bool same = false;

	if (unshare(CLONE_SYSVSEM) < 0)
		return err_errno(errno, "unshare(CLONE_SYSVSEM)");
	TRY(same_list(tid, gettid(), &same));
	*ret = !same;
	return NULL;
}
