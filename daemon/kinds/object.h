/* SPDX-License-Identifier: Apache-2.0 */
/* Open file descriptions of the target, and kernel objects as they travel. */
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include "base/base.h"

/* What fcntl(F_SETFL) sets on every descriptor, whether it means something to it or not. */
#define SETFL_FLAGS (O_APPEND | O_NONBLOCK | O_NOATIME)

/* Set by open(2) alone. Where the library has it as 0, the kernel's value (x86). */
#define KERNEL_O_LARGEFILE 0100000

struct fd_slot {
	pid_t pid; /* of the process that has it */
	int number;
	bool cloexec;
};

/* One open file description of the target and the descriptors that lead to it. */
struct file {
	uint64_t id;           /* file_id of the first descriptor, in whatever process */
	struct fd_slot *slots; /* ascending, by process and number */
	size_t n_slots;
	const char *link;    /* readlink of /proc/PID/fd/N */
	const char *fdinfo;  /* text of /proc/PID/fdinfo/N */
	struct stat st;      /* of what the descriptor leads to */
	uint64_t flags, pos; /* from fdinfo; flags without O_CLOEXEC */
};
static inline uint64_t file_id(pid_t pid, int number)
{
	return (uint64_t)pid << 32 | ((uint64_t)number + 1);
}
static inline pid_t file_pid(uint64_t id)
{
	return (pid_t)(id >> 32);
}

/* Of a POSIX message queue that was opened by mq_open(3), by all that it looks like. */
bool file_is_queue(const struct file *f);

struct file_table {
	struct file *v; /* by their first descriptors */
	size_t n;
};
/* In the table of one process. */
const struct file *file_by_number(const struct file_table *t, int number);

struct object {
	const struct kind *kind;
	pid_t pid; /* the process that it belongs to; KIND_FILE, KIND_LATE: 0 */
	uint64_t id;
	uint64_t group; /* KIND_FILE: objects that must be rebuilt together (pipe ends), else 0 */
	struct fd_slot *slots; /* KIND_FILE */
	size_t n_slots;
	bool late;      /* engine, destination: not there yet, see rebuild.c */
	bool stale;     /* engine: its process has become another one since, it holds for nothing */
	uint64_t *refs; /* ids of KIND_FILE objects this one refers to: relinked when they change */
	size_t n_refs;
	int32_t owner_type, owner_pid, owner_signal; /* F_SETOWN_EX, F_SETSIG; engine */
	const uint8_t *body;                         /* packed message */
	size_t body_len;
};
