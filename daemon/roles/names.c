// SPDX-License-Identifier: Apache-2.0
/*
 * A question is one packet with a descriptor, on which the answer comes; whoever asks is the same
 * program, so both are plain structs. An answer is one packet, too: an error in words, or places.
 *
 * Libraries of the name service (nsswitch.conf) may want anything, so what is not listed here fails
 * instead of killing.
 * @calls names: +base read write readv writev pread64 close mmap mprotect lseek
 * @calls names: openat[2&O_ACCMODE|O_CREAT=O_RDONLY] fstat newfstatat stat statx getdents64
 * @calls names: access faccessat faccessat2 readlink readlinkat fcntl ioctl[1=FIONREAD]
 * @calls names: socket connect bind getsockname getpeername setsockopt getsockopt shutdown
 * @calls names: sendto sendmsg sendmmsg recvfrom recvmsg poll ppoll epoll_create1 epoll_ctl
 * @calls names: epoll_wait eventfd2 clone clone3 fork wait4 kill[1=0] alarm setitimer pipe2 dup
 * @calls names: rt_sigaction sigaltstack uname sysinfo getuid geteuid getgid getegid getppid
 * @calls names: prlimit64 sched_getaffinity set_tid_address prctl[0=PR_SET_NAME]
 */
#include "roles/names.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "kernel/confine.h"
#include "roles/aside.h"
#include "roles/ipc.h"

#define QUESTIONS_MAX 64 /* at a time */
#define QUESTION_S    60

struct names_answer {
	struct flat_err error;
	struct address_places places;
};

/* ---- in the helper ---- */

__attribute__((noreturn)) static void answer(const struct address *a, int to)
{
	struct names_answer r = { .places = { .n = 0 } };

	alarm(QUESTION_S);
	flat_err_put(&r.error, address_look_up(a, &r.places));
	_exit(send(to, &r, sizeof(r), MSG_NOSIGNAL) == sizeof(r) ? 0 : 1);
}

/* 1: a question, 0: none that makes sense, -1: nobody is left to ask. */
static int hear(struct address *a, int *to)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { a, sizeof(*a) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(NAMES_FD, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return 0;
	memcpy(to, CMSG_DATA(c), sizeof(*to));
	a->host[HOST_BYTES - 1] = '\0';
	return n == sizeof(*a);
}

static void on_child(int sig unused_arg)
{
}

/* Ends a wait that has begun, or will: outside of the wait it is blocked. */
static void wait_question(void)
{
	const struct sigaction a = { .sa_handler = on_child };
	struct pollfd p = { NAMES_FD, POLLIN, 0 };
	sigset_t child, none;

	sigemptyset(&none);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigaction(SIGCHLD, &a, NULL);
	sigprocmask(SIG_BLOCK, &child, NULL);
	(void)ppoll(&p, 1, NULL, &none);
}

static void begin_answer(const struct address *a, int to, size_t *running)
{
	pid_t pid = fork();

	if (pid == 0) {
		close(NAMES_FD);
		answer(a, to);
	}
	/* Else who asked sees the end of its socket. */
	*running += pid > 0;
}

static void serve(void)
{
	for (size_t running = 0;;) {
		autoclose int to = -1;
		struct address a;
		int heard;

		wait_question();
		while (running && waitpid(-1, NULL, running < QUESTIONS_MAX ? WNOHANG : 0) > 0)
			running--;
		heard = hear(&a, &to);
		if (heard < 0)
			return;
		if (heard)
			begin_answer(&a, to, &running);
	}
}

/* Not confined yet. @calls none: close_range dup2 dup3 */
__attribute__((noreturn)) static void helper(
	int fd, struct err *(*lower)(const void *who), const void *who)
{
	autoerr struct err *e = NULL;

	if ((fd != NAMES_FD && dup2(fd, NAMES_FD) < 0) || close(IPC_FD) < 0 ||
		syscall(SYS_close_range, NAMES_FD + 1, ~0U, 0) < 0)
		_exit(1);
	(void)prctl(PR_SET_NAME, "migrated-names", 0, 0, 0);
	log_open("names", LOG_INFO_);
	e = lower(who);
	if (!e)
		e = confine_calls(CONFINE_NAMES);
	if (e) {
		autofree char *line = err_line(e);

		log_error("start error=\"%s\"", line);
		_exit(1);
	}
	serve();
	_exit(0);
}

struct err *names_start(struct err *(*lower)(const void *who), const void *who)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(errno, "make a socket pair");
	pid = fork();
	if (pid == 0)
		helper(pair[1], lower, who);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return err_errno(errno, "start the name service's process");
	}
	/* Nothing of ours is at NAMES_FD but what was made just now. */
	if (pair[0] != NAMES_FD && (dup3(pair[0], NAMES_FD, O_CLOEXEC) < 0 || close(pair[0]) < 0))
		return err_errno(errno, "start the name service's process");
	return NULL;
}

/* ---- who asks ---- */

/* @calls net: sendmsg close */
static struct err *ask(const struct address *a, int answer_to)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)a, sizeof(*a) };
	const struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &answer_to, sizeof(int));
	if (sendmsg(NAMES_FD, &msg, MSG_NOSIGNAL) != sizeof(*a))
		return err_errno(errno, "ask the name service's process");
	return NULL;
}

/* @calls net: poll recvfrom */
static struct err *await(int fd, const char *host, struct deadline d, struct names_answer *r)
{
	struct pollfd p = { fd, POLLIN, 0 };
	int n;

	do
		n = poll(&p, 1, deadline_poll_ms(d));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return err_hint(
			err_new(ERR_TIMEOUT, "the name service does not answer for %s", host),
			"use the address, or see what holds up the name service");
	if (recv(fd, r, sizeof(*r), MSG_DONTWAIT) != sizeof(*r))
		return err_new(ERR_GONE, "the name service's process ended");
	return NULL;
}

/* @calls net: socketpair[0=AF_UNIX] */
struct err *names_look_up(const struct address *a, struct deadline d, struct address_places *ret)
{
	autofree struct names_answer *r = xcalloc(1, sizeof(*r));
	autoclose int ours = -1, theirs = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(errno, "make a socket pair");
	ours = pair[0];
	theirs = pair[1];
	TRY(ask(a, theirs));
	fd_closep(&theirs);
	TRY(await(ours, a->host, d, r));
	TRY(flat_err_get(&r->error));
	*ret = r->places;
	return NULL;
}
