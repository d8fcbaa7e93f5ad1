// SPDX-License-Identifier: Apache-2.0
/*
 * A process with many of one sort: many threads|descriptors|mappings|processes N. It says "ready",
 * and each time it gets SIGUSR1 whether all of them are there and work: "right".
 */
#include <fcntl.h>
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE  4096UL
#define STACK (64u << 10)
#define SORTS 6 /* of descriptors */
#define MUST(cond) \
	do { \
		if (!(cond)) { \
			perror(#cond); \
			_exit(1); \
		} \
	} while (0)

static size_t n;

/* ---- threads: each adds one when it is told to ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER, answered = PTHREAD_COND_INITIALIZER;
static size_t round_number, answers;

static void *thread(void *arg)
{
	size_t seen = 0;

	pthread_mutex_lock(&lock);
	for (;;) {
		while (round_number == seen)
			pthread_cond_wait(&told, &lock);
		seen = round_number;
		answers++;
		pthread_cond_signal(&answered);
	}
	return arg;
}

static void threads_make(void)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	for (size_t i = 0; i < n; i++)
		MUST(pthread_create(&t, &attr, thread, NULL) == 0);
}

static bool threads_right(void)
{
	pthread_mutex_lock(&lock);
	answers = 0;
	round_number++;
	pthread_cond_broadcast(&told);
	while (answers < n)
		pthread_cond_wait(&answered, &lock);
	pthread_mutex_unlock(&lock);
	return true;
}

/* ---- descriptors of mixed kinds ---- */

static int *fds;

static int one_descriptor(size_t i)
{
	struct itimerspec in = { .it_value.tv_sec = 100000 };
	struct epoll_event ev = { .events = EPOLLIN };
	int fd = -1;

	switch (i % SORTS) {
	case 0:
		return eventfd((unsigned)i, EFD_NONBLOCK);
	case 1:
		fd = timerfd_create(CLOCK_MONOTONIC, 0);
		MUST(timerfd_settime(fd, 0, &in, NULL) == 0);
		return fd;
	case 2:
		return open("/dev/null", O_RDONLY);
	case 3:
		return open("/usr/bin/python3", O_RDONLY);
	case 4:
		fd = epoll_create1(0);
		ev.data.u64 = i;
		MUST(epoll_ctl(fd, EPOLL_CTL_ADD, fds[i - 4], &ev) == 0);
		return fd;
	default:
		return socket(AF_INET, SOCK_DGRAM, 0);
	}
}

static void descriptors_make(void)
{
	struct rlimit all = { n + 64, n + 64 };

	MUST(setrlimit(RLIMIT_NOFILE, &all) == 0);
	fds = calloc(n, sizeof(*fds));
	for (size_t i = 0; i < n; i++)
		MUST((fds[i] = one_descriptor(i)) >= 0);
}

static bool descriptors_right(void)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t value = 0, again = i;

		if (fcntl(fds[i], F_GETFD) < 0)
			return false;
		if (i % SORTS || !i)
			continue;
		if (read(fds[i], &value, sizeof(value)) != sizeof(value) || value != i ||
			write(fds[i], &again, sizeof(again)) != sizeof(again))
			return false;
	}
	return true;
}

/* ---- mappings: each a page, writable or not in turn, so that none joins another ---- */

static char *memory;

static void mappings_make(void)
{
	memory = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(memory != MAP_FAILED);
	for (size_t i = 0; i < n; i++)
		*(size_t *)(void *)(memory + i * PAGE) = i;
	for (size_t i = 0; i < n; i += 2)
		MUST(mprotect(memory + i * PAGE, PAGE, PROT_READ) == 0);
}

static bool mappings_right(void)
{
	for (size_t i = 0; i < n; i++)
		if (*(size_t *)(void *)(memory + i * PAGE) != i)
			return false;
	return true;
}

/* ---- processes: each counts its parent's bytes ---- */

struct child {
	pid_t pid;
	int to, from;
};
static struct child *children;

static void answer(int in, int out)
{
	char c;

	while (read(in, &c, 1) == 1)
		MUST(write(out, &c, 1) == 1);
	_exit(0);
}

static void processes_make(void)
{
	children = calloc(n, sizeof(*children));
	for (size_t i = 0; i < n; i++) {
		int to[2], from[2];

		MUST(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
		MUST((children[i].pid = fork()) >= 0);
		if (!children[i].pid) {
			for (size_t k = 0; k < i; k++) {
				close(children[k].to);
				close(children[k].from);
			}
			close(to[1]);
			close(from[0]);
			answer(to[0], from[1]);
		}
		close(to[0]);
		close(from[1]);
		children[i].to = to[1];
		children[i].from = from[0];
	}
}

static bool processes_right(void)
{
	char c;

	for (size_t i = 0; i < n; i++) {
		if (write(children[i].to, "x", 1) != 1 || read(children[i].from, &c, 1) != 1 ||
			waitpid(children[i].pid, NULL, WNOHANG) != 0)
			return false;
	}
	return true;
}

static const struct sort {
	const char *name;
	void (*make)(void);
	bool (*right)(void);
} sorts[] = {
	{ "threads", threads_make, threads_right },
	{ "descriptors", descriptors_make, descriptors_right },
	{ "mappings", mappings_make, mappings_right },
	{ "processes", processes_make, processes_right },
};

int main(int argc, char **argv)
{
	const struct sort *s = NULL;
	sigset_t set;
	int sig;

	for (size_t i = 0; argc == 3 && i < sizeof(sorts) / sizeof(*sorts); i++)
		if (!strcmp(argv[1], sorts[i].name))
			s = &sorts[i];
	if (!s)
		return 2;
	n = strtoul(argv[2], NULL, 10);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->make();
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		MUST(sigwait(&set, &sig) == 0);
		printf(s->right() ? "right\n" : "wrong\n");
		fflush(stdout);
	}
}
