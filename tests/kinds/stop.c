// SPDX-License-Identifier: Apache-2.0
/*
 * Children that job control has stopped: one that the parent has waited for, with a signal that
 * waits for it, and one that it has yet to learn of. They stay so, and go on by SIGCONT.
 * Kinds: stop.
 */
#include "subject.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

static void nothing(int sig)
{
	(void)sig;
}

/* It stops itself, and ends by the signal that has come meanwhile. */
static pid_t stopped_child(int by)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	CHECK(setpgid(0, 0) == 0);
	CHECK(kill(getpid(), by) == 0);
	for (;;)
		pause();
}

static bool is_stopped(pid_t pid)
{
	char path[64], text[512] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && close(fd) == 0);
	return strncmp(strrchr(text, ')') + 2, "T", 1) == 0;
}

/* The signal of a stop that it has not been told of; 0: there is none. */
static int untold(pid_t pid)
{
	siginfo_t info = { 0 };

	CHECK(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0);
	return info.si_pid == pid ? info.si_status : 0;
}

static void expect_end(pid_t pid, int by)
{
	int status;

	CHECK(kill(pid, SIGCONT) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == by);
}

int main(void)
{
	sigset_t child, pending;
	pid_t told, fresh;
	int status;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	CHECK(signal(SIGCHLD, nothing) != SIG_ERR);
	CHECK(sigprocmask(SIG_BLOCK, &child, NULL) == 0);
	told = stopped_child(SIGSTOP);
	CHECK(waitpid(told, &status, WUNTRACED) == told && WSTOPSIG(status) == SIGSTOP);
	CHECK(kill(told, SIGTERM) == 0);
	fresh = stopped_child(SIGTSTP);
	while (!untold(fresh))
		subject_sleep_ms(1);
	CHECK(sigwaitinfo(&child, NULL) == SIGCHLD);
	subject_wait_moved();
	CHECK(is_stopped(told) && is_stopped(fresh));
	CHECK(untold(told) == 0 && untold(fresh) == SIGTSTP);
	CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGCHLD));
	CHECK(waitpid(fresh, &status, WUNTRACED) == fresh && WSTOPSIG(status) == SIGTSTP);
	expect_end(told, SIGTERM);
	CHECK(kill(fresh, SIGUSR1) == 0);
	expect_end(fresh, SIGUSR1);
	return subject_ok();
}
