/* SPDX-License-Identifier: Apache-2.0 */
/* Socket options: one table of what is carried, read on one side and set on the other. */
#pragma once

#include "kinds/socket.h"

/* Options of s->fd that differ from those of a fresh socket; allocated in the arena. */
struct err *sockopts_capture(
	struct capture *c, const struct sock_seen *s, Migrate__Kind__Socket *m) must_check;
/* eBPF filters, multicast memberships and other things that hang on a socket and cannot be carried:
 * each is refused by name. */
struct err *sockopts_refuse(struct capture *c, const struct sock_seen *s) must_check;
/* PEER if an option is not in the table or has a value of the wrong size. */
struct err *sockopts_valid(const Migrate__Kind__Socket *m) must_check;
/* Sets them on a fresh socket, in the table's order. */
struct err *sockopts_apply(int fd, const Migrate__Kind__Socket *m) must_check;
