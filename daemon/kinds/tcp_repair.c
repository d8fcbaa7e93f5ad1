// SPDX-License-Identifier: Apache-2.0
#include "kinds/tcp_repair.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REPAIR_OFF 0
#define REPAIR_ON  1

struct err *tcp_repair_set(int fd, bool on)
{
	const int v = on ? REPAIR_ON : REPAIR_OFF;

	if (setsockopt(fd, SOL_TCP, TCP_REPAIR, &v, sizeof(v)) < 0)
		return err_errno(errno, "switch TCP_REPAIR %s", on ? "on" : "off");
	return NULL;
}

struct err *tcp_repair_probe(void)
{
	autoclose int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct err *e = fd < 0 ? err_errno(errno, "make a socket") : tcp_repair_set(fd, true);

	if (!e)
		return NULL;
	return err_hint(err_in(e, "connections cannot be moved"),
		"migrated needs CAP_NET_ADMIN in this network, and a kernel with TCP_REPAIR");
}

struct err *tcp_repair_end(int pidfd, int number, bool reuse)
{
	autoclose int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	const int v = reuse;
	int on = 0;
	socklen_t len = sizeof(on);

	if (fd < 0)
		return errno == EBADF || errno == ESRCH
			       ? err_new(ERR_GONE, "no descriptor %d", number)
			       : err_errno(errno, "fetch descriptor %d", number);
	if (getsockopt(fd, SOL_TCP, TCP_REPAIR, &on, &len) < 0 || !on)
		return NULL;
	TRY(tcp_repair_set(fd, false));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &v, sizeof(v)) < 0)
		return err_errno(errno, "set SO_REUSEADDR again");
	return NULL;
}
