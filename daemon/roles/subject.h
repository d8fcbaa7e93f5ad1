/* SPDX-License-Identifier: Apache-2.0 */
/* Facts for policy.h: about a process, and about who is at the other end of a client's socket. */
#pragma once

#include "roles/policy.h"

/* GONE if there is no such process (a thread's id is not a process). For subject_fini. */
struct err *subject_read(int32_t pid, struct subject *ret) must_check;
/* What all threads together may do. For rights_fini. */
struct err *subject_rights(pid_t pid, struct rights *ret) must_check;

/* Who a connected client is, from the kernel, as of its connect(). A client in another pid
 * namespace is DENIED: the numbers in its request would mean other processes to us. */
struct err *asker_read(int fd, struct asker *ret) must_check;
