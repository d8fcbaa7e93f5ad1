/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes to and from one peer, whatever carries them: a plain socket, a relay that does TLS in
 * another process, a socket on which the kernel does it. Frames (channel.h) go over it; which
 * carrier it is, only its maker and `status` know.
 */
#pragma once

#include <poll.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

/* No more TLS records than this with one key: AES-GCM is good for 2^24.5. Above the second number a
 * stream is worn: who can goes on over another connection, at a time that suits. Above the third it
 * is used up: what is left is for the frame that goes out just now. */
#define ONE_KEY_RECORDS_MAX     (1ULL << 23)
#define ONE_KEY_RECORDS_WORN    (ONE_KEY_RECORDS_MAX - (1ULL << 20))
#define ONE_KEY_RECORDS_USED_UP (ONE_KEY_RECORDS_MAX - (1ULL << 17))

enum stream_wear { STREAM_FRESH, STREAM_WORN, STREAM_USED_UP };
enum stream_wear stream_wear_of(uint64_t records);

/* A pipe that bytes are spliced into must have room for so many pieces (pages or parts of pages; a
 * pipe holds as many of them as its size has pages), or be empty: the most that a socket gives at a
 * time (MAX_SKB_FRAGS). Where a record of the kernel's TLS finds room in part, the rest is lost, as
 * the code reads from 6.0 on. Mostly a record is one piece, and nothing happens. */
#define SPLICE_IN_PIECES 17

struct stream;

/*
 * All calls that move bytes return at once: how many (at least one), 0 at the peer's end (reading
 * only), or a negative errno; -EAGAIN: wait for `wants`. `more`: further bytes follow right away,
 * so that nothing need be sent yet; without it everything goes out. SIGPIPE must be ignored: not
 * every carrier can be told to do without.
 */
struct stream_ops {
	const char *name; /* "socket", "relay", "ktls" */
	ssize_t (*write)(struct stream *s, const struct iovec *iov, int n, bool more);
	ssize_t (*read)(struct stream *s, void *buf, size_t n);
	/* From and into a pipe, by reference; NULL where bytes cannot travel so. Into a pipe: see
	 * SPLICE_IN_PIECES; -EAGAIN also where it is full. */
	ssize_t (*splice_out)(struct stream *s, int pipe_fd, size_t n, bool more);
	ssize_t (*splice_in)(struct stream *s, int pipe_fd, size_t n);
	/* Looks at what has come, where it lies: n bytes in one piece at `*at`, which stay until
	 * give_back; 0 also where the peer ends before that many. Memory
	 * that the other end can still write: copy out whatever is checked. NULL where there is no
	 * such memory. */
	ssize_t (*lend)(struct stream *s, size_t n, const uint8_t **at);
	void (*give_back)(struct stream *s, size_t n);
	/* What a negative errno means where only this carrier knows; NULL (the member too) where it
	 * means what it always does. */
	struct err *(*explain)(const struct stream *s, int no);
	/* Room for n bytes where they will be sent from, in one piece at `*at` (n, or -EAGAIN);
	 * then those n of it that begin at `from`, which may be further in, go out. Nothing else is
	 * written in between. NULL where there is no such memory. */
	ssize_t (*reserve)(struct stream *s, size_t n, uint8_t **at);
	void (*commit)(struct stream *s, const uint8_t *from, size_t n);
	/* How far its key for sending is used; NULL (the member): that never ends. */
	enum stream_wear (*wear)(struct stream *s);
	/* What to poll for until the stream can be read (POLLIN) or written (POLLOUT). */
	struct pollfd (*wants)(const struct stream *s, short events);
	void (*close)(struct stream *s);
};

struct stream {
	const struct stream_ops *ops; /* NULL: there is none */
	int fd;                       /* the carrier's main descriptor, owned */
	void *state;                  /* the carrier's own */
};

/* A socket as it is: a socketpair to a process that does the rest. Takes fd and makes it
 * non-blocking. */
struct err *stream_socket(int fd, struct stream *ret) must_check;
/* A TCP socket on which the kernel does TLS 1.3, in both directions. Takes fd. Its close says
 * goodbye (close_notify) and may take some seconds. */
struct err *stream_ktls(int fd, struct stream *ret) must_check;
void stream_close(struct stream *s);
/* True if there is something to read, the end included. */
bool stream_readable(struct stream *s);
