/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pid namespace for one test program, with a small init and its own /proc: a lost process or a
 * wrong pid cannot reach the rest of the machine, and nothing survives the test, in an IPC
 * namespace of its own.
 */
#pragma once

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_SKIP 77

/* pid 1: reaps, and ends with the test's status. */
static inline void ns_init(pid_t test)
{
	int status;
	pid_t got;

	for (;;) {
		got = wait(&status);
		if (got == test)
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
		if (got < 0)
			_exit(1);
	}
}

/* Returns in the test process inside the namespace; everything else waits and exits. */
static inline void ns_enter(void)
{
	int status;
	pid_t child;

	if (geteuid() != 0) {
		printf("SKIP: needs root\n");
		exit(TEST_SKIP);
	}
	fflush(stdout);
	if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC) < 0) {
		printf("SKIP: no pid namespace\n");
		exit(TEST_SKIP);
	}
	child = fork();
	if (child > 0) {
		while (waitpid(child, &status, 0) < 0)
			;
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (child < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("proc", "/proc", "proc", 0, NULL) < 0)
		_exit(1);
	child = fork();
	if (child > 0)
		ns_init(child);
	if (child < 0)
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* kill(2) only ever gets a single process that we made. */
static inline void kill_one(pid_t pid, int sig)
{
	if (pid > 1)
		kill(pid, sig);
}
