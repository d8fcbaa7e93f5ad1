// SPDX-License-Identifier: Apache-2.0
/* Pidfds of itself, with and without O_NONBLOCK: a signal through them comes. */
#include "subject.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static atomic_int came;

static void on_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&came, 1);
}

int main(void)
{
	int plain = (int)syscall(SYS_pidfd_open, getpid(), 0), again = dup(plain);
	int nonblocking = (int)syscall(SYS_pidfd_open, getpid(), O_NONBLOCK);
	int fds[] = { plain, again, nonblocking };

	CHECK(plain >= 0 && again >= 0 && nonblocking >= 0);
	CHECK(signal(SIGUSR1, on_signal) != SIG_ERR);
	subject_wait_moved();
	for (int i = 0; i < 3; i++)
		CHECK(syscall(SYS_pidfd_send_signal, fds[i], SIGUSR1, NULL, 0) == 0);
	CHECK(atomic_load(&came) == 3);
	CHECK(fcntl(nonblocking, F_GETFL) & O_NONBLOCK);
	return subject_ok();
}
