// SPDX-License-Identifier: Apache-2.0
#include "kernel/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/io.h"

/* struct page_region and struct pm_scan_arg of linux/fs.h. */
struct region {
	uint64_t start, end, categories;
};
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, ret;
};
#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_REGIONS 512
#define WORDS        2048

struct err *pagemap_open(pid_t pid, int *fd)
{
	char path[64];
	struct err *e;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	e = io_open(path, O_RDONLY, fd);
	if (!e || err_sysno(e) != ENOENT)
		return e;
	err_free(e);
	return err_new(ERR_GONE, "process %d has ended", pid);
}

int pagemap_scan(
	int fd, const struct pagemap_query *q, struct range where, pagemap_fn fn, void *arg)
{
	struct region v[SCAN_REGIONS];
	struct scan_arg s = {
		.size = sizeof(s),
		.flags = q->flags,
		.start = where.start,
		.end = where.end,
		.vec = (uintptr_t)v,
		.vec_len = SCAN_REGIONS,
		.inverted = q->inverted,
		.mask = q->mask,
		.anyof = q->anyof,
		.ret = q->ret,
	};

	while (s.start < s.end) {
		int n = ioctl(fd, SCAN_IOCTL, &s);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		for (int i = 0; i < n; i++)
			fn(arg, v[i].start, v[i].end, v[i].categories);
		if (s.walk_end <= s.start)
			return EIO; /* no progress: never loop on a kernel's whim */
		s.start = s.walk_end;
	}
	return 0;
}

struct err *pagemap_words(int fd, uint64_t start, uint64_t *words, size_t n)
{
	size_t bytes = n * sizeof(*words), done = 0;
	off_t at = (off_t)(start / PAGE_BYTES * sizeof(*words));

	while (done < bytes) {
		ssize_t r = pread(fd, (char *)words + done, bytes - done, at + (off_t)done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_errno(errno, "read pagemap at %#jx", (uintmax_t)start);
		if (r == 0)
			return err_new(ERR_GONE, "the process has ended");
		done += (size_t)r;
	}
	return NULL;
}

struct err *pagemap_check(int fd)
{
	uint64_t word;

	return pagemap_words(fd, 0, &word, 1);
}

static struct err *own_by_words(int fd, struct range where, pagemap_fn fn, void *arg)
{
	uint64_t words[WORDS], from = 0;
	bool in = false;

	for (uint64_t at = where.start; at < where.end; at += WORDS * PAGE_BYTES) {
		size_t n = (size_t)MIN((where.end - at) / PAGE_BYTES, (uint64_t)WORDS);

		TRY(pagemap_words(fd, at, words, n));
		for (size_t i = 0; i < n; i++) {
			bool own = (words[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) &&
				   !(words[i] & (PAGEMAP_FILE | PAGEMAP_GUARD));

			if (own == in)
				continue;
			if (in)
				fn(arg, from, at + i * PAGE_BYTES, 0);
			from = at + i * PAGE_BYTES;
			in = own;
		}
	}
	if (in)
		fn(arg, from, where.end, 0);
	return NULL;
}

struct err *pagemap_own(int fd, struct range where, pagemap_fn fn, void *arg)
{
	static const struct pagemap_query own = {
		.inverted = PAGE_CAT_FILE | PAGE_CAT_PFNZERO,
		.mask = PAGE_CAT_FILE | PAGE_CAT_PFNZERO,
		.anyof = PAGE_CAT_PRESENT | PAGE_CAT_SWAPPED,
	};
	int no = pagemap_scan(fd, &own, where, fn, arg);

	if (no == ENOTTY)
		return own_by_words(fd, where, fn, arg);
	return no ? err_errno(no, "scan pages at %#jx", (uintmax_t)where.start) : NULL;
}
