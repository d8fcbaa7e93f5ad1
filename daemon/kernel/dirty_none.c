// SPDX-License-Identifier: Apache-2.0
/* No tracking: every look finds all that exists, and the peer starts anew each time. */
#include "kernel/dirty_priv.h"

#include <stdlib.h>

#include "kernel/pagemap.h"

struct dirty {
	int pagemap_fd;
};

static bool none_probe(void)
{
	return true;
}

struct err *dirty_none_open_pid(pid_t pid, struct dirty **ret)
{
	struct dirty *d;
	int fd;

	TRY(pagemap_open(pid, &fd));
	d = xcalloc(1, sizeof(*d));
	d->pagemap_fd = fd;
	*ret = d;
	return NULL;
}

static struct err *none_open(struct task *t, struct dirty **ret)
{
	return dirty_none_open_pid(t->pid, ret);
}

static struct err *none_begin(struct dirty *d, unused_arg const struct vma_list *maps)
{
	return pagemap_check(d->pagemap_fd);
}

static void add_own(void *arg, uint64_t start, uint64_t end, unused_arg uint64_t categories)
{
	run_sink_add(arg, (struct range){ start, end }, PAGE_DATA);
}

static struct err *none_collect(
	struct dirty *d, const struct vma *v, struct page_runs *runs, struct vma_dirty *info)
{
	struct run_sink out = { runs, runs->n, v->inode != 0 };

	info->fresh = dirty_vma_tracked(v);
	if (!info->fresh)
		return NULL;
	if (v->shared) {
		dirty_whole(v, &out);
		return NULL;
	}
	return pagemap_own(d->pagemap_fd, (struct range){ v->start, v->end }, add_own, &out);
}

static void none_close(struct dirty *d)
{
	fd_closep(&d->pagemap_fd);
	free(d);
}

const struct dirty_ops dirty_none = {
	.name = "none",
	.probe = none_probe,
	.open = none_open,
	.begin = none_begin,
	.collect = none_collect,
	.close = none_close,
};
