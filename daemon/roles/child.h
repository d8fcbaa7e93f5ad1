/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A role process as the monitor sees it: its messages, then its end. The end is reported after the
 * last message, once, from the event loop; the monitor never waits for a process that hangs.
 */
#pragma once

#include "roles/ipc.h"
#include "roles/role.h"

struct child;
struct child_ops {
	/* As in ipc_handlers, but with the owner's argument. */
	void (*by_case[IPC_CASES])(void *arg, struct ipc_msg *msg);
	/* status as from waitpid. !heard: it was cut off (it sent nonsense, or did not read), so
	 * there may have been more to hear. The child is freed afterwards. */
	void (*ended)(void *arg, int status, bool heard);
};

struct child_spec {
	enum role_kind kind;
	bool debug;
	const struct child_ops *ops;
};

/* spec.ops must outlive it. Handlers must not call child_free. */
struct err *child_start(
	struct event_base *base, struct child_spec spec, void *arg, struct child **ret) must_check;
/* Does nothing once the child has closed its end. */
void child_post(struct child *c, const Migrate__Ipc *m, const int *fds, size_t n_fds);
/* SIGKILL; its end is reported as always. */
void child_kill(struct child *c);
/* At the monitor's own end, for a service, which ends when our end closes: waits for that, and
 * kills it if it takes too long. Nobody is told. */
void child_end(struct child *c);
/* At the monitor's own end: the process is left alone (it sees our end close). */
void child_free(struct child *c);
