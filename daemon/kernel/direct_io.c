// SPDX-License-Identifier: Apache-2.0
#include "kernel/direct_io.h"

#include <fcntl.h>
#include <stdio.h>

#include "kernel/proc.h"

/* Most descriptors are sockets and such: the link is cheaper to read than fdinfo. */
static struct err *is_direct(struct arena *a, pid_t pid, int fd, bool *ret)
{
	char name[32], *link, *info;
	uint64_t flags;

	*ret = false;
	snprintf(name, sizeof(name), "fd/%d", fd);
	TRY(proc_link(a, pid, name, &link));
	if (link[0] != '/')
		return NULL;
	TRY(proc_fdinfo(a, pid, fd, &info));
	TRY(fdinfo_u64(info, "flags", 8, &flags));
	*ret = flags & O_DIRECT;
	return NULL;
}

struct err *direct_io_any(pid_t pid, bool *ret)
{
	autoarena struct arena *a = arena_new();
	bool found = false;
	int *fds;
	size_t n;

	TRY(proc_fds(a, pid, &fds, &n));
	for (size_t i = 0; i < n && !found; i++) {
		struct err *e = is_direct(a, pid, fds[i], &found);

		/* Closed meanwhile. That the process itself has gone, others find out. */
		if (e && err_code(e) != ERR_GONE)
			return e;
		err_free(e);
	}
	*ret = found;
	return NULL;
}
