/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's half: objects that arrived become kernel objects of the seedling. Objects are
 * built as they come (rehearsal); those that change in the frozen stretch are built again, with
 * whatever shares a group or refers to them.
 */
#pragma once

#include "engine/engine.h"
#include "engine/objects.h"
#include "kinds/memory.h"

struct site;

struct site_spec {
	pid_t pid;
	const int32_t *tids; /* all of them, the leader too */
	size_t n_tids;
	int fd_max; /* highest descriptor number of the target */
	int64_t monotonic_offset_ns, boottime_offset_ns;
	const char *cgroup_dir;  /* where its group is made; NULL: none */
	const char *scratch_dir; /* empty directory; site_free removes what kinds left there */
	int interrupt_fd;        /* readable: no longer wanted (CANCELLED); -1: none */
	struct notes *notes;     /* borrowed */
	/* Called between two objects: somebody waits for all of them. */
	void (*alive)(void *arg);
	/* One that is there will end, as it is in the tree no more. NULL: nobody cares. */
	void (*leaving)(void *arg, pid_t pid);
	/* Whether a connection is locked here; NULL: none is. */
	bool (*locked)(void *arg, const struct net_pair *pair);
	void *arg;
};

/* Nothing is made yet. */
struct site *site_new(const struct site_spec *spec);
/* Removes everything that was made; the seedling dies unless it was let go. */
void site_free(struct site *s);

/* Takes a TREE body: the tree that will be made; who is not in it any more ends. */
struct err *site_tree(struct site *s, const uint8_t *body, size_t len) must_check;
/* Who is new in it is made, once site_build has made the others. */
struct err *site_grow(struct site *s) must_check;
struct process_list;
/* As it was told last. */
const struct process_list *site_processes(const struct site *s);
/* Takes an OBJECTS body. Before site_build the objects are only kept; afterwards built. */
struct err *site_objects(struct site *s, const uint8_t *body, size_t len) must_check;
/* Takes a LAYOUT body of one process (0: the root), likewise. */
struct err *site_layout(struct site *s, pid_t pid, const uint8_t *body, size_t len) must_check;
/* Can this host have all that was announced? Blockers go to the notes. */
struct err *site_check(struct site *s) must_check;
/* Makes the seedling, its memory layout and every object that is known so far. */
struct err *site_build(struct site *s) must_check;
/* The root that is being built; NULL before site_build. */
struct task *site_task(const struct site *s);
/* One of the others; NULL if it is not there. */
struct task *site_task_of(const struct site *s, pid_t pid);
/* All of them are alive. */
struct err *site_alive(const struct site *s) must_check;
/* NULL before the first LAYOUT of that process. */
const struct vma_list *site_vmas(const struct site *s, pid_t pid);
/* For the page sink. */
int site_space_fd(void *site, uint64_t space);
/* What it takes now: pages of its own, and of shared memory objects, mapped or not. */
struct err *site_memory(const struct site *s, uint64_t *bytes) must_check;
/* A round has ended: what layout_settle can do before the freeze. */
struct err *site_settle(struct site *s) must_check;
/* Frozen, all pages in place: the last state of everything, registers last. The task then needs
 * nothing of ours any more. elapsed_ns: since the source's last thread stopped. */
struct err *site_finish(struct site *s, int64_t elapsed_ns) must_check;
/* Freezes the tree in its own group and takes our hands off it, so that nothing but site_start
 * makes it run. */
struct err *site_hold(struct site *s) must_check;
/* It runs. After this site_free does not touch it. */
struct err *site_start(struct site *s) must_check;
/* What others may see only now. Failures become warnings. */
void site_publish(struct site *s);
size_t site_objects_count(const struct site *s);
