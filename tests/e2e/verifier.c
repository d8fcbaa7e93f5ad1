// SPDX-License-Identifier: Apache-2.0
/*
 * Four threads do all sorts of things to their memory and look at it all the time, while it is
 * moved; the main thread's stack grows and shrinks. No page may ever be other than it must be.
 *
 *   e2e-verifier PORT MIB FILE [RATE [SHARED_FILE]]
 *
 * FILE is mapped and read, with O_DIRECT too, where its file system can: then a descriptor is open
 * half of the time. RATE: MiB that are written per second. SHARED_FILE: is made and mapped.
 *
 * Who connects to 127.0.0.1:PORT and sends a line gets
 *
 *   rounds R checks C wrong W moves M
 *
 * and what was wrong; R is that of the slowest thread. If the line is "end", all threads stop and
 * all is looked at before the answer; "done" is its last line, and the exit status 1 if anything
 * was wrong. If it is "page", the answer is an address at which nobody will write any more.
 */
#include "verifier.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define THREADS    4
#define FILE_MOST  512  /* pages */
#define CHURN_MOST 4096 /* each thread's, which mappings of all sizes make */
#define HEAP_PAGES 2048
#define FRAME      2048 /* words */
#define DEEP       64

static struct worker workers[THREADS];
static volatile bool ending;
static uint64_t rate_pages; /* per thread and second */
static const char *file_name;
static uint64_t *untouched;

/* ---- threads ---- */

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ll + t.tv_nsec / 1000;
}

static const struct deed *choose(struct worker *w, const struct lot *l)
{
	unsigned all = 0, n;

	for (size_t i = 0; i < l->n_deeds; i++)
		all += l->deeds[i].weight;
	n = (unsigned)dice(w, all);
	for (size_t i = 0;; i++) {
		if (n < l->deeds[i].weight)
			return &l->deeds[i];
		n -= l->deeds[i].weight;
	}
}

/* Whatever it is about is looked at first: afterwards nobody could tell. */
static void one_deed(struct worker *w)
{
	struct lot *l = &w->lots[dice(w, w->n_lots)];
	const struct deed *d = choose(w, l);
	uint32_t most = d->most < l->n ? d->most : l->n, n = 1 + (uint32_t)dice(w, most);
	uint32_t from = (uint32_t)dice(w, l->n - n + 1);

	for (uint32_t i = from; i < from + n; i++)
		page_check(l, i, true);
	l->deed = (uint8_t)(d - l->deeds);
	d->fn(l, from, n);
}

/* Some at random, and all in turn. */
static void look_around(struct worker *w)
{
	for (int i = 0; i < 4; i++) {
		struct lot *l = &w->lots[dice(w, w->n_lots)];

		page_check(l, (uint32_t)dice(w, l->n), true);
	}
	for (size_t i = 0; i < w->n_lots; i++) {
		struct lot *l = &w->lots[i];

		for (uint32_t k = 0; k <= l->pages / 4096; k++) {
			l->sweep = l->sweep + 1 < l->n ? l->sweep + 1 : 0;
			page_check(l, l->sweep, true);
		}
	}
}

/* A descriptor with O_DIRECT is there for a while, then not. */
static void turn_direct(struct worker *w, int64_t now, int64_t *next)
{
	if (now < *next)
		return;
	*next = now + 700000 + (int64_t)dice(w, 300000);
	if (w->direct >= 0)
		close(w->direct);
	w->direct = w->direct >= 0 ? -1 : open(file_name, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int64_t began = now_us(), turn = began;
	char name[16];

	snprintf(name, sizeof(name), "worker-%u", w->number);
	pthread_setname_np(pthread_self(), name);
	while (!ending) {
		int64_t now = now_us();

		/* after a stop it does not catch up */
		if (w->written < (uint64_t)(now - began) * rate_pages / 1000000) {
			one_deed(w);
		} else {
			usleep(1000);
			began = now;
			w->written = 0;
		}
		if (now - began > 100000) {
			began = now;
			w->written = 0;
		}
		look_around(w);
		turn_direct(w, now, &turn);
		w->rounds++;
	}
	return NULL;
}

/* ---- the stack of the main thread ---- */

__attribute__((noinline)) static void deep(unsigned depth, uint64_t stamp)
{
	volatile uint64_t frame[FRAME];
	uint64_t first = stamp * 0x9e3779b97f4a7c15ull;

	for (size_t k = 0; k < FRAME; k++)
		frame[k] = first + k;
	if (depth)
		deep(depth - 1, stamp + 1);
	else
		usleep(2000);
	for (size_t k = 0; k < FRAME; k++) {
		if (frame[k] == first + k)
			continue;
		difference(&workers[0].lots[0], 0, "word at %p of the stack is %#lx and not %#lx",
			(void *)(uintptr_t)&frame[k], frame[k], first + k);
		break;
	}
}

/* Each move shows by the host's name. */
static void count_moves(void)
{
	static char last[64];
	struct utsname u;

	uname(&u);
	if (*last && strcmp(last, u.nodename) != 0)
		moves++;
	snprintf(last, sizeof(last), "%.63s", u.nodename);
}

/* ---- what must not happen ---- */

static void on_fault(int sig, siginfo_t *si, void *context)
{
	(void)context;
	dprintf(1, "signal %d at %p, after move %lu\n", sig, si->si_addr, moves);
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < workers[t].n_lots; i++)
			for (size_t v = 0; v < 2; v++) {
				struct lot *l = &workers[t].lots[i];
				size_t at = (size_t)((char *)si->si_addr - l->view[v]);

				if (l->view[v] && at < l->pages * PAGE)
					difference(l, (uint32_t)(at / PAGE), "it faults");
			}
	_exit(1);
}

/* ---- answers ---- */

static void send_all(int fd, const char *text, size_t n)
{
	while (n) {
		ssize_t w = send(fd, text, n, MSG_NOSIGNAL);

		if (w <= 0)
			return;
		text += w;
		n -= (size_t)w;
	}
}

static void tell(int fd)
{
	static char text[65536];
	uint64_t rounds = UINT64_MAX, checks = 0;
	size_t n;

	for (size_t i = 0; i < THREADS; i++) {
		rounds = workers[i].rounds < rounds ? workers[i].rounds : rounds;
		checks += workers[i].checks;
	}
	n = (size_t)snprintf(text, sizeof(text), "rounds %lu checks %lu wrong %lu moves %lu\n",
		rounds, checks, wrong, moves);
	n += differences(text + n, sizeof(text) - n);
	send_all(fd, text, n);
}

/* Everything, through every mapping. What nobody has mapped must be nobody's: mapping it works. */
static void look_at_all(pthread_t *threads)
{
	ending = true;
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (size_t t = 0; t < THREADS; t++)
		for (size_t i = 0; i < workers[t].n_lots; i++) {
			struct lot *l = &workers[t].lots[i];

			model_total_check(l);
			for (uint32_t k = 0; k < l->n; k++)
				page_check(l, k, false);
			for (uint32_t k = 0; k < l->n; k++)
				if (model_get(l, k).what == GONE &&
					mmap(page_at(l, k), PAGE, PROT_NONE,
						ANON_FLAGS | MAP_FIXED_NOREPLACE, -1,
						0) != page_at(l, k))
					difference(l, k, "something is mapped there");
		}
	if (*untouched != 4711)
		difference(&workers[0].lots[0], 0, "word at %p is %#lx and not 4711",
			(void *)untouched, *untouched);
}

/* True at the end. */
static bool answer(int listener, pthread_t *threads)
{
	int fd = accept(listener, NULL, NULL);
	char line[64] = "", text[64];
	bool end;
	ssize_t n;

	if (fd < 0)
		return false;
	n = recv(fd, line, sizeof(line) - 1, 0);
	end = n > 0 && !strncmp(line, "end", 3);
	if (end)
		look_at_all(threads);
	if (n > 0 && !strncmp(line, "page", 4)) {
		n = snprintf(text, sizeof(text), "%p\n", (void *)untouched);
		send_all(fd, text, (size_t)n);
	} else {
		tell(fd);
	}
	if (end)
		send_all(fd, "done\n", 5);
	close(fd);
	return end;
}

static int listen_at(int port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sa.sin_port = htons((uint16_t)port);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	MUST(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 4) == 0);
	return fd;
}

/* ---- making it all ---- */

static void read_file(void)
{
	int fd = open(file_name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	MUST(fd >= 0 && fstat(fd, &st) == 0);
	file_pages = (uint32_t)(st.st_size / (off_t)PAGE);
	file_pages = file_pages > FILE_MOST ? FILE_MOST : file_pages;
	MUST(file_pages > 0);
	p = mmap(NULL, file_pages * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(p != MAP_FAILED);
	MUST(pread(fd, p, file_pages * PAGE, 0) == (ssize_t)(file_pages * PAGE));
	MUST(mprotect(p, file_pages * PAGE, PROT_READ) == 0);
	file_words = p;
	for (size_t i = 0; i < THREADS; i++) {
		workers[i].file = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		workers[i].direct = -1;
	}
	close(fd);
}

static struct lot *lot_add(
	struct worker *w, const char *name, uint32_t pages, const struct deed *d, size_t n)
{
	static uint32_t next;
	struct lot *l = &w->lots[w->n_lots++];

	*l = (struct lot){
		.name = name,
		.deeds = d,
		.n_deeds = n,
		.owner = w,
		.first = next,
		.pages = pages,
		.fd = -1,
	};
	next += pages;
	return l;
}

static int make_memfd(void)
{
	int fd = memfd_create("verifier", MFD_CLOEXEC);

	MUST(fd >= 0);
	return fd;
}

static void make_object(struct lot *l, const char *shared_file)
{
	switch (l->owner->number) {
	case 0:
		lot_object(l, make_memfd(), true);
		return;
	case 1:
		lot_object(l, -1, false);
		return;
	case 2:
		lot_object(l, make_memfd(), false);
		return;
	default:
		lot_object(l,
			shared_file
				? open(shared_file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
				: make_memfd(),
			true);
	}
}

/* A thread's share of memory, in lots. */
static void make_worker(struct worker *w, uint32_t pages, const char *shared_file)
{
	uint32_t churn = pages / 8 < CHURN_MOST ? pages / 8 : CHURN_MOST;
	uint32_t object = pages / 8, grown = pages / 8;
	uint32_t huge = (pages / 8 + 511) / 512 * 512;

	lot_private(lot_add(w, "churn", churn, churn_deeds, n_churn_deeds), false);
	lot_private(lot_add(w, "huge", huge, bulk_deeds, n_bulk_deeds), true);
	lot_private(
		lot_add(w, "bulk", pages - churn - object - grown - huge, bulk_deeds, n_bulk_deeds),
		false);
	make_object(lot_add(w, "object", object, object_deeds, n_object_deeds), shared_file);
	lot_grown(lot_add(w, "grown", grown, grown_deeds, n_grown_deeds));
	if (w->number == 0)
		lot_heap(lot_add(w, "heap", HEAP_PAGES, heap_deeds, n_heap_deeds));
}

static void make_all(uint32_t pages, const char *shared_file)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct timespec t;

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	untouched = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(untouched != MAP_FAILED);
	*untouched = 4711;
	clock_gettime(CLOCK_REALTIME, &t);
	read_file();
	models_make(pages + HEAP_PAGES);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].number = i;
		workers[i].seed = (uint64_t)t.tv_nsec * 2 + 1 + i * 7919u * 2;
		make_worker(&workers[i], pages / THREADS, shared_file);
	}
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	struct pollfd p = { .events = POLLIN };
	uint64_t stamp = 0, rate;

	if (argc < 4)
		return 2;
	file_name = argv[3];
	rate = argc > 4 ? strtoul(argv[4], NULL, 10) : 64;
	rate_pages = (rate << 20) / PAGE / THREADS;
	make_all((uint32_t)(strtoul(argv[2], NULL, 10) * 256), argc > 5 ? argv[5] : NULL);
	p.fd = listen_at(atoi(argv[1]));
	for (size_t i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
	for (;;) {
		count_moves();
		if (poll(&p, 1, 5) > 0 && answer(p.fd, threads))
			return wrong ? 1 : 0;
		stamp += DEEP;
		deep((unsigned)(stamp * 0x9e3779b97f4a7c15ull >> 58), stamp);
	}
}
