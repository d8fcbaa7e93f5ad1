/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the source has changed in the process and must change back should it stay: what kinds yield
 * (file locks), and what must go should it not. It is written down before it happens
 * (engine_io.on_undo), as objects, and if the worker dies, somebody else takes it back in the held
 * process before that runs again.
 */
#pragma once

#include "engine/capture.h"
#include "kernel/freezer.h"

/* Hands the list to io->on_undo; *any: it is not empty. */
struct err *undo_note(const struct engine_io *io, const struct snapshot *s, bool *any) must_check;

struct undo_spec {
	pid_t pid;
	uint64_t start_time;
	/* That holds it frozen: thawed for single calls, while ptrace holds it. "": none; it may
	 * have been stopped. */
	const char *group;
	const uint8_t *list;
	size_t len;
	/* All of it is taken back, and the process still stands: the list is to be forgotten. */
	void (*on_undone)(void *arg);
	void *arg;
};
/* Takes back everything in the list; can be repeated until it has called on_undone. Afterwards
 * the process stands in its group, also on error; without one it runs. What cannot be taken back
 * is warned of in *notes. */
struct err *engine_undo(const struct undo_spec *spec, struct notes *notes) must_check;
/* It was moved, and the original is ended: what must not stay here without it goes (System V
 * objects). Only pid, list and len count. */
struct err *engine_undo_moved(const struct undo_spec *spec, struct notes *notes) must_check;
