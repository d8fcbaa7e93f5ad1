/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a round has to send, and how it goes out: drops first, over the control stream; then pages,
 * over that one too or, where they are many, over the page streams (lanes.h).
 */
#pragma once

#include <pthread.h>

#include "kernel/dirty.h"
#include "pages/pages.h"

struct source;
struct source_member;

struct vma_work {
	const struct vma *vma;
	/* Once looked at: no page is in two runs. */
	struct page_runs runs;
	bool fresh;
};

/* Of one process; that of the main one has what all of them share, too. */
struct outgoing {
	struct source_member *of;
	struct vma_work *work;
	size_t n_work;
	struct shared_part *parts; /* their descriptors are borrowed */
	size_t n_parts, cap_parts;
	uint64_t bytes; /* of all pages that are there */
	/* How far it is: under the lock, threads take pieces. */
	pthread_mutex_t lock;
	size_t vma, run, part;
	uint64_t page, offset;
	uint64_t sent_bytes, copied_bytes;
};

/* Room for n_work VMAs. */
void outgoing_init(struct outgoing *o, struct source_member *of, size_t n_work);
void outgoing_fini(struct outgoing *o);
/* A page that is in two of the runs is what the later one says: afterwards it is in one alone. */
void outgoing_untangle(struct page_runs *runs);
/* Pages of a VMA, once they are known. */
void outgoing_add(struct outgoing *o, const struct vma_work *w);
/* A range of a shared memory object, in ascending order for each object. Up to `gap` bytes between
 * it and the one before may travel with it. */
void outgoing_add_part(struct outgoing *o, const struct shared_part *part);

/* So much, not among what was added, has gone over the control stream: it counts, and time and
 * bandwidth are as for the rest. */
struct err *outgoing_sent(
	struct source *s, struct outgoing *o, uint64_t bytes, uint64_t copied) must_check;

struct piece_out {
	struct page_runs runs;
	struct shared_part part; /* bytes 0: runs */
};
/* Up to `bytes` of what is left; false: nothing. The runs are the caller's to free. */
bool outgoing_next(struct outgoing *o, uint64_t bytes, struct piece_out *ret);

/* The engine's thread sends all of it. */
struct err *outgoing_send_drops(struct source *s, struct outgoing *o) must_check;
struct err *outgoing_send(struct source *s, struct outgoing *o) must_check;
