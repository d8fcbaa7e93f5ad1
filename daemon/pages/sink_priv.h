/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the sink share. */
#pragma once

#include <pthread.h>

#include "kernel/pagebits.h"
#include "pages/pages.h"

/* How pages get into a mapping. */
enum place {
	PLACE_NONE,  /* the kernel's own block, or shared: no page of a peer belongs there */
	PLACE_COPY,  /* registered: UFFDIO_COPY where nothing is yet */
	PLACE_WRITE, /* written */
};

struct sink_vma {
	uint64_t start, end;
	enum place place;
	bool forced; /* not writable: to be written by /proc/PID/mem, else by process_vm_writev */
	bool file; /* reads as a file where nothing was put */
	bool huge; /* MADV_HUGEPAGE */
};

/* What one thread places pages with. */
struct placer {
	struct page_sink *s;
	struct placer_remote remote;
	struct call *drops; /* REMOTE_CALLS_MAX: madvise calls that wait for company */
	size_t n_drops;
	uint8_t *table, *data;
};

struct page_sink {
	struct task *t;
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
};

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
