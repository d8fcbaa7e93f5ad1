/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a stream. The channel does not know what carries the stream (kernel TLS, a relay, a
 * socketpair) and never looks inside a body.
 *
 * A stream whose key is used up is left for another connection, between two frames, and nobody
 * above notices. Each direction goes its own way: the writer opens the connection, says its number
 * in a NEXT frame, the last one on the old stream, and the reader takes the rest from there.
 *
 * Every wait ends: with the deadline, or when the interrupt descriptor becomes readable (CANCELLED:
 * somebody wants the migration to stop). A peer that closes without BYE is PEER. What is slow but
 * moves is waited for (channel_wait).
 */
#pragma once

#include <sys/uio.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "proto/frame.h"
#include "wire/stream.h"

/* Where further connections come from. */
struct channel_more {
	/* Number *n; 0: any that is free, which is returned. Streams that the channel has left are
	 * closed by it; those it has at the end are for their maker to close. */
	struct err *(*open)(void *arg, unsigned *n, struct deadline d, struct stream **ret);
	void *arg;  /* open NULL: there are none */
	bool dials; /* only this side can have one when it wants to */
};

struct channel {
	struct stream *in, *out; /* not owned; NULL: no peer */
	int interrupt_fd;        /* readable: stop waiting; -1 for none */
	struct deadline deadline;
	int64_t wait_us;       /* channel_wait; 0: the deadline stays as it is */
	struct deadline until; /* likewise */
	size_t stepped;        /* bytes since the deadline was set anew */
	/* CHANNEL_STEP_BYTES have moved, maybe in the middle of a frame. NULL: nobody cares. */
	void (*on_step)(void *arg);
	void *step_arg;
	uint8_t head[FRAME_HEAD_BYTES]; /* the next one, as far as it has come */
	size_t head_n;
	size_t lent; /* given back before anything more is read */
	struct channel_more more;
	struct stream *first; /* both ways until one of them goes on; never closed here */
	struct stream *left_in, *left_out; /* left last; closed when the next one is left */
	bool no_more;                      /* there was none when it would have suited */
	bool hurried; /* somebody stands still: no other connection before it must be */
	/* What went by; the last two: how much of it was copied by us and how much was spliced. */
	uint64_t bytes_in, bytes_out;
	uint64_t spliced_in, spliced_out;
};

void channel_init(struct channel *ch, struct stream *s, int interrupt_fd);
/* From now on waits end when nothing has moved for `us`, and at `until` whatever moves. "Nothing"
 * is less than CHANNEL_STEP_BYTES and no ALIVE frame: who trickles does not move. */
void channel_wait(struct channel *ch, int64_t us, struct deadline until);
/* From now on waits end at `d`, whatever moves. */
void channel_until(struct channel *ch, struct deadline d);
#define CHANNEL_STEP_BYTES (64u << 10)
/* How long one more connection may take. */
#define CHANNEL_MORE_US 10000000
/* A whole frame: header and body pieces in one go. */
struct err *channel_send(
	struct channel *ch, uint16_t type, uint64_t arg, const void *body, size_t len) must_check;
struct err *channel_sendv(
	struct channel *ch, uint16_t type, uint64_t arg, const struct iovec *iov, int n) must_check;
/* A body whose end, `piped` bytes, lies in a pipe already: goes by reference. Only where
 * channel_splices_out. */
struct frame_body {
	const struct iovec *iov;
	int n;
	int pipe_fd;
	size_t piped;
};
struct err *channel_send_body(
	struct channel *ch, uint16_t type, uint64_t arg, const struct frame_body *body) must_check;
bool channel_splices_out(const struct channel *ch);

/* Where the stream has room of its own for frames in the making (channel_makes): FRAME_HEAD_BYTES
 * and n more in one piece at *at; then a frame whose body begins there at `body`, at least
 * FRAME_HEAD_BYTES behind *at, goes out from where it lies. */
struct err *channel_make(struct channel *ch, size_t n, uint8_t **at) must_check;
struct err *channel_send_made(
	struct channel *ch, const struct frame_head *h, uint8_t *body) must_check;
bool channel_makes(const struct channel *ch);

/* The next header, behind those that only say that the peer lives. The body must be read with the
 * calls below (exactly h->length bytes in all). */
struct err *channel_head(struct channel *ch, struct frame_head *h) must_check;
struct err *channel_read(struct channel *ch, void *buf, size_t n) must_check;
/* n bytes (CHANNEL_BORROW_MAX at most) where they lie, or, where the stream has no such place, read
 * into buf. They stay until the next call. The relay may still write there: nothing that is checked
 * may be read from it twice. */
#define CHANNEL_BORROW_MAX (256u << 10)
struct err *channel_borrow(struct channel *ch, void *buf, size_t n, const uint8_t **at) must_check;
/* Up to n bytes into a pipe that can be written (pipe_fd is open for that and does not block), with
 * room as SPLICE_IN_PIECES says. *got is 0 where it is full nevertheless: some carriers give a few
 * bytes at a time, and a pipe holds so many pieces, however small. Only where channel_splices_in.
 */
struct err *channel_splice(struct channel *ch, int pipe_fd, size_t n, size_t *got) must_check;
bool channel_splices_in(const struct channel *ch);
/* Header and body at once; the body into the arena. */
struct err *channel_recv(
	struct channel *ch, struct arena *a, struct frame_head *h, uint8_t **body) must_check;
/* CANCELLED if the interrupt came: waits notice it by themselves, work in between asks. */
struct err *channel_interrupted(const struct channel *ch) must_check;
/* True if a read would not block. */
bool channel_readable(const struct channel *ch);
/* True if the peer has something to say (which may be its end) that is more than ALIVE:
 * channel_head has it then. Does not wait. */
bool channel_news(struct channel *ch);
