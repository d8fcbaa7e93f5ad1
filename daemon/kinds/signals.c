// SPDX-License-Identifier: Apache-2.0
/*
 * What the process does about each signal. Threads always share the actions (CLONE_THREAD demands
 * CLONE_SIGHAND), so the leader is asked for all of them by rt_sigaction(sig, NULL, old): the
 * restorer that the C library put there comes along, which sigaction(2) of libc would hide.
 *
 * SIGKILL and SIGSTOP have no action. Actions that are the default are not sent; the seedling may
 * have others by an earlier rebuild, so every signal is set.
 */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "kinds/calls.h"
#include "kinds/kind.h"
#include "signals.pb-c.h"

#define SIGNALS 64

/* struct kernel_sigaction of all 64-bit architectures that have a restorer. */
struct kernel_action {
	uint64_t handler, flags, restorer, mask;
};
#define MASK_BYTES sizeof(uint64_t)

_Static_assert(SIGNALS * sizeof(struct kernel_action) <= REMOTE_SCRATCH_BYTES, "scratch too small");

static bool has_action(int sig)
{
	return sig != SIGKILL && sig != SIGSTOP;
}

static bool is_default(const struct kernel_action *a)
{
	return a->handler == 0 && a->flags == 0 && a->restorer == 0 && a->mask == 0;
}

static uint64_t place_of(const struct task *t, int sig)
{
	return remote_scratch(t).v + (uint64_t)(sig - 1) * sizeof(struct kernel_action);
}

static struct err *signals_capture(struct capture *c)
{
	Migrate__Kind__Signals m = MIGRATE__KIND__SIGNALS__INIT;
	Migrate__Kind__Signals__Action actions[SIGNALS], *list[SIGNALS];
	struct kernel_action now[SIGNALS] = { 0 };
	struct calls calls = { 0 };

	for (int sig = 1; sig <= SIGNALS; sig++)
		if (has_action(sig))
			CALL(&calls, "ask for a signal's action", SYS_rt_sigaction, (uint64_t)sig,
				0, place_of(c->task, sig), MASK_BYTES);
	TRY(calls_run(&calls, c->task, c->thread));
	TRY(remote_get(c->task, 0, now, sizeof(now)));
	m.actions = list;
	for (int sig = 1; sig <= SIGNALS; sig++) {
		const struct kernel_action *a = &now[sig - 1];
		Migrate__Kind__Signals__Action *out = &actions[m.n_actions];

		if (!has_action(sig) || is_default(a))
			continue;
		migrate__kind__signals__action__init(out);
		out->signal = (uint32_t)sig;
		out->handler = a->handler;
		out->flags = a->flags;
		out->restorer = a->restorer;
		out->mask = a->mask;
		list[m.n_actions++] = out;
	}
	capture_emit(c, 0, &m.base);
	return NULL;
}

static struct err *signals_rebuild(
	struct rebuild *r, const struct object *o unused_arg, const void *msg, int *fd unused_arg)
{
	const Migrate__Kind__Signals *m = msg;
	struct kernel_action want[SIGNALS] = { 0 };
	struct calls calls = { 0 };

	for (size_t i = 0; i < m->n_actions; i++) {
		const Migrate__Kind__Signals__Action *a = m->actions[i];

		if (a->signal < 1 || a->signal > SIGNALS || !has_action((int)a->signal))
			return err_new(ERR_PEER, "there is no action for signal %u", a->signal);
		want[a->signal - 1] =
			(struct kernel_action){ a->handler, a->flags, a->restorer, a->mask };
	}
	TRY(remote_put(r->task, 0, want, sizeof(want)));
	for (int sig = 1; sig <= SIGNALS; sig++)
		if (has_action(sig))
			CALL(&calls, "set a signal's action", SYS_rt_sigaction, (uint64_t)sig,
				place_of(r->task, sig), 0, MASK_BYTES);
	return calls_run(&calls, r->task, r->thread);
}

const struct kind kind_signals = {
	.id = 5,
	.name = "signal actions",
	.scope = KIND_PROCESS,
	.stage = STAGE_SIGNAL,
	.msg = &migrate__kind__signals__descriptor,
	.capture = signals_capture,
	.rebuild = signals_rebuild,
};
