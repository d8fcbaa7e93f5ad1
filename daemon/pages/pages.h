/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk memory: from the source task into PAGES frames, and from PAGES frames into the task that is
 * being built. Nothing is staged: a frame's pages go to their final place.
 */
#pragma once

#include "kernel/dirty.h"
#include "kernel/remote.h"
#include "pages/space.h"
#include "proto/frame.h"
#include "wire/channel.h"

/* Data of one frame at most; also the copy buffer of each side. */
#define PAGES_FRAME_BYTES (1u << 20)
#define PAGES_RUNS_MAX    4096
/* No shared memory object is larger: more than an address space holds. */
#define SPACE_BYTES_MAX (1ULL << 47)

struct pages_stats {
	uint64_t pages_data, pages_zero, runs_dropped, bytes_wire;
	uint64_t pages_copied; /* of pages_data: went through memory of ours */
};

/* What a source has taken for itself. */
struct source_facts {
	int64_t stop_us;     /* how long the target was stopped for it */
	unsigned fds;        /* descriptors of ours */
	uint64_t pipe_bytes; /* of all its pipes */
};

/* ---- source ---- */
/* A range of a shared memory object; read through fd, one of our own: its position moves. */
struct shared_part {
	uint64_t space;
	int fd;
	uint64_t offset, bytes;
};

struct page_source;
struct page_source_ops {
	const char *name;
	/* Not held. May stop the task for a moment (facts). `space`: as its memory is called. */
	struct err *(*open)(struct task *t, uint64_t space, struct page_source **ret);
	/* Sends these runs of that space. Pages that vanish meanwhile (unmapped while the target
	 * runs) are left out: the next round knows. Zero pages are sent as runs without bytes. */
	struct err *(*send)(struct page_source *s, const struct page_runs *runs, struct channel *ch,
		struct pages_stats *st);
	/* Sends a range of a shared memory object. Holes travel as drops. */
	struct err *(*send_shared)(struct page_source *s, const struct shared_part *part,
		struct channel *ch, struct pages_stats *st);
	/* Another one of the same process: such ones send at the same time, each in a thread of its
	 * own. The first rests meanwhile, is the one that leaves, and is closed last. */
	struct err *(*another)(struct page_source *first, struct page_source **ret);
	/* The last page is sent: nothing of the source stays in the process. NULL: never was. */
	struct err *(*leave)(struct page_source *s);
	/* NULL: nothing. */
	void (*facts)(const struct page_source *s, struct source_facts *ret);
	void (*close)(struct page_source *s);
};
/* process_vm_readv: one copy. */
extern const struct page_source_ops source_copy;
/* By reference, through a thread of ours in the process (kernel/pump.h); only where
 * channel_splices_out. Zero pages by content are not seen. What the process cannot read itself goes
 * by source_copy. The error of open says why it cannot be: source_copy always can. */
extern const struct page_source_ops source_pump;

/* Tells the peer to drop [offset, offset + bytes) of a space. */
struct err *pages_send_drop(struct channel *ch, uint64_t space, uint64_t offset, uint64_t bytes,
	struct pages_stats *st) must_check;

/* Sends these bytes of ours as pages of a space; they may be clobbered. */
#define PAGES_DATA_MAX 16
struct err *pages_send_data(struct channel *ch, uint64_t space, const struct range *where,
	uint8_t *data, struct pages_stats *st) must_check;

/* ---- destination ---- */
/* Where the receiver finds the descriptor of a shared memory object; -1 if unknown. */
typedef int (*space_fd_fn)(void *arg, uint64_t space);

/*
 * How pages get into the process that is built. Zero and dropped runs, and what is checked, are the
 * same.
 *
 * copy: through memory of ours. Chosen per mapping: UFFDIO_COPY for new pages of private anonymous
 * memory, process_vm_writev for pages that are there already and for private file mappings, or
 * /proc/PID/mem for memory that is not writable.
 *
 * splice: pipes, into which the stream's bytes go by reference, and which the process itself reads
 * into its memory (by remote calls). Only where channel_splices_in. Memory that the process cannot
 * write goes as with copy.
 */
enum page_sink_way { SINK_COPY, SINK_SPLICE, SINK_WAYS };
extern const char *const page_sink_names[SINK_WAYS]; /* "copy", "splice" */

struct page_sink_spec {
	struct task *t; /* the seedling, held */
	space_fd_fn space_fd;
	void *arg;
	enum page_sink_way way;
	uint64_t round_bytes_max; /* of contents between two page_sink_round; 0: any */
	uint64_t space;           /* as the task's memory is called */
};

struct page_sink;
/* The error says why it cannot be this way; copy always can, but for a process that is gone. */
struct err *page_sink_open(const struct page_sink_spec *spec, struct page_sink **ret) must_check;
/* The layout of the task changed: must be called before pages of new VMAs arrive, and while no
 * other thread places any. */
struct err *page_sink_layout(struct page_sink *s, const struct vma_list *maps) must_check;
/* One PAGES frame: header and run table are checked against the layout (an address outside is
 * PEER), then the payload goes from the channel straight into place. The process may still be
 * reading the last of it when this returns: before anything but the next frame, page_sink_settle.
 */
struct err *page_sink_frame(
	struct page_sink *s, const struct frame_head *head, struct channel *ch) must_check;
/* A round is over: no page goes twice in one, so what comes in the next is counted anew. */
void page_sink_round(struct page_sink *s);
/* All pages are in place, and the task stands still again. */
struct err *page_sink_settle(struct page_sink *s) must_check;
/* Bytes of pages that went through memory of ours. */
uint64_t page_sink_copied(const struct page_sink *s);
/* No more frames: nothing of the sink stays in the task. */
struct err *page_sink_leave(struct page_sink *s) must_check;
/* Takes every registration off the task too; without page_sink_leave before, what the sink has in
 * the task stays there. */
void page_sink_close(struct page_sink *s);

/* Places frames as the sink does, in another thread, at the same time as others of the same sink:
 * as long as no page is in frames of two of them, and page_sink_settle was before. With a pipe of
 * its own; where it gets none, or a channel cannot be spliced from, it copies. It is closed before
 * the sink. All is in place when placer_frame returns. */
struct placer;
/* A thread that does not trace has things done in the task by one that does. */
struct placer_remote {
	struct err *(*run)(void *arg, struct err *(*fn)(void *what), void *what);
	void *arg;
};
/* By the thread that traces. */
struct placer *placer_open(struct page_sink *s, const struct placer_remote *remote) must_check;
struct err *placer_frame(
	struct placer *p, const struct frame_head *head, struct channel *ch) must_check;
void placer_close(struct placer *p);
