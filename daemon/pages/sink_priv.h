/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the sink share. */
#pragma once

#include <pthread.h>
#include <sys/uio.h>

#include "kernel/pagebits.h"
#include "kernel/remote.h"
#include "pages/pages.h"

/* How pages get into a mapping. */
enum place {
	PLACE_NONE,  /* the kernel's own block, or shared: no page of a peer belongs there */
	PLACE_COPY,  /* registered: UFFDIO_COPY where nothing is yet */
	PLACE_WRITE, /* written */
	PLACE_SELF,  /* the process reads it out of a pipe */
};

struct sink_vma {
	uint64_t start, end;
	enum place place;
	bool forced; /* not writable: to be written by /proc/PID/mem, else by process_vm_writev */
	bool file;   /* reads as a file where nothing was put */
	bool huge;   /* MADV_HUGEPAGE */
};

/* One readv: a page of scratch memory full. No frame has more pieces. */
#define PIECES_MAX (REMOTE_SCRATCH_BYTES / sizeof(struct iovec))
_Static_assert(PIECES_MAX *PAGE_BYTES >= PAGES_FRAME_BYTES, "a frame in one readv");

/* A pipe, and where the bytes that are in it go, in order. */
struct sink_pipe {
	int fd;        /* both ends of it */
	unsigned lent; /* which, of what the task has of ours */
	size_t pieces; /* that it holds */
	size_t used;   /* of them, at most */
	size_t filled; /* bytes in it */
	struct iovec v[PIECES_MAX];
	size_t n;
	bool huge; /* they lie in mappings that ask for huge pages */
};

/* What the process reads itself, for one thread. That which traces fills one pipe while the process
 * reads from another; the others have one, and meanwhile there are others. */
#define OWN_PIPES 2
struct splicing {
	struct sink_pipe pipe[OWN_PIPES];
	unsigned pipes;            /* 0: this thread copies */
	unsigned now;              /* the one to be filled next */
	struct sink_pipe *reading; /* what the process reads from now; NULL: it stands still */
	struct call calls[4];      /* by which it does */
	/* Announced, and still in the stream. */
	struct iovec v[PIECES_MAX];
	size_t n;
	size_t wanted; /* bytes */
	bool huge;
	size_t streak; /* pages that went through our memory in a row */
};

/* What a frame's runs lead to: the address space, or a shared memory object of this size. */
struct target {
	bool private;
	uint64_t space;
	int fd;
	uint64_t bytes;
};

/* What one thread places pages with. */
struct placer {
	struct page_sink *s;
	struct placer_remote remote;
	struct call *drops; /* REMOTE_CALLS_MAX: madvise calls that wait for company */
	size_t n_drops;
	uint8_t *table, *data; /* data: PIECE_BYTES */
	struct splicing splice;
};
/* So much is placed at a time: it is in the cache still, and what follows is decrypted meanwhile.
 */
#define PIECE_BYTES (256u << 10)

struct page_sink {
	struct task *t;
	uint64_t space;
	space_fd_fn space_fd;
	void *arg;
	int uffd; /* -1: this kernel gives none */
	struct sink_vma *vmas;
	size_t n_vmas;
	/* Where the sink has put something (and not dropped it since). A bit too many is harmless,
	 * one too few is not: such a page would survive a drop. */
	struct pagebits put;
	pthread_mutex_t lock; /* `put`, and the growth of shared memory objects */
	struct placer own;    /* of the thread that traces */
	bool splices;
	unsigned n_lent; /* pipes that the task has an end of */
	_Atomic uint64_t copied;
	uint64_t round_bytes_max; /* see page_sink_spec */
	_Atomic uint64_t round_bytes;
};

/* Has it done by the thread that traces. */
struct err *placer_run(
	const struct placer *p, struct err *(*fn)(void *what), void *what) must_check;

/* ---- sink_splice.c ---- */

/* So many pipes, with one end of each in the task. By the thread that traces. */
struct err *splice_open(struct placer *p, unsigned pipes) must_check;
void splice_close(struct placer *p);
/* A run of data for v, whose place is PLACE_SELF, is next in the stream. */
struct err *splice_add(
	struct placer *p, const struct sink_vma *v, struct range r, struct channel *ch) must_check;
/* True if something of r has been announced and is still in the stream. */
bool splice_waits(const struct placer *p, struct range r);
/* Nothing of what was announced is in the stream any more; the process may still be reading. */
struct err *splice_flush(struct placer *p, struct channel *ch) must_check;
/* It has read all that was flushed, and stands still. Before any other remote call. */
struct err *splice_settle(struct placer *p) must_check;
/* The next bytes of the stream to this place in a file; what lies behind its end is not kept. */
struct err *splice_to_file(
	struct placer *p, struct channel *ch, const struct target *to, struct range r) must_check;

/* ---- sink_put.c ---- */

/* The sink has put something there, or has dropped it. */
void sink_is_put(struct page_sink *s, struct range r, bool there);
/* Waiting calls that would undo what is put into r are made. */
struct err *sink_settle_drops(struct placer *p, struct range r) must_check;
/* Before the pieces of a run are put: huge pages, where they are wanted. */
struct err *sink_prepare(struct placer *p, const struct sink_vma *v, struct range r) must_check;
/* Private memory; the run lies within v. `data` may be clobbered. */
struct err *sink_put(
	struct placer *p, const struct sink_vma *v, struct range r, const uint8_t *data) must_check;
/* Zeros (content) or what a fresh mapping has (!zero). */
struct err *sink_drop(
	struct placer *p, const struct sink_vma *v, struct range r, bool zero) must_check;
/* Makes the waiting madvise calls. */
struct err *sink_flush_drops(struct placer *p) must_check;
