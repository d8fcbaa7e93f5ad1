/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page sinks of the destination: one for each process that is built. That of the main process is as
 * fast as can be, and page streams lead into it; the others are small, and there may be thousands:
 * what goes there is copied, and needs one descriptor of ours each.
 */
#pragma once

#include "engine/rebuild.h"
#include "pages/pages.h"

struct sinks {
	struct site *site;
	uint64_t round_bytes_max; /* see page_sink_spec */
	enum page_sink_way way;   /* of the main one */
	pid_t main;
	struct sink {
		pid_t pid;
		struct page_sink *sink;
	} * v;
	size_t n, cap;
	struct page_sink *active; /* the one that had the last frame; NULL: all stand still */
	uint64_t copied;          /* by those that are closed */
};

/* The main one; NULL: it is not open. */
struct page_sink *sinks_main(const struct sinks *s);
struct err *sinks_open_main(struct sinks *s, pid_t main, enum page_sink_way way) must_check;
/* The layout of this process is another one; opens its sink if there is none. */
struct err *sinks_layout(struct sinks *s, pid_t pid) must_check;
/* Processes have gone, and others may have come in their places. */
void sinks_forget(struct sinks *s, pid_t pid);
/* One PAGES frame, to where it belongs. */
struct err *sinks_frame(
	struct sinks *s, const struct frame_head *head, struct channel *ch) must_check;
/* All pages are in place, and all tasks stand still. */
struct err *sinks_settle(struct sinks *s) must_check;
void sinks_round(struct sinks *s);
uint64_t sinks_copied(const struct sinks *s);
/* No more frames. */
struct err *sinks_leave(struct sinks *s) must_check;
void sinks_close(struct sinks *s);
