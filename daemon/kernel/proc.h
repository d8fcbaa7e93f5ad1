/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID text into structs. Everything here is a snapshot of a process that may be running;
 * a process that ended is GONE. Parsers take text, so that they can be tested and fuzzed without
 * a process; a line that cannot be parsed is an error, never skipped.
 */
#pragma once

#include <sys/stat.h>

#include "base/arena.h"
#include "base/err.h"
#include "kernel/pids.h"

/* VmFlags of smaps that we know; an unknown two-letter word sets VMF_UNKNOWN and is kept in
 * vma.unknown_flags so that it can be refused by name. See Documentation/filesystems/proc.rst. */
enum vma_flag {
	VMF_READ = 1 << 0,
	/* rd */ VMF_WRITE = 1 << 1, /* wr */
	VMF_EXEC = 1 << 2,
	/* ex */ VMF_SHARED = 1 << 3, /* sh */
	VMF_GROWSDOWN = 1 << 4,
	/* gd */ VMF_PFNMAP = 1 << 5, /* pf */
	VMF_LOCKED = 1 << 6,
	/* lo */ VMF_IO = 1 << 7, /* io */
	VMF_SEQ_READ = 1 << 8,
	/* sr */ VMF_RAND_READ = 1 << 9, /* rr */
	VMF_DONTFORK = 1 << 10,
	/* dc */ VMF_DONTEXPAND = 1 << 11, /* de */
	VMF_ACCOUNT = 1 << 12,
	/* ac */ VMF_NORESERVE = 1 << 13, /* nr */
	VMF_HUGETLB = 1 << 14,
	/* ht */ VMF_SYNC = 1 << 15, /* sf */
	VMF_WIPEONFORK = 1 << 16,
	/* wf */ VMF_DONTDUMP = 1 << 17, /* dd */
	VMF_SOFTDIRTY = 1 << 18,
	/* sd */ VMF_MIXEDMAP = 1 << 19, /* mm */
	VMF_HUGEPAGE = 1 << 20,
	/* hg */ VMF_NOHUGEPAGE = 1 << 21, /* nh */
	VMF_MERGEABLE = 1 << 22,
	/* mg */ VMF_UFFD_MISSING = 1 << 23, /* um */
	VMF_UFFD_WP = 1 << 24,
	/* uw */ VMF_SHADOW_STACK = 1 << 25, /* ss */
	VMF_SEALED = 1 << 26,
	/* sl */ VMF_LOCKONFAULT = 1 << 27, /* lf */
	VMF_DROPPABLE = 1 << 28,
	/* dp */ VMF_UFFD_MINOR = 1 << 29, /* ui */
	VMF_GUARD = 1 << 30,               /* gu */
};
#define VMF_MAYWRITE (1ULL << 32) /* mw: a shared mapping without it can never be writable */
#define VMF_UNKNOWN  (1ULL << 63)
#define VMA_SYSV     (1ULL << 63) /* with the id of a segment, which may be 0, or a memfd's inode */

struct vma {
	uint64_t start, end;
	uint64_t offset; /* bytes into the file; 0 for anonymous memory */
	int prot;        /* PROT_* */
	bool shared;     /* MAP_SHARED */
	uint32_t dev_major, dev_minor;
	uint64_t inode;            /* 0: no file; VMA_SYSV and an id: System V shared memory */
	const char *path;          /* as the kernel writes it, octal escapes undone; "" when none */
	uint64_t flags;            /* VMF_*, only when read from smaps */
	const char *unknown_flags; /* "" or the words we do not know, blank separated */
	int pkey;                  /* protection key, 0 without */
};

struct vma_list {
	struct vma *v;
	size_t n;
};

/* Limits on what we read from one process (a larger one is refused, LIMIT). */
#define PROC_VMAS_MAX    262144
#define PROC_TEXT_BYTES  (256u << 20)
#define PROC_FDS_MAX     1048576
#define PROC_THREADS_MAX 32768

/* From maps (cheap, no flags) or smaps (walks all page tables: about 6 ms per GiB of 4 KiB pages,
 * measured on 6.18, so never while the target is frozen). */
struct err *proc_maps(struct arena *a, pid_t pid, struct vma_list *ret) must_check;
struct err *proc_smaps(struct arena *a, pid_t pid, struct vma_list *ret) must_check;
struct err *proc_parse_maps(struct arena *a, const char *text, struct vma_list *ret) must_check;
struct err *proc_parse_smaps(struct arena *a, const char *text, struct vma_list *ret) must_check;
/* The VMA that holds addr, or NULL. */
const struct vma *vma_at(const struct vma_list *l, uint64_t addr);

struct proc_stat {
	pid_t ppid, pgrp, sid;
	char comm[16];
	char state;
	int tty_nr;
	uint64_t flags; /* PF_*: PF_KTHREAD 0x00200000 */
	int64_t num_threads;
	uint64_t start_time; /* clock ticks since boot: with pid and boot id it names a process */
	uint64_t rss_pages;
	uint64_t start_code, end_code, start_stack, start_data, end_data, start_brk;
	uint64_t arg_start, arg_end, env_start, env_end;
	int nice, rt_priority, policy, exit_signal;
	int exit_code;         /* of a zombie: as wait(2) tells it */
	uint64_t child_faults; /* minor ones of children that it has waited for */
};
/* tid 0 reads the process's own file, else that of the thread. */
struct err *proc_stat(struct arena *a, pid_t pid, pid_t tid, struct proc_stat *ret) must_check;
struct err *proc_parse_stat(const char *text, struct proc_stat *ret) must_check;

struct proc_status {
	uint32_t uid[4], gid[4]; /* real, effective, saved, file system */
	uint32_t *groups;        /* arena */
	size_t n_groups;
	uint32_t umask;
	pid_t tracer, ns_pid; /* ns_pid: innermost of NSpid */
	size_t ns_depth;      /* how many pid namespaces below ours: 1 is the same */
	uint64_t sig_pending, sig_shared_pending, sig_blocked, sig_ignored, sig_caught;
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	int no_new_privs, seccomp;
	uint64_t vm_rss_bytes, vm_locked_bytes, vm_size_bytes, vm_swap_bytes;
	uint64_t cpus_allowed_hash; /* FNV of the text, to see a change */
	const char *cpus_allowed_list, *mems_allowed_list;
	bool coredump; /* CoreDumping: 1 */
};
struct err *proc_status(struct arena *a, pid_t pid, pid_t tid, struct proc_status *ret) must_check;
struct err *proc_parse_status(
	struct arena *a, const char *text, struct proc_status *ret) must_check;

/* Open descriptors, ascending. */
struct err *proc_fds(struct arena *a, pid_t pid, int **fds, size_t *n) must_check;
/* Threads of the process, ascending. */
struct err *proc_tids(struct arena *a, pid_t pid, pid_t **tids, size_t *n) must_check;
/* Direct children of all threads. */
struct err *proc_children(struct arena *a, pid_t pid, pid_t **pids, size_t *n) must_check;
/* readlink of /proc/PID/NAME. */
struct err *proc_link(struct arena *a, pid_t pid, const char *name, char **ret) must_check;
/* Text of /proc/PID/fdinfo/FD. */
struct err *proc_fdinfo(struct arena *a, pid_t pid, int fd, char **ret) must_check;
/* A field of fdinfo ("flags", base 8; "eventfd-count", base 16 ...); absent is UNSUPPORTED. */
struct err *fdinfo_u64(
	const char *fdinfo, const char *field, unsigned base, uint64_t *ret) must_check;
bool fdinfo_has(const char *fdinfo, const char *field);

struct proc_timer { /* one of /proc/PID/timers */
	int id;
	int signal;
	uint64_t sigval;
	int notify;   /* SIGEV_* with SIGEV_THREAD_ID as the kernel has it */
	pid_t target; /* tid for SIGEV_THREAD_ID, else pid */
	int clock;
};
struct err *proc_timers(struct arena *a, pid_t pid, struct proc_timer **ret, size_t *n) must_check;
struct err *proc_parse_timers(
	struct arena *a, const char *text, struct proc_timer **ret, size_t *n) must_check;
