/* SPDX-License-Identifier: Apache-2.0 */
/* A network namespace for one test program, with a loopback of its own. */
#pragma once

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TEST_SKIP 77

static inline void netns_enter(void)
{
	struct ifreq r = { .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
		printf("SKIP: needs root, for a network namespace\n");
		exit(TEST_SKIP);
	}
	strcpy(r.ifr_name, "lo");
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0) {
		perror("loopback");
		exit(1);
	}
	close(fd);
}
