// SPDX-License-Identifier: Apache-2.0
/* A pending signal is read from a signalfd after the move, one sent later as well. */
#include "subject.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

static void expect(int fd, int sig)
{
	struct signalfd_siginfo si;

	CHECK(read(fd, &si, sizeof(si)) == sizeof(si));
	CHECK((int)si.ssi_signo == sig);
}

int main(void)
{
	struct signalfd_siginfo si;
	sigset_t set, other;
	int fd, none;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 5);
	sigemptyset(&other);
	sigaddset(&other, SIGUSR2);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	fd = signalfd(-1, &set, SFD_NONBLOCK);
	none = signalfd(-1, &other, SFD_NONBLOCK | SFD_CLOEXEC);
	CHECK(fd >= 0 && none >= 0);
	CHECK(raise(SIGUSR1) == 0);
	subject_odd_flags(none);
	subject_wait_moved();
	expect(fd, SIGUSR1);
	CHECK(read(fd, &si, sizeof(si)) < 0 && errno == EAGAIN);
	CHECK(raise(SIGRTMIN + 5) == 0);
	expect(fd, SIGRTMIN + 5);
	CHECK(read(none, &si, sizeof(si)) < 0 && errno == EAGAIN);
	CHECK(fcntl(none, F_GETFD) == FD_CLOEXEC);
	return subject_ok();
}
