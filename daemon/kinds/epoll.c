// SPDX-License-Identifier: Apache-2.0
/*
 * An epoll instance: its items, from the tfd lines of fdinfo, in order of their descriptor numbers.
 *
 * The kernel keys an item by open file and by the number under which it was added. A number that
 * was closed meanwhile (the file lives on by a duplicate) or leads to another file cannot be added
 * again and is refused; kcmp(KCMP_EPOLL_TFD) tells. Adding is done by remote calls, since a number
 * only means something in the process.
 *
 * What was ready but not fetched needs no care: adding an item looks whether it is ready now. For
 * EPOLLET that can be one more edge than there was, which every user of EPOLLET must expect. A
 * fired EPOLLONESHOT item is disarmed, a state that epoll_ctl() cannot set (it always adds EPOLLERR
 * and EPOLLHUP): such an item is added first, armed for anything, and fires into a fetch of ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"
#include "epoll.pb-c.h"
#include "kinds/kind.h"

#define STATUS_FLAGS (SETFL_FLAGS | O_ASYNC)
/* EP_PRIVATE_BITS of the kernel: what is left of the events when a one-shot item has fired. */
#define PRIVATE_BITS (EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE)
#define ANYTHING     (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP)
#define ITEMS_MAX    (1u << 20)

static bool epoll_claims(const struct file *f)
{
	return strcmp(f->link, "anon_inode:[eventpoll]") == 0;
}

struct item {
	uint64_t number, events, data, ino;
	unsigned nth; /* among the items of the same number, in the kernel's order */
};

struct items {
	struct item *v;
	size_t n, cap;
};

/* "tfd:        5 events:       19 data:                5  pos:0 ino:61 sdev:14" */
static struct err *parse_items(struct arena *a, const char *fdinfo, struct items *ret)
{
	const char *p = fdinfo;

	while ((p = strstr(p, "tfd:"))) {
		struct item i = { 0 };
		const char *q = p + 4;

		q += strspn(q, " ");
		if (!text_scan_u64(&q, 10, &i.number) || !text_scan_lit(&q, " events:"))
			return err_new(ERR_KERNEL, "item of an epoll descriptor does not parse");
		q += strspn(q, " ");
		if (!text_scan_u64(&q, 16, &i.events) || !text_scan_lit(&q, " data:"))
			return err_new(ERR_KERNEL, "item of an epoll descriptor does not parse");
		q += strspn(q, " ");
		if (!text_scan_u64(&q, 16, &i.data))
			return err_new(ERR_KERNEL, "item of an epoll descriptor does not parse");
		p = q;
		q = strstr(q, "ino:");
		if (!q || (q += 4, !text_scan_u64(&q, 16, &i.ino)))
			return err_new(ERR_KERNEL, "item of an epoll descriptor has no inode");
		ret->v = arena_grow(a, ret->v, &ret->cap, ret->n + 1, sizeof(*ret->v));
		ret->v[ret->n++] = i;
	}
	return NULL;
}

/* By number; equal numbers stay in the kernel's order, which is then written into nth. */
static int item_cmp(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return (x->nth > y->nth) - (x->nth < y->nth);
}

static void sort_items(struct items *l)
{
	for (size_t i = 0; i < l->n; i++)
		l->v[i].nth = (unsigned)i;
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), item_cmp);
	for (size_t i = 0; i < l->n; i++)
		l->v[i].nth = i && l->v[i].number == l->v[i - 1].number ? l->v[i - 1].nth + 1 : 0;
}

/* Does the number still lead to the file that was added? Inode numbers decide for sockets, which
 * cannot be opened twice; asking the kernel costs a walk over all items. */
static bool item_current(struct capture *c, const struct item *i)
{
	const struct file *f = file_by_number(c->files, (int)i->number);
	struct kcmp_epoll_slot slot = {
		.efd = (uint32_t)c->file->slots[0].number,
		.tfd = (uint32_t)i->number,
		.toff = i->nth,
	};

	if (!f || f->st.st_ino != i->ino)
		return false;
	if (S_ISSOCK(f->st.st_mode))
		return true;
	return syscall(SYS_kcmp, c->task->pid, c->task->pid, KCMP_EPOLL_TFD, i->number, &slot) == 0;
}

static struct err *refuse_item(const struct item *i)
{
	return err_hint(
		err_new(ERR_UNSUPPORTED,
			"it watches a file that was added as descriptor %ju and is now only "
			"open under another number",
			(uintmax_t)i->number),
		"the program should remove a descriptor from epoll before closing it");
}

/* A running target may have closed it since: then it is no item any more either. */
static struct err *still_there(struct capture *c, const struct item *i, bool *there)
{
	struct items now = { 0 };
	char *text;

	*there = false;
	TRY(proc_fdinfo(c->arena, c->task->pid, c->file->slots[0].number, &text));
	TRY(parse_items(c->arena, text, &now));
	for (size_t k = 0; k < now.n; k++)
		if (now.v[k].number == i->number && now.v[k].ino == i->ino)
			*there = true;
	return NULL;
}

static struct err *epoll_capture(struct capture *c)
{
	Migrate__Kind__Epoll m = MIGRATE__KIND__EPOLL__INIT;
	struct items l = { 0 };
	struct object *o;

	TRY(parse_items(c->arena, c->file->fdinfo, &l));
	if (l.n > ITEMS_MAX)
		return err_new(ERR_LIMIT, "%zu items are too many", l.n);
	sort_items(&l);
	m.flags = c->file->flags & STATUS_FLAGS;
	m.items = arena_array(c->arena, l.n, sizeof(*m.items));
	for (size_t i = 0; i < l.n; i++) {
		Migrate__Kind__EpollItem *it;
		bool there = true;

		if (!item_current(c, &l.v[i])) {
			if (!c->stopped)
				TRY(still_there(c, &l.v[i], &there));
			if (there)
				return refuse_item(&l.v[i]);
			continue;
		}
		it = arena_alloc(c->arena, sizeof(*it));
		migrate__kind__epoll_item__init(it);
		it->number = (uint32_t)l.v[i].number;
		it->events = (uint32_t)l.v[i].events;
		it->data = l.v[i].data;
		m.items[m.n_items++] = it;
	}
	o = capture_emit(c, c->file->id, &m.base);
	for (size_t i = 0; i < m.n_items; i++)
		capture_ref(c, o, (int)m.items[i]->number);
	return NULL;
}

static struct err *epoll_rebuild(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg, int *fd)
{
	const Migrate__Kind__Epoll *m = msg;
	autoclose int made = epoll_create1(EPOLL_CLOEXEC);

	if (made < 0)
		return err_errno(errno, "make an epoll descriptor");
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of an epoll descriptor");
	*fd = take_fd(&made);
	return NULL;
}

static bool disarmed(const Migrate__Kind__EpollItem *it)
{
	return (it->events & EPOLLONESHOT) && !(it->events & ~PRIVATE_BITS);
}

/* One epoll_ctl for every item that is disarmed, or not, or for both. */
struct change {
	struct rebuild *r;
	uint64_t epfd;
	int op;
	bool on_disarmed, on_armed;
	bool any_error; /* is fine */
	int may_fail;   /* this errno is fine */
};

static struct err *change_run(
	const struct change *ch, struct call *calls, const struct epoll_event *events, size_t n)
{
	struct rebuild *r = ch->r;

	if (!n)
		return NULL;
	TRY(remote_put(r->task, 0, events, n * sizeof(*events)));
	TRY(remote_run(r->task, r->thread, calls, n));
	for (size_t i = 0; i < n; i++)
		if (calls[i].ret < 0 && !ch->any_error && calls[i].ret != -ch->may_fail)
			return err_errno((int)-calls[i].ret, "watch descriptor %ju by epoll",
				(uintmax_t)calls[i].args[2]);
	return NULL;
}

static struct err *change_items(const struct change *ch, const Migrate__Kind__Epoll *m)
{
	struct call calls[REMOTE_CALLS_MAX];
	struct epoll_event events[REMOTE_CALLS_MAX];
	uint64_t at = remote_scratch(ch->r->task).v;
	size_t n = 0;

	for (size_t i = 0; i < m->n_items; i++) {
		const Migrate__Kind__EpollItem *it = m->items[i];

		if (!(disarmed(it) ? ch->on_disarmed : ch->on_armed))
			continue;
		events[n].events = it->events;
		events[n].data.u64 = it->data;
		calls[n] = (struct call){ .nr = SYS_epoll_ctl,
			.args = { ch->epfd, (uint64_t)ch->op, it->number,
				at + n * sizeof(*events) } };
		if (++n == REMOTE_CALLS_MAX) {
			TRY(change_run(ch, calls, events, n));
			n = 0;
		}
	}
	return change_run(ch, calls, events, n);
}

/* Adds one item armed for anything and fetches what fires. */
static struct err *fire(
	struct rebuild *r, uint64_t epfd, const Migrate__Kind__EpollItem *it, bool *fired)
{
	const size_t room = 16;
	uint64_t at = remote_scratch(r->task).v;
	struct epoll_event ev = { .events = it->events | ANYTHING, .data.u64 = it->data };
	struct call calls[] = {
		{ SYS_epoll_ctl, { epfd, EPOLL_CTL_ADD, it->number, at }, 0 },
		{ SYS_epoll_pwait, { epfd, at + sizeof(ev), room, 0, 0, sizeof(uint64_t) }, 0 },
	};

	TRY(remote_put(r->task, 0, &ev, sizeof(ev)));
	TRY(remote_run(r->task, r->thread, calls, ARRAY_LEN(calls)));
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if (calls[i].ret < 0)
			return err_errno(
				(int)-calls[i].ret, "watch descriptor %u by epoll", it->number);
	*fired = calls[1].ret > 0;
	return NULL;
}

/* An item that is ready for nothing cannot fire: the nearest is that it still sees errors and
 * hangups. */
static struct err *add_disarmed(struct rebuild *r, const Migrate__Kind__Epoll *m, uint64_t epfd)
{
	for (size_t i = 0; i < m->n_items; i++) {
		const Migrate__Kind__EpollItem *it = m->items[i];
		struct epoll_event ev = { .events = it->events, .data.u64 = it->data };
		bool fired = false;

		if (!disarmed(it))
			continue;
		TRY(fire(r, epfd, it, &fired));
		if (fired)
			continue;
		TRY(remote_put(r->task, 0, &ev, sizeof(ev)));
		TRY(REMOTE(r->task, r->thread, NULL, "watch a descriptor by epoll", SYS_epoll_ctl,
			epfd, EPOLL_CTL_MOD, it->number, remote_scratch(r->task).v));
	}
	return NULL;
}

static struct err *epoll_link(struct rebuild *r, const struct object *o, const void *msg)
{
	const Migrate__Kind__Epoll *m = msg;
	uint64_t epfd = (uint64_t)o->slots[0].number;
	struct change del = { r, epfd, EPOLL_CTL_DEL, true, true, .any_error = true };
	struct change add = { r, epfd, EPOLL_CTL_ADD, false, true, .may_fail = EEXIST };
	bool any = false;

	for (size_t i = 0; i < m->n_items; i++)
		any |= disarmed(m->items[i]);
	/* Linked again, because a file was made anew: its item went with the old file, all others
	 * are there and as they should be (else this would be a new epoll). Disarmed items need an
	 * epoll that has nothing else that could fire. */
	if (any) {
		TRY(change_items(&del, m));
		TRY(add_disarmed(r, m, epfd));
	}
	return change_items(&add, m);
}

const struct kind kind_epoll = {
	.id = 25,
	.name = "epoll",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__epoll__descriptor,
	.claims = epoll_claims,
	.capture = epoll_capture,
	.rebuild = epoll_rebuild,
	.link = epoll_link,
};
