// SPDX-License-Identifier: Apache-2.0
/* A program that changes itself when it is told to: the word in the file do.PID says how. Until
 * then, and afterwards, it counts, in place, in its output. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_BYTES (2u << 20)
#define TICK_US      10000

static atomic_int terms, thread_goes;
static char **args;

static void on_term(int number)
{
	(void)number;
	terms++;
}

static void *wait_for_end(void *arg)
{
	while (!thread_goes)
		usleep(TICK_US);
	return arg;
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int do_exit(void)
{
	_exit(0);
}

static int do_exec(void)
{
	char again[] = "again";
	char *const argv[] = { args[0], again, NULL };

	return execv("/proc/self/exe", argv);
}

static int do_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		wait_for_ever(NULL);
	return pid < 0 ? -1 : 0;
}

static int do_thread(void)
{
	pthread_t t;

	return pthread_create(&t, NULL, wait_for_ever, NULL) ? -1 : 0;
}

static int do_thread_end(void)
{
	thread_goes = 1;
	return 0;
}

static int do_setuid(void)
{
	return setresuid(12345, 12345, 12345);
}

static int do_chroot(void)
{
	return chroot("/tmp");
}

static int do_unshare(void)
{
	return unshare(CLONE_NEWUTS);
}

static const struct act {
	const char *word;
	int (*act)(void);
} acts[] = {
	{ "exit", do_exit },
	{ "exec", do_exec },
	{ "fork", do_fork },
	{ "thread", do_thread },
	{ "thread end", do_thread_end },
	{ "setuid", do_setuid },
	{ "chroot", do_chroot },
	{ "unshare", do_unshare },
};

/* The file is gone when the word is obeyed, or about to be. */
static void obey(void)
{
	char path[32], word[32] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "do.%d", getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, word, sizeof(word) - 1);
	close(fd);
	if (n <= 0 || unlink(path) < 0)
		return;
	for (size_t i = 0; i < sizeof(acts) / sizeof(*acts); i++)
		if (strcmp(acts[i].word, word) == 0 && acts[i].act() < 0)
			dprintf(STDERR_FILENO, "FAIL %s: %s\n", word, strerror(errno));
}

int main(int argc, char **argv)
{
	struct sigaction on = { .sa_handler = on_term, .sa_flags = SA_RESTART };
	unsigned char *memory = malloc(MEMORY_BYTES);
	pthread_t t;

	args = argv;
	if (!memory || argc > 2 || sigaction(SIGTERM, &on, NULL) < 0 ||
		pthread_create(&t, NULL, wait_for_end, NULL))
		return 1;
	for (unsigned i = 0; i < MEMORY_BYTES; i++)
		memory[i] = (unsigned char)(i * 2654435761u >> 13);
	for (unsigned n = 1;; n++) {
		char line[64];
		int len = snprintf(line, sizeof(line), "ready %20u %d %s\n", n, terms,
			argc > 1 ? argv[1] : "first");

		if (pwrite(STDOUT_FILENO, line, (size_t)len, 0) != len)
			return 1;
		memory[n * 256 % MEMORY_BYTES]++; /* a new page every 16 ticks */
		obey();
		usleep(TICK_US);
	}
}
