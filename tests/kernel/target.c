// SPDX-License-Identifier: Apache-2.0
#include "tests/kernel/target.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define target_bad(s, ...) \
	do { \
		if (__atomic_fetch_add(&(s)->bad, 1, __ATOMIC_SEQ_CST) == 0) \
			snprintf((s)->why, sizeof((s)->why), __VA_ARGS__); \
	} while (0)

static struct target_shared **target_self(void)
{
	static struct target_shared *self;

	return &self;
}

static void *target_futex(void *arg)
{
	struct target_shared *s = arg;

	for (;;) {
		uint32_t now = __atomic_load_n(&s->word, __ATOMIC_SEQ_CST);
		long r = syscall(SYS_futex, &s->word, FUTEX_WAIT, now, NULL, NULL, 0);

		if (r < 0 && errno != EAGAIN)
			target_bad(s, "futex: errno %d", errno);
		s->beats[BEAT_FUTEX]++;
	}
	return NULL;
}

static int64_t target_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *target_sleep(void *arg)
{
	struct target_shared *s = arg;

	for (;;) {
		struct timespec ms = { 0, 30000000 };
		int64_t before = target_ns(), took;

		if (nanosleep(&ms, NULL) < 0) {
			s->eintr++;
			continue;
		}
		took = target_ns() - before;
		if (took < ms.tv_nsec)
			target_bad(s, "nanosleep: only %lld ns", (long long)took);
		s->beats[BEAT_SLEEP]++;
	}
	return NULL;
}

static void *target_read(void *arg)
{
	struct target_shared *s = arg;
	char c;

	for (;;) {
		ssize_t n = read(s->pipe[0], &c, 1);

		if (n != 1)
			target_bad(s, "read: %zd errno %d", n, errno);
		s->beats[BEAT_READ]++;
	}
	return NULL;
}

/* Registers hold a pattern over many rounds; nothing is reloaded in between. */
static void *target_spin(void *arg)
{
	struct target_shared *s = arg;
	const uint64_t pattern[4] = { 0x1122334455667788, 0x99aabbccddeeff00, 7, ~0ULL };

	for (;;) {
		uint64_t same, r15 = 0x5a5a5a5a, r9 = 0x77, rcx = 200000;

		__asm__ volatile(
			"vmovdqu (%[p]), %%ymm15\n"
			"mov $0x5a5a5a5a, %%r15d\n"
			"mov $0x77, %%r9d\n"
			"1: vpaddq %%ymm15, %%ymm15, %%ymm2\n"
			"vpsubq %%ymm15, %%ymm2, %%ymm15\n"
			"dec %[n]\n"
			"jnz 1b\n"
			"vpcmpeqq (%[p]), %%ymm15, %%ymm2\n"
			"vpmovmskb %%ymm2, %k[same]\n"
			"mov %%r15, %[r15]\n"
			"mov %%r9, %[r9]\n"
			: [same] "=&r"(same), [n] "+&r"(rcx), [r15] "=&r"(r15), [r9] "=&r"(r9)
			: [p] "r"(pattern)
			: "r15", "r9", "xmm2", "xmm15", "memory", "cc");
		if ((uint32_t)same != 0xffffffff || r15 != 0x5a5a5a5a || r9 != 0x77)
			target_bad(s, "registers: %llx %llx %llx", (unsigned long long)same,
				(unsigned long long)r15, (unsigned long long)r9);
		s->beats[BEAT_SPIN]++;
	}
	return NULL;
}

static void *target_epoll(void *arg)
{
	struct target_shared *s = arg;
	struct epoll_event ev;
	uint64_t v;

	for (;;) {
		if (epoll_wait(s->epoll, &ev, 1, -1) != 1) {
			s->eintr++;
			continue;
		}
		if (read(s->event, &v, sizeof(v)) < 0)
			target_bad(s, "eventfd: errno %d", errno);
		s->beats[BEAT_EPOLL]++;
	}
	return NULL;
}

static void target_on_urg(int sig, siginfo_t *info, void *context)
{
	struct target_shared *s = *target_self();

	(void)sig;
	(void)context;
	s->urg++;
	s->urg_code = (uint32_t)info->si_code;
	s->urg_value = (uint32_t)info->si_value.sival_int;
}

static void target_main(struct target_shared *s)
{
	static char stack_mem[65536];
	stack_t mine = { .ss_sp = stack_mem, .ss_size = sizeof(stack_mem) }, now;
	struct sigaction sa = { .sa_sigaction = target_on_urg,
		.sa_flags = SA_SIGINFO | SA_ONSTACK };
	void *(*const body[])(
		void *) = { target_futex, target_sleep, target_read, target_spin, target_epoll };
	sigset_t urg, mask;
	pthread_t id;

	*target_self() = s;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaltstack(&mine, NULL);
	sigaction(SIGURG, &sa, NULL);
	sigemptyset(&urg);
	sigaddset(&urg, SIGURG);
	sigaddset(&urg, SIGUSR2);
	sigprocmask(SIG_BLOCK, &urg, NULL);
	if (pipe(s->pipe) < 0)
		_exit(1);
	/* Before it is ready: its descriptors are counted. */
	s->event = eventfd(0, 0);
	s->epoll = epoll_create1(0);
	epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->event, &(struct epoll_event){ .events = EPOLLIN });
	for (size_t i = 0; i < sizeof(body) / sizeof(body[0]); i++)
		if (pthread_create(&id, NULL, body[i], s) != 0)
			_exit(1);
	s->ready = 1;
	for (;;) {
		struct timespec ms = { 0, 1000000 };

		nanosleep(&ms, NULL);
		sigaltstack(NULL, &now);
		if (now.ss_sp != mine.ss_sp || now.ss_size != mine.ss_size || now.ss_flags != 0)
			target_bad(
				s, "sigaltstack: %p %zu %d", now.ss_sp, now.ss_size, now.ss_flags);
		sigprocmask(SIG_SETMASK, NULL, &mask);
		if (!s->open_urg && (!sigismember(&mask, SIGURG) || sigismember(&mask, SIGUSR1)))
			target_bad(s, "signal mask of the main thread");
		if (s->open_urg == 1) {
			sigprocmask(SIG_UNBLOCK, &urg, NULL);
			s->open_urg = 2;
		}
		s->beats[BEAT_MAIN]++;
	}
}

pid_t target_start_as(void (*prepare)(void), struct target_shared **ret)
{
	struct target_shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();

	if (pid == 0) {
		if (prepare)
			prepare();
		target_main(s);
		_exit(0);
	}
	while (!__atomic_load_n(&s->ready, __ATOMIC_SEQ_CST))
		usleep(500);
	usleep(5000);
	*ret = s;
	return pid;
}

pid_t target_start(struct target_shared **ret)
{
	return target_start_as(NULL, ret);
}

void target_end(pid_t pid, struct target_shared *s)
{
	if (pid > 1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	munmap(s, sizeof(*s));
}

bool target_alive(pid_t pid, struct target_shared *s)
{
	uint64_t before[BEATS];
	char path[64];
	int wr;

	memcpy(before, s->beats, sizeof(before));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, s->pipe[1]);
	wr = open(path, O_WRONLY | O_CLOEXEC);
	if (wr < 0 || write(wr, "x", 1) != 1)
		return false;
	close(wr);
	for (int i = 0; i < 20000; i++) {
		bool all = true;

		/* A thread that has just begun may not wait yet. */
		if (s->beats[BEAT_FUTEX] == before[BEAT_FUTEX]) {
			s->word++;
			syscall(SYS_futex, &s->word, FUTEX_WAKE, 100, NULL, NULL, 0);
		}

		for (int b = 0; b < BEATS; b++)
			if (b != BEAT_EPOLL && s->beats[b] == before[b])
				all = false;
		if (all)
			return true;
		usleep(1000);
	}
	return false;
}
