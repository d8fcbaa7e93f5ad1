/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from one process to another through memory that both have mapped: no system call and no
 * copy but the ones that make and take the bytes. One writer, one reader.
 *
 * The data is mapped twice in a row, so that what lies in the ring is always one piece. Whoever
 * makes the ring seals its size, so that the other cannot take memory away under it. Each side
 * keeps its own position to itself and checks the other's: all that a hostile other side can do is
 * to change bytes that have not been taken yet.
 *
 * Who finds too little to do says in shared memory how much it waits for before it sleeps, and the
 * other one wakes it, by a way of their own (a byte on a socket), when there is that much. The two
 * together must not wait for more than the ring holds.
 */
#pragma once

#include <stdatomic.h>

#include "base/err.h"

struct ring_shared {
	_Atomic uint64_t written, read;
	/* Bytes, or room, that a sleeper waits for; 0: nobody sleeps. */
	_Atomic uint64_t reader_sleeps, writer_sleeps;
	/* What the reader has to say of its way on: an enum stream_wear. */
	_Atomic uint64_t wear;
};

struct ring {
	struct ring_shared *shared; /* NULL: none */
	uint8_t *data;
	size_t bytes;
	uint64_t at; /* our own position */
};

/* A sealed memory file for a ring; bytes: a power of two, at least a page. */
struct err *ring_make(size_t bytes, int *fd) must_check;
/* Maps it; fd stays the caller's. PEER when it is no such file: its size could change. */
struct err *ring_map(int fd, struct ring *ret) must_check;
void ring_unmap(struct ring *r);

/* What can be read, in one piece at *at; -EPROTO when the other side's position is absurd. */
ssize_t ring_readable(const struct ring *r, const uint8_t **at);
/* What can be written, likewise. */
ssize_t ring_writable(const struct ring *r, uint8_t **at);
/* Moves on by n; true if the other side sleeps and must be woken. */
bool ring_read(struct ring *r, size_t n);
bool ring_written(struct ring *r, size_t n);
/* Before sleeping: true if there are still less than n bytes to read (free to write). */
bool ring_reader_sleeps(struct ring *r, size_t n);
bool ring_writer_sleeps(struct ring *r, size_t n);
