// SPDX-License-Identifier: Apache-2.0
/*
 * One contract for both ways into a process: random frames over all sorts of memory, against a
 * model of what each page must hold then. The stream gives its bytes in pieces of all sizes, so
 * that they fit no page, no run and no frame.
 */
#include "pages/pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <endian.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "odd_stream.h"
#include "puppet.h"
#include "remote_puppet.h"

#define AT     PUPPET_AT /* two huge pages' worth is aligned */
#define HUGE_P 512
#define FRAMES 60
#define FILE_P 64
#define SHARED 7

/* What a page of the model holds: nothing that was sent (0: zeros, or the file), zeros, or words
 * made of its number and this. */
enum { FRESH = 0, ZEROS = 1, SEEDED = 2 };

enum sort { WRITABLE, READABLE, UNREACHABLE, OF_FILE, HUGE, STALE, SORTS };
/* In pages; with holes in between. */
static const struct {
	uint64_t at, n;
} places[SORTS] = {
	[HUGE] = { 0, 2 * HUGE_P },
	[WRITABLE] = { 3 * HUGE_P, 300 },
	[READABLE] = { 4 * HUGE_P, 40 },
	[UNREACHABLE] = { 5 * HUGE_P, 40 },
	[OF_FILE] = { 6 * HUGE_P, FILE_P },
	[STALE] = { 7 * HUGE_P, 40 },
};
#define ALL_P    (8 * HUGE_P)
#define SHARED_P 200

struct world {
	struct puppet_task task;
	struct page_sink *sink;
	struct stream streams[2];
	struct channel out, in;
	int shared;
	uint64_t seed;
	uint64_t model[ALL_P], shared_model[SHARED_P];
	/* the frame on its way */
	uint8_t body[RUN_HEAD_BYTES + 300 * RUN_BYTES + PAGES_FRAME_BYTES];
	size_t len;
	uint64_t space;
	struct err *sent;
};

struct variant {
	enum page_sink_way way;
	struct odd odd;
	uint64_t seed;
};

static int space_fd(void *arg, uint64_t space)
{
	return space == SHARED ? ((struct world *)arg)->shared : -1;
}

static uint64_t any_of(struct world *w, uint64_t n)
{
	return odd_next(&w->seed) % n;
}

static void fill_page(uint8_t *page, uint64_t number, uint64_t what)
{
	uint64_t word;

	memset(page, 0, P);
	for (size_t i = 0; i < P && what >= SEEDED; i += sizeof(word)) {
		word = (number * P + i) * 0x9e3779b97f4a7c15ULL + what;
		memcpy(page + i, &word, sizeof(word));
	}
}

/* ---- the memory ---- */

static void map_file(struct world *w)
{
	struct puppet *p = &w->task.puppet;
	uint64_t page = map(p, 0, P, -1);
	long fd;

	touch(p, page, 1, 'x');
	fd = CALL(p, SYS_memfd_create, (long)page, 0);
	assert_true(fd >= 0);
	for (long i = 0; i < FILE_P; i++) {
		touch(p, page, 1, (uint8_t)(i + 1));
		CALL(p, SYS_pwrite64, fd, (long)page, 1, i * (long)P);
	}
	map(p, AT + places[OF_FILE].at * P, places[OF_FILE].n * P, (int)fd);
}

static void make_memory(struct world *w)
{
	static const long prots[SORTS] = { [READABLE] = PROT_READ, [STALE] = PROT_READ };
	struct puppet *p = &w->task.puppet;
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	for (int i = 0; i < SORTS; i++)
		if (i == OF_FILE)
			map_file(w);
		else
			map(p, AT + places[i].at * P, places[i].n * P, -1);
	CALL(p, SYS_madvise, (long)AT, 2 * HUGE_P * P, MADV_HUGEPAGE);
	for (int i = READABLE; i <= UNREACHABLE; i++)
		CALL(p, SYS_mprotect, (long)(AT + places[i].at * P), (long)(places[i].n * P),
			prots[i]);
	ok(proc_smaps(a, w->task.t.pid, &l));
	ok(page_sink_layout(w->sink, &l));
	/* and what the sink has not been told */
	CALL(p, SYS_mprotect, (long)(AT + places[STALE].at * P), (long)(places[STALE].n * P),
		prots[STALE]);
}

static void world_open(struct world *w, const struct variant *v)
{
	int ends[2];

	w->seed = v->seed;
	puppet_task_start(&w->task);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	for (int i = 0; i < 2; i++)
		ok(odd_stream(ends[i], v->odd, &w->streams[i]));
	channel_init(&w->out, &w->streams[0], -1);
	channel_init(&w->in, &w->streams[1], -1);
	w->out.deadline = w->in.deadline = deadline_in(60000000);
	w->shared = memfd_create("shared", MFD_CLOEXEC);
	assert_int_equal(ftruncate(w->shared, 10 * P), 0);
	ok(page_sink_open(&(struct page_sink_spec){ &w->task.t, space_fd, w, v->way }, &w->sink));
	make_memory(w);
}

static void world_close(struct world *w)
{
	page_sink_close(w->sink);
	puppet_task_stop(&w->task);
	close(w->shared);
	for (int i = 0; i < 2; i++)
		stream_close(&w->streams[i]);
	free(w);
}

/* ---- frames ---- */

struct making {
	struct run runs[300];
	size_t n, data; /* pages */
};

/* Some pages of the model. */
struct stretch {
	uint64_t *model, n, start; /* start: the address of the first */
};

/* A run in this stretch, which becomes what the run makes of it. */
static void add_run(struct world *w, struct making *m, struct stretch to, uint64_t seed)
{
	struct run *r = &m->runs[m->n++];
	uint64_t most = any_of(w, 4) ? 8 : 200, at;

	*r = (struct run){ .pages = 1 + any_of(w, most), .kind = RUN_DATA };
	r->pages = MIN(r->pages, to.n);
	if (any_of(w, 4) == 0)
		r->kind = any_of(w, 2) ? RUN_ZERO : RUN_DROP;
	if (r->kind == RUN_DATA) {
		r->pages = MIN(r->pages, PAGES_FRAME_BYTES / P - m->data);
		m->data += r->pages;
	}
	at = any_of(w, to.n - r->pages + 1);
	r->start = to.start + at * P;
	for (uint64_t i = at; i < at + r->pages; i++)
		to.model[i] = r->kind == RUN_DROP ? FRESH : r->kind == RUN_ZERO ? ZEROS : seed;
}

static void write_frame(struct world *w, const struct making *m, const uint64_t *seeds)
{
	uint32_t head[2] = { htole32((uint32_t)m->n), 0 };

	memcpy(w->body, head, sizeof(head));
	w->len = RUN_HEAD_BYTES;
	for (size_t i = 0; i < m->n; i++, w->len += RUN_BYTES)
		run_encode(&m->runs[i], w->body + w->len);
	for (size_t i = 0; i < m->n; i++)
		for (uint64_t k = 0; m->runs[i].kind == RUN_DATA && k < m->runs[i].pages;
			k++, w->len += P)
			fill_page(w->body + w->len, m->runs[i].start / P + k, seeds[i]);
}

/* One frame of a space; runs of private memory lie in mappings of all sorts. */
static void make_frame(struct world *w)
{
	struct making m = { .n = 0 };
	size_t want = 1 + any_of(w, any_of(w, 3) ? 12 : 300);
	uint64_t seeds[300];

	w->space = any_of(w, 4) ? SPACE_PRIVATE : SHARED;
	while (m.n < want && m.data < PAGES_FRAME_BYTES / P) {
		uint64_t sort = any_of(w, SORTS), at = places[sort].at;
		struct stretch to = { w->model + at, places[sort].n, AT + at * P };

		if (w->space == SHARED)
			to = (struct stretch){ w->shared_model, SHARED_P, 0 };
		seeds[m.n] = SEEDED + any_of(w, 1000000);
		add_run(w, &m, to, seeds[m.n]);
	}
	write_frame(w, &m, seeds);
}

static void *send_frame(void *arg)
{
	struct world *w = arg;

	w->sent = channel_send(&w->out, FRAME_PAGES, w->space, w->body, w->len);
	return NULL;
}

static void transfer(struct world *w)
{
	struct frame_head h;
	pthread_t sender;

	assert_int_equal(pthread_create(&sender, NULL, send_frame, w), 0);
	ok(channel_head(&w->in, &h));
	ok(page_sink_frame(w->sink, &h, &w->in));
	pthread_join(sender, NULL);
	ok(w->sent);
}

/* ---- what must be there ---- */

static void expected(uint8_t *page, enum sort sort, uint64_t number, uint64_t what)
{
	fill_page(page, number, what);
	if (sort == OF_FILE && what == FRESH)
		page[0] = (uint8_t)(number - AT / P - places[OF_FILE].at + 1);
}

static void compare_private(struct world *w)
{
	uint8_t want[PAGE_BYTES], have[PAGE_BYTES];

	for (int s = 0; s < SORTS; s++)
		for (uint64_t i = places[s].at; i < places[s].at + places[s].n; i++) {
			off_t at = (off_t)(AT + i * P);

			expected(want, (enum sort)s, AT / P + i, w->model[i]);
			/* what is missing in registered memory cannot be read */
			memset(have, 0, sizeof(have));
			if (pread(w->task.t.mem_fd, have, P, at) < 0)
				assert_int_equal(errno, EIO);
			if (memcmp(want, have, P))
				fail_msg("page %ju of memory %d differs",
					(uintmax_t)(i - places[s].at), s);
		}
}

static void compare_shared(struct world *w)
{
	uint8_t want[PAGE_BYTES], have[PAGE_BYTES];

	for (uint64_t i = 0; i < SHARED_P; i++) {
		fill_page(want, i, w->shared_model[i]);
		memset(have, 0, sizeof(have));
		assert_true(pread(w->shared, have, P, (off_t)(i * P)) >= 0);
		if (memcmp(want, have, P))
			fail_msg("page %ju of shared memory differs", (uintmax_t)i);
	}
}

static void random_frames(void **state)
{
	const struct variant *v = *state;
	struct world *w = xcalloc(1, sizeof(*w));

	world_open(w, v);
	for (int i = 0; i < FRAMES; i++) {
		make_frame(w);
		transfer(w);
		if (i % 10 == 9) {
			ok(page_sink_settle(w->sink));
			compare_private(w);
			compare_shared(w);
		}
	}
	ok(page_sink_leave(w->sink));
	compare_private(w);
	world_close(w);
}

int main(void)
{
	static const struct variant variants[] = {
		{ SINK_COPY, { 0, 0 }, 1 },
		{ SINK_COPY, { 0, 3000 }, 2 },
		{ SINK_SPLICE, { 0, 0 }, 1 },
		{ SINK_SPLICE, { 0, 0 }, 3 },
		{ SINK_SPLICE, { 0, 16384 }, 4 },
		{ SINK_SPLICE, { 0, 100 }, 5 },
		{ SINK_SPLICE, { 333, 0 }, 6 },
		{ SINK_SPLICE, { 5000, 5000 }, 7 },
	};
	struct CMUnitTest tests[ARRAY_LEN(variants)];

	for (size_t i = 0; i < ARRAY_LEN(variants); i++)
		tests[i] = (struct CMUnitTest)cmocka_unit_test_prestate(
			random_frames, (void *)(uintptr_t)&variants[i]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
