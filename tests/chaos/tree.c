// SPDX-License-Identifier: Apache-2.0
/*
 * A tree of processes that can be counted from outside: tree DIR KIB. Each has a file of its own in
 * DIR, beats.0 for the root (see beating.h), and for each of its beats it looks at all that it has.
 *
 * A turn begins at the root, every TICK_NS. Everyone passes the turn's number to its children,
 * beats, waits until they have answered with the same number, and answers its parent. In memory
 * that all share is a word for each, which its parent looks at after the answer, and one to which
 * all add: when the turn is over, the root finds there one for each process and turn. Each has a
 * record lock, on its byte of DIR/locks, and its parent looks who has it.
 *
 * If one of them ends, its parent ends too, and who has no parent any more: no part of it goes on
 * alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "beating.h"

#define TICK_NS     5000000
#define NAP_NS      4000000
#define ORPHANED_MS 2000
#define CHILDREN    2
#define THREADS     3

enum group { GROUP_OF_PARENT, GROUP_OWN, SESSION_OWN };
enum link { LINK_PIPES, LINK_SOCKETS };

/* subjects.py has its number of threads. */
static const struct place {
	int parent;
	enum group group;
	enum link link; /* to its parent */
	unsigned threads;
} places[] = {
	{ -1, GROUP_OF_PARENT, LINK_PIPES, 1 },
	{ 0, SESSION_OWN, LINK_SOCKETS, 1 },
	{ 0, GROUP_OWN, LINK_PIPES, THREADS },
	{ 1, GROUP_OWN, LINK_PIPES, 1 },
	{ 2, GROUP_OF_PARENT, LINK_SOCKETS, 1 },
	{ 1, GROUP_OF_PARENT, LINK_SOCKETS, 1 },
};
#define MEMBERS (sizeof(places) / sizeof(places[0]))

/* One end of it. */
struct ends {
	int in, out;
};

struct relative {
	unsigned number;
	pid_t pid;
	struct ends link;
};

struct shared {
	_Atomic uint64_t all;
	char unused[4096 - sizeof(uint64_t)];
	struct {
		volatile uint64_t turn;
		char unused[4096 - sizeof(uint64_t)];
	} of[MEMBERS];
};

struct member {
	unsigned number;
	int log_fd, lock_fd;
	struct beater beaters[THREADS];
	struct relative parent, children[CHILDREN];
	unsigned n_children;
	pid_t pid, group, session;
};

static struct shared *shared;
static struct member me;
static const char *dir;

/* Somebody has ended: so do we, and thereby all the others. */
static void end(void)
{
	_exit(0);
}

static uint64_t get(const struct ends *link)
{
	uint64_t number = 0;
	ssize_t n;

	do
		n = read(link->in, &number, sizeof(number));
	while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		end();
	return n == sizeof(number) ? number : 0;
}

static uint8_t give(const struct ends *link, uint64_t number)
{
	ssize_t n = write(link->out, &number, sizeof(number));

	if (n < 0 && errno == EPIPE)
		end();
	return n == sizeof(number) ? 0 : WRONG_LINK;
}

/* Its parent has ended, if nobody has the other end: the process that has another parent now has
 * lost it otherwise. */
static uint8_t look_at_parent(void)
{
	struct pollfd p = { .fd = me.parent.link.in, .events = POLLRDHUP };

	if (me.number && getppid() != me.parent.pid) {
		if (poll(&p, 1, ORPHANED_MS) > 0 && p.revents & (POLLHUP | POLLRDHUP))
			end();
		return WRONG_PARENT;
	}
	return getpid() == me.pid && getpgid(0) == me.group && getsid(0) == me.session ? 0
										   : WRONG_PARENT;
}

static bool is_child(pid_t pid)
{
	for (unsigned i = 0; i < me.n_children; i++)
		if (me.children[i].pid == pid)
			return true;
	return false;
}

/* They can be waited for, and run; and there are no others. */
static uint8_t look_at_children(void)
{
	siginfo_t info;
	int status;

	for (unsigned i = 0; i < me.n_children; i++) {
		pid_t got = waitpid(me.children[i].pid, &status, WNOHANG);

		if (got == me.children[i].pid)
			end();
		if (got != 0)
			return WRONG_CHILD;
	}
	memset(&info, 0, sizeof(info));
	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
		return me.n_children || errno != ECHILD ? WRONG_CHILD : 0;
	if (info.si_pid)
		return is_child(info.si_pid) ? 0 : WRONG_CHILD;
	return me.n_children ? 0 : WRONG_CHILD;
}

static struct flock byte_lock(unsigned number)
{
	return (struct flock){
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = number, .l_len = 1
	};
}

static uint8_t look_at_lock(const struct relative *child)
{
	struct flock l = byte_lock(child->number);

	if (fcntl(me.lock_fd, F_GETLK, &l) < 0)
		return WRONG_CALL;
	return l.l_type == F_WRLCK && l.l_pid == child->pid ? 0 : WRONG_LOCK;
}

static uint8_t answers(uint64_t turn)
{
	uint8_t wrong = 0;

	for (unsigned i = 0; i < me.n_children; i++) {
		const struct relative *c = &me.children[i];

		if (get(&c->link) != turn)
			wrong |= WRONG_LINK;
		if (shared->of[c->number].turn != turn)
			wrong |= WRONG_SHARED;
		wrong |= look_at_lock(c);
	}
	return wrong;
}

static uint64_t next_turn(uint8_t *wrong)
{
	const struct timespec t = { 0, TICK_NS };

	if (me.number)
		return get(&me.parent.link);
	if (nanosleep(&t, NULL) < 0)
		*wrong |= WRONG_CALL;
	return me.beaters[0].beats + 1;
}

/* What is found wrong after the beat goes into the next one. */
static uint8_t take_turn(uint8_t wrong)
{
	uint64_t turn = next_turn(&wrong), next = me.beaters[0].beats + 1;

	if (turn != next)
		wrong |= WRONG_LINK;
	if (shared->of[me.number].turn != next - 1)
		wrong |= WRONG_SHARED;
	shared->of[me.number].turn = next;
	atomic_fetch_add(&shared->all, 1);
	wrong |= look_at_parent() | look_at_children();
	for (unsigned i = 0; i < me.n_children; i++)
		wrong |= give(&me.children[i].link, turn);
	beating_beat(&me.beaters[0], me.log_fd, wrong);
	wrong = answers(turn);
	if (me.number)
		wrong |= give(&me.parent.link, turn);
	else if (atomic_load(&shared->all) != turn * MEMBERS)
		wrong |= WRONG_SHARED;
	return wrong;
}

static void *beat_alone(void *arg)
{
	const struct timespec t = { 0, NAP_NS };
	struct beater *b = arg;

	for (;;)
		beating_beat(b, me.log_fd, nanosleep(&t, NULL) < 0 ? WRONG_CALL : 0);
	return NULL;
}

static int make_link(enum link kind, struct ends *up, struct ends *down)
{
	int a[2], b[2];

	if (kind == LINK_SOCKETS) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, a) < 0)
			return -1;
		*up = (struct ends){ a[0], a[0] };
		*down = (struct ends){ a[1], a[1] };
		return 0;
	}
	if (pipe(a) < 0 || pipe(b) < 0)
		return -1;
	*up = (struct ends){ a[0], b[1] };
	*down = (struct ends){ b[0], a[1] };
	return 0;
}

static void shut(const struct ends *link)
{
	close(link->in);
	if (link->out != link->in)
		close(link->out);
}

static void become(unsigned number, pid_t parent, const struct ends *link)
{
	const struct place *p = &places[number];

	/* The links of who has made us are not ours. */
	if (me.number)
		shut(&me.parent.link);
	for (unsigned i = 0; i < me.n_children; i++)
		shut(&me.children[i].link);
	me.number = number;
	me.n_children = 0;
	me.parent = (struct relative){ (unsigned)p->parent, parent, *link };
	if ((p->group == SESSION_OWN && setsid() < 0) ||
		(p->group == GROUP_OWN && setpgid(0, 0) < 0))
		_exit(2);
}

/* Returns once in each of the processes. */
static void make_children(void)
{
	for (unsigned i = 1; i < MEMBERS; i++) {
		struct ends up, down;
		pid_t us = getpid(), pid;

		if (places[i].parent != (int)me.number)
			continue;
		if (make_link(places[i].link, &up, &down) < 0 || (pid = fork()) < 0)
			_exit(2);
		if (pid == 0) {
			shut(&down);
			become(i, us, &up);
			i = 0; /* those of ours, from the first one on */
			continue;
		}
		shut(&up);
		me.children[me.n_children++] = (struct relative){ i, pid, down };
	}
}

static int live(void)
{
	struct flock lock = byte_lock(me.number);
	char path[4096];
	pthread_t t;
	uint8_t wrong = 0;

	me.pid = getpid();
	me.group = getpgid(0);
	me.session = getsid(0);
	if (snprintf(path, sizeof(path), "%s/beats.%u", dir, me.number) >= (int)sizeof(path))
		return 2;
	me.log_fd = beating_open(path);
	if (me.log_fd < 0 || fcntl(me.lock_fd, F_SETLK, &lock) < 0)
		return 2;
	for (unsigned i = 1; i < places[me.number].threads; i++)
		if (pthread_create(&t, NULL, beat_alone, &me.beaters[i]) != 0)
			return 2;
	for (;;)
		wrong = take_turn(wrong);
}

int main(int argc, char **argv)
{
	size_t bytes = argc > 2 ? (size_t)atoi(argv[2]) << 10 : 0;
	char path[4096];

	if (!bytes || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return 2;
	dir = argv[1];
	if (snprintf(path, sizeof(path), "%s/locks", dir) >= (int)sizeof(path))
		return 2;
	me.lock_fd = open(path, O_RDWR | O_CREAT, 0644);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		-1, 0);
	if (shared == MAP_FAILED || me.lock_fd < 0)
		return 2;
	for (unsigned i = 0; i < THREADS; i++) {
		void *p;

		me.beaters[i].number = i;
		p = beating_pages(&me.beaters[i], bytes);
		if (!p)
			return 2;
		/* So that all share these pages at first, until each writes its own. */
		memset(p, 0, bytes);
	}
	make_children();
	return live();
}
