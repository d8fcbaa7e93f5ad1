// SPDX-License-Identifier: Apache-2.0
/*
 * Process 1 of a lab host: reaps what is left to it and holds the host's namespaces until it is
 * killed. A signal that process 1 has no handler for never reaches it, so nothing inside the host
 * can end it; SIGKILL from outside ends every process of the host with it.
 */
#include <signal.h>
#include <unistd.h>

int main(void)
{
	/* With SIGCHLD ignored the kernel reaps for us, also children that were orphaned before. */
	if (signal(SIGCHLD, SIG_IGN) == SIG_ERR)
		return 1;
	for (;;)
		pause();
}
