/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets: the parts of unix.c that have a file of their own. */
#pragma once

#include <sys/un.h>

#include "kernel/sockdiag.h"
#include "kinds/socket.h"
#include "unix.pb-c.h"

/* ---- unix_name.c: names in the file system ---- */

/* Source: fills m->file for m->address, or refuses. */
struct err *unix_file_capture(
	struct capture *c, const struct diag_unix *d, Migrate__Kind__Unix *m) must_check;
/* The same for an end of a connection: its name is only a text, shared with the listener that
 * accepted it; nobody can connect to it by that. */
struct err *unix_text_capture(struct capture *c, Migrate__Kind__Unix *m) must_check;
/* Could a socket be put there? */
struct err *unix_file_check(const Migrate__Kind__Unix *m) must_check;
/* Binds fd so that getsockname() shows m->address, while the file is still hidden. */
struct err *unix_file_bind(struct rebuild *r, const struct sock *s, int fd) must_check;
/* Puts the hidden file where it belongs, over a stale one. */
struct err *unix_file_publish(struct rebuild *r, const struct sock *s) must_check;
/* Removes what unix_file_bind left beside the final place, if anything. */
void unix_file_discard(struct rebuild *r, const struct sock *s);
/* All that was bound hidden by a migration whose worker is gone, by the notes in its scratch
 * directory: into place if the process has moved, else removed. Can be repeated. */
void unix_files_settle(const char *scratch_dir, bool moved);
/* Address for bind; its length by return. */
socklen_t unix_sockaddr(const Migrate__Kind__Unix *m, struct sockaddr_un *a);

/* ---- unix_queue.c: what waits to be read ---- */

#define UNIX_QUEUE_BYTES  (8u << 20)
#define UNIX_QUEUE_CHUNKS 4096
/* Target stopped. Consumes nothing. */
struct err *unix_queue_capture(
	struct capture *c, const struct sock_seen *s, Migrate__Kind__Unix *m) must_check;
/* Sends it from `other`, the other end, whose own settings stay as they are. */
struct err *unix_queue_fill(struct rebuild *r, const Migrate__Kind__Unix *m, int other) must_check;
