/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP_REPAIR, switched from outside on a descriptor of the process (pidfd_getfd; it need not be
 * held). Kernel facts: in repair mode a close is silent; switching it on forces address reuse and
 * switching it off forgets SO_REUSEADDR, which is set again here; switching off sends a window
 * probe, which tells the peer at once that somebody is there again.
 */
#pragma once

#include "base/err.h"

/* Can we at all? UNSUPPORTED without CAP_NET_ADMIN in the network namespace. */
struct err *tcp_repair_probe(void) must_check;
struct err *tcp_repair_set(int fd, bool on) must_check;
/* Off again, if it is on: the connection goes on as it was. reuse: its SO_REUSEADDR. GONE: there is
 * no such descriptor. */
struct err *tcp_repair_end(int pidfd, int number, bool reuse) must_check;
