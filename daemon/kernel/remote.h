/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls by remote control in a held task: the same for a target that is captured and for a
 * process that is being built. Calls go in batches through the agent; injection is self-returning
 * (our death at any moment lets a target's thread finish its batch and go on where it was).
 *
 * In a target nothing is mapped: the agent's code lies in the zero padding behind the vdso, frame,
 * batch and scratch bytes in the dead low end of the main stack; all are put back by
 * task_let_go(), or before by remote_put_back(). In a seedling they lie in an area of our own.
 *
 * Cost (Linux 6.18, quiet machine): a batch about 15 us, a call in it 0.1 to 0.2 us more.
 */
#pragma once

#include "kernel/filters.h"
#include "kernel/task.h"

/* An address inside the task; a type of its own, so that it is never dereferenced here. */
typedef struct {
	uint64_t v;
} raddr;

/* Calls per batch, and bytes of data that calls can point to. */
#define REMOTE_CALLS_MAX     32
#define REMOTE_SCRATCH_BYTES 4096

/* Makes the calls one after the other in this thread; each result is in calls[i].ret (negative
 * errno as the kernel returns it). Any n: longer lists are cut into batches. The error is about
 * the mechanism, not about a call's result; a call that blocks for 15 s is TIMEOUT. */
struct err *remote_run(struct task *t, struct thread *th, struct call *calls, size_t n) must_check;
/* As remote_run, for one batch, and behind the first call fn is called, with its result in
 * calls[0].ret; it may change the others, which are made whatever it returns. Should we die in
 * between they are made too, as they were: what the first one has made they can undo. */
struct remote_between {
	struct err *(*fn)(void *arg, struct call *calls);
	void *arg;
};
struct err *remote_run_around(struct task *t, struct thread *th, struct call *calls, size_t n,
	const struct remote_between *between) must_check;
/* One call; a negative result is an error that says `what`. ret may be NULL. */
struct err *remote_call(struct task *t, struct thread *th, const struct call *c, const char *what,
	int64_t *ret) must_check;
#define REMOTE(t, th, ret, what, number, ...) \
	remote_call((t), (th), &(struct call){ .nr = (number), .args = { __VA_ARGS__ } }, (what), \
		(ret))

/* The same, without waiting for the end of it: up to REMOTE_CALLS_MAX calls, whose results come
 * with remote_collect. Until then nothing else can be asked of the task, and scratch memory that
 * the calls refer to must stay as it is. */
struct err *remote_start(
	struct task *t, struct thread *th, const struct call *calls, size_t n) must_check;
struct err *remote_collect(struct task *t, struct call *calls, size_t n) must_check;

/* Scratch memory in the task, REMOTE_SCRATCH_BYTES of it, 16-byte aligned. Its contents last until
 * the next remote_put at the same place; the caller lays it out. */
raddr remote_scratch(const struct task *t);
struct err *remote_put(struct task *t, size_t offset, const void *buf, size_t n) must_check;
struct err *remote_get(struct task *t, size_t offset, void *buf, size_t n) must_check;

/* Source: puts the target's bytes back before its memory is read for the last time. The next remote
 * call places the agent anew. task_let_go does it too. */
struct err *remote_put_back(struct task *t) must_check;

/* Source: the seccomp filters of a held thread; valid until it is let go. */
struct err *remote_filters(struct thread *th, const struct seccomp_filters **ret) must_check;
/* UNSUPPORTED if one of them would end the thread for a call that is made in every thread. */
struct err *remote_judge_usual(struct thread *th) must_check;

/* Descriptors. Home: a copy of the task's descriptor in our process (pidfd_getfd). */
struct err *remote_fd_home(struct task *t, int number, int *fd) must_check;

/* ---- the destination's side ---- */

struct seedling_spec {
	pid_t pid;
	int64_t monotonic_offset_ns; /* CLOCK_MONOTONIC of the new process minus ours */
	int64_t boottime_offset_ns;
	const char *cgroup_dir; /* v2 directory to put it in before it runs, or NULL */
};
/* Makes a process with this pid, a session of its own, a time namespace with these offsets, no
 * open descriptors, nothing of the daemon in its memory; a child of the host's init (or nearest
 * subreaper). It comes held, dies with our process until seedling_release, and its batches lie in
 * a mapped area. LIMIT if the pid is taken (the error says by whom). */
struct err *seedling_make(const struct seedling_spec *spec, struct task **ret) must_check;
/* Makes a child of a seedling, whose end is told by SIGCHLD, as that of all programs that were
 * executed: as seedling_make, with the maker's control group, time namespace,
 * session, process group and resource limits; its descriptors are its own, and none. */
struct seedling_child_spec {
	pid_t pid;
	bool session; /* it leads a session of its own */
	bool sibling; /* a child of its maker's parent (CLONE_PARENT) */
};
struct err *seedling_child(
	struct task *maker, const struct seedling_child_spec *spec, struct task **ret) must_check;
/* Ends a child of a seedling and lets the parent wait for it, without a trace. Frees t. */
struct err *seedling_drop(struct task *parent, struct task *t) must_check;
/* Ends it in the way that `status` (of wait(2)) says; it stays a zombie of its parent, to which no
 * signal of it is pending. Frees t. */
struct err *seedling_end(struct task *parent, struct task *t, int status) must_check;
/* Stops all of it as job control does, which goes on when it is let go. `sig`: by which signal;
 * SIGSTOP where its process group is orphaned here. The parent, a seedling as well or NULL, has no
 * signal of it; it has waited for it already if `waited`. */
struct err *seedling_stop(struct task *t, int sig, struct task *parent, bool waited) must_check;
/* Moves the agent's area (SEEDLING_AREA_BYTES) to `at`, a hole in the final address space; best
 * after seedling_clear, when nothing else is in the way. LIMIT if something is. Scratch bytes are
 * not carried over, and remote_scratch() changes. */
struct err *seedling_move_area(struct task *t, uint64_t at) must_check;
#define SEEDLING_AREA_BYTES (256u << 10)
/* Unmaps all that the seedling started with except vdso and vvar, which go to these addresses.
 * MISMATCH if the blocks' sizes differ. */
struct seedling_vdso {
	uint64_t vdso, vvar, vvar_vclock; /* start addresses; 0: the source has none */
	uint64_t vdso_len, vvar_len, vvar_vclock_len;
};
struct err *seedling_clear(struct task *t, const struct seedling_vdso *want) must_check;
/* A new thread in the seedling with this tid, stopped. */
struct err *seedling_thread(struct task *t, pid_t tid, struct thread **ret) must_check;
/* Ends one thread that was made by seedling_thread. */
struct err *seedling_thread_end(struct task *t, pid_t tid) must_check;
/* Hands descriptors over: fds[i] of ours becomes numbers[i] there (close-on-exec as cloexec[i]),
 * replacing what is there. numbers ascending. Ours stay open. */
struct err *seedling_install(struct task *t, const int *fds, const int *numbers,
	const bool *cloexec, size_t n) must_check;
/* Closes what the process has under these numbers, if anything. */
struct err *seedling_close(struct task *t, const int *numbers, size_t n) must_check;
/* The highest descriptor number the target uses: the seedling's own socket stays out of its way
 * and is closed by seedling_seal. */
struct err *seedling_reserve(struct task *t, int above) must_check;
/* Descriptors for calls that we make in the seedling: out of the target's way as the socket is, so
 * their numbers may change with each seedling_install or seedling_reserve. `which` is below
 * SEEDLING_LENT_MAX; ours stays open. seedling_seal takes them back, should nobody have done so
 * before. */
#define SEEDLING_LENT_MAX 10
struct err *seedling_lend(struct task *t, unsigned which, int fd) must_check;
int seedling_lent(const struct task *t, unsigned which); /* its number now; -1: none */
struct err *seedling_take_back(struct task *t) must_check;
/* Its threads' seccomp filters, also those that they get later, are suspended until it is let go.
 * An error where the kernel or the daemon's own rights do not allow that. */
struct err *seedling_suspend_filters(struct task *t) must_check;
/* One more filter for this thread; `all`: for all threads of the process, which share it then. The
 * filters are suspended already. */
struct err *seedling_filter(struct task *t, struct thread *th, const struct seccomp_filter *f,
	bool all) must_check;
/* Last step before the registers: closes our socket in it and unmaps the agent's area. After it no
 * batch can run; remote calls are made one by one with the vdso's own instruction. */
struct err *seedling_seal(struct task *t) must_check;
/* Takes the death-with-us off (PTRACE_O_EXITKILL). After this our death leaves it as it is. */
struct err *seedling_release(struct task *t) must_check;
