// SPDX-License-Identifier: Apache-2.0
/*
 * A process one thread of which is another user: it was root, and only its first thread has dropped
 * what it had (by the bare system call, which is of one thread). Then it is dumpable again.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *stays_root(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

int main(int argc, char **argv)
{
	long id = argc > 1 ? atol(argv[1]) : 0;
	pthread_t t;

	if (!id || pthread_create(&t, NULL, stays_root, NULL))
		return 1;
	if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, id, id, id) ||
		syscall(SYS_setresuid, id, id, id) || prctl(PR_SET_DUMPABLE, 1))
		return 1;
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
