/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child process that makes system calls and touches memory when told: a target or a seedling for
 * tests that do not need the agent. Include behind cmocka.h.
 */
#pragma once

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

#define P PAGE_BYTES
/* For mappings of a test: neither the kernel's choice nor part of any sanitizer's shadow. */
#define PUPPET_AT 0x550000000000ULL

static inline void ok(struct err *e)
{
	if (e)
		fail_msg("%s", err_line(e));
}

enum { OP_SYSCALL, OP_WRITE, OP_READ };

struct order {
	long op;
	long a[7];
};

struct puppet {
	pid_t pid;
	int sock;
};

/* Not sanitized, and by no function that a sanitizer intercepts: all memory of a puppet may be
 * registered with a userfaultfd, the sanitizer's shadow of what it touches first, too. */
#define NOT_SANITIZED __attribute__((no_sanitize("address", "undefined", "thread")))

NOT_SANITIZED static inline long obey(const struct order *o)
{
	volatile uint8_t *p = (volatile uint8_t *)o->a[0];

	switch (o->op) {
	case OP_SYSCALL: {
		long r = syscall(o->a[0], o->a[1], o->a[2], o->a[3], o->a[4], o->a[5], o->a[6]);

		return r < 0 ? -errno : r;
	}
	case OP_WRITE:
		for (long i = 0; i < o->a[1]; i++)
			p[i * (long)P] = (uint8_t)o->a[2];
		return 0;
	default:
		for (long i = 0; i < o->a[1]; i++)
			(void)p[i * (long)P];
		return 0;
	}
}

NOT_SANITIZED static inline void obey_all(int sock)
{
	volatile uint8_t stack[4 * P]; /* that the dynamic linker, say, may need */
	struct order o;

	for (size_t i = 0; i < sizeof(stack); i += P)
		stack[i] = 0;
	while (syscall(SYS_read, sock, &o, sizeof(o)) == sizeof(o)) {
		long r = obey(&o);

		if (syscall(SYS_write, sock, &r, sizeof(r)) != sizeof(r))
			break;
	}
	syscall(SYS_exit_group, 0);
}

static inline void puppet_start(struct puppet *s)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		obey_all(pair[1]);
	}
	close(pair[1]);
	s->sock = pair[0];
}

static inline void puppet_stop(struct puppet *s)
{
	close(s->sock);
	assert_true(s->pid > 1);
	/* The end of the socket is not enough: a later puppet has a copy of ours. */
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
}

static inline long tell(struct puppet *s, struct order o)
{
	long r;

	assert_int_equal(write(s->sock, &o, sizeof(o)), sizeof(o));
	assert_int_equal(read(s->sock, &r, sizeof(r)), sizeof(r));
	return r;
}

#define CALL(s, ...) tell((s), (struct order){ OP_SYSCALL, { __VA_ARGS__ } })

static inline void touch(struct puppet *s, uint64_t at, uint64_t pages, uint8_t value)
{
	tell(s, (struct order){ OP_WRITE, { (long)at, (long)pages, value } });
}

static inline void look_at(struct puppet *s, uint64_t at, uint64_t pages)
{
	tell(s, (struct order){ OP_READ, { (long)at, (long)pages } });
}

static inline uint64_t map(struct puppet *s, uint64_t at, uint64_t bytes, int fd)
{
	long flags =
		MAP_PRIVATE | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0) | (at ? MAP_FIXED : 0);
	long r = CALL(s, SYS_mmap, (long)at, (long)bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

	assert_true(r > 0);
	return (uint64_t)r;
}

static inline int take_from(struct puppet *s, int number)
{
	int pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0), fd;

	fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	assert_true(fd >= 0);
	close(pidfd);
	return fd;
}
