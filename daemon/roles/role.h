/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every role does first, and how the monitor starts one.
 *
 * Roles are the same binary, executed again (a new address space layout, none of the monitor's
 * memory) as `migrated --role NAME`, with their end of a socket pair to the monitor as descriptor 3
 * and nothing else open but stdin (/dev/null), stdout and stderr.
 *
 * Confinement: control and net lose root, every capability, the file system, control the network,
 * too, and all system calls but those of their lists (kernel/confine.h). Monitor, worker and hooks
 * get none of that: the worker's children become the moved processes, and what is inherited cannot
 * be given back to them (no_new_privs, a smaller bounding set, seccomp). What is not inherited they
 * have: nobody can trace them, and they leave no core.
 */
#pragma once

#include "base/err.h"

enum role_kind { ROLE_CONTROL, ROLE_NET, ROLE_WORKER, ROLE_HOOKS, ROLE_COUNT };

/* Becomes the role: argv[2] is its name. Returns the exit status of the process. */
int role_main(const char *name, bool debug);

/* Starts a role; *fd is our end of the pair, to be used with ipc.h. */
struct err *role_spawn(enum role_kind kind, bool debug, pid_t *pid, int *fd) must_check;
const char *role_name(enum role_kind kind);

/* The roles' main functions, after the common start. They return exit statuses. */
int control_main(void);
int net_main(void);
int worker_main(void);
int hooks_main(void);
