// SPDX-License-Identifier: Apache-2.0
/* Source and sink together: one process's memory into another's, over a socketpair; both ways in.
 */
#include "pages/pages_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "kernel/dirty.h"
#include "kernel/dirty_priv.h"
#include "odd_stream.h"
#include "puppet.h"
#include "remote_puppet.h"

#define AT PUPPET_AT

/* The way in; bytes come as records of kernel TLS would. */
static enum page_sink_way way;

struct pair {
	struct puppet_task from, to;
	struct page_source *source;
	struct page_sink *sink;
	struct channel out, in;
	int ends[2], shared[2];
	struct stream streams[2];
	/* what the sender sends, in a thread of its own */
	struct page_runs runs;
	uint64_t shared_bytes;
	struct pages_stats st;
	struct err *sent;
};

static int space_fd(void *arg, uint64_t space)
{
	return space == 1 ? ((struct pair *)arg)->shared[1] : -1;
}

static void pair_open(struct pair *p)
{
	*p = (struct pair){ .shared = { -1, -1 } };
	puppet_task_start(&p->from);
	puppet_task_start(&p->to);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->ends), 0);
	for (int i = 0; i < 2; i++)
		ok(odd_stream(p->ends[i], (struct odd){ .in_max = 16384 }, &p->streams[i]));
	channel_init(&p->out, &p->streams[0], -1);
	channel_init(&p->in, &p->streams[1], -1);
	p->out.deadline = p->in.deadline = deadline_in(60000000);
	ok(source_copy.open(&p->from.t, SPACE_PRIVATE, &p->source));
	ok(page_sink_open(&(struct page_sink_spec){ &p->to.t, space_fd, p, way }, &p->sink));
}

static void pair_close(struct pair *p)
{
	source_copy.close(p->source);
	page_sink_close(p->sink);
	page_runs_fini(&p->runs);
	puppet_task_stop(&p->from);
	puppet_task_stop(&p->to);
	stream_close(&p->streams[0]);
	stream_close(&p->streams[1]);
}

static void *send_all(void *arg)
{
	struct pair *p = arg;
	const struct shared_part part = { 1, p->shared[0], 0, p->shared_bytes };

	if (part.bytes)
		p->sent = source_copy.send_shared(p->source, &part, &p->out, &p->st);
	else
		p->sent = source_copy.send(p->source, &p->runs, &p->out, &p->st);
	if (!p->sent)
		p->sent = channel_send(&p->out, FRAME_BYE, 0, NULL, 0);
	return NULL;
}

/* Returns the number of PAGES frames. */
static size_t transfer(struct pair *p)
{
	size_t frames = 0;
	pthread_t sender;

	p->st = (struct pages_stats){ 0 };
	assert_int_equal(pthread_create(&sender, NULL, send_all, p), 0);
	for (;; frames++) {
		struct frame_head h;

		ok(channel_head(&p->in, &h));
		if (h.type == FRAME_BYE)
			break;
		ok(page_sink_frame(p->sink, &h, &p->in));
	}
	ok(page_sink_settle(p->sink));
	pthread_join(sender, NULL);
	ok(p->sent);
	return frames;
}

static void layout(struct pair *p)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	ok(proc_smaps(a, p->to.t.pid, &l));
	ok(page_sink_layout(p->sink, &l));
}

static void both(struct pair *p, long nr, uint64_t a, uint64_t b, long c)
{
	CALL(&p->from.puppet, nr, (long)a, (long)b, c);
	CALL(&p->to.puppet, nr, (long)a, (long)b, c);
}

static void fill(struct pair *p, uint64_t at, uint64_t pages, unsigned seed)
{
	uint64_t words[PAGE_BYTES / 8];

	for (uint64_t i = 0; i < pages; i++) {
		for (size_t k = 0; k < ARRAY_LEN(words); k++)
			words[k] = (at + i * P + k) * 0x9e3779b97f4a7c15ULL + seed;
		assert_int_equal(pwrite(p->from.t.mem_fd, words, P, (off_t)(at + i * P)), P);
	}
}

static void compare(struct pair *p, uint64_t at, uint64_t pages)
{
	uint8_t a[PAGE_BYTES], b[PAGE_BYTES];

	for (uint64_t i = 0; i < pages; i++) {
		off_t where = (off_t)(at + i * P);

		assert_int_equal(pread(p->from.t.mem_fd, a, P, where), P);
		/* What is missing cannot even be read while the sink is open. */
		memset(b, 0, sizeof(b));
		if (pread(p->to.t.mem_fd, b, P, where) < 0)
			assert_int_equal(errno, EIO);
		if (memcmp(a, b, P))
			fail_msg("page %ju differs", (uintmax_t)i);
	}
}

/* All own pages of the source below AT + bytes. */
static void find_runs(struct pair *p, uint64_t bytes)
{
	autoarena struct arena *a = arena_new();
	struct dirty *d;
	struct vma_list l;

	ok(dirty_none_open_pid(p->from.t.pid, &d));
	ok(proc_maps(a, p->from.t.pid, &l));
	p->runs.n = 0;
	for (size_t i = 0; i < l.n; i++) {
		struct vma_dirty info;

		if (l.v[i].start >= AT && l.v[i].end <= AT + bytes)
			ok(dirty_none.collect(d, &l.v[i], &p->runs, &info));
	}
	dirty_none.close(d);
}

static void every_kind_of_memory(unused_arg void **state)
{
	const uint64_t part = 600, all = 5 * part; /* more than two frames each */
	struct pair p;

	pair_open(&p);
	assert_int_equal(map(&p.from.puppet, AT, all * P, -1), AT);
	assert_int_equal(map(&p.to.puppet, AT, all * P, -1), AT);
	both(&p, SYS_mprotect, AT + part * P, part * P, PROT_READ);
	both(&p, SYS_mprotect, AT + 2 * part * P, part * P, PROT_NONE);
	layout(&p);
	fill(&p, AT, part, 1);
	fill(&p, AT + part * P, part, 2);
	fill(&p, AT + 2 * part * P, part, 3);
	for (uint64_t i = 0; i < part; i += 2) /* scattered */
		fill(&p, AT + (3 * part + i) * P, 1, 4);
	for (uint64_t i = 0; i < part; i++) /* zeros in between, present */
		if (i % 3)
			fill(&p, AT + (4 * part + i) * P, 1, 5);
		else
			touch(&p.from.puppet, AT + (4 * part + i) * P, 1, 0);
	find_runs(&p, all * P);
	assert_true(transfer(&p) > 8);
	assert_int_equal(p.st.pages_data, 3 * part + part / 2 + part / 3 * 2);
	assert_int_equal(p.st.pages_zero, part / 3);
	assert_int_equal(p.st.bytes_wire + FRAME_HEAD_BYTES, p.out.bytes_out);
	compare(&p, AT, all);
	/* The second time everything is there already. */
	fill(&p, AT, all, 9);
	find_runs(&p, all * P);
	transfer(&p);
	compare(&p, AT, all);
	pair_close(&p);
}

static void pages_that_vanish_are_left_out(unused_arg void **state)
{
	struct pair p;

	pair_open(&p);
	assert_int_equal(map(&p.from.puppet, AT, 512 * P, -1), AT);
	assert_int_equal(map(&p.to.puppet, AT, 512 * P, -1), AT);
	layout(&p);
	fill(&p, AT, 512, 1);
	find_runs(&p, 512 * P);
	CALL(&p.from.puppet, SYS_munmap, (long)(AT + 100 * P), 3 * P);
	CALL(&p.from.puppet, SYS_munmap, (long)(AT + 300 * P), 212 * P);
	transfer(&p);
	assert_int_equal(p.st.pages_data, 297);
	compare(&p, AT, 100);
	compare(&p, AT + 103 * P, 197);
	CALL(&p.from.puppet, SYS_munmap, (long)AT, 512 * P);
	assert_int_equal(transfer(&p), 0);
	pair_close(&p);
}

static void dropped_runs_keep_their_order(unused_arg void **state)
{
	struct pair p;

	pair_open(&p);
	assert_int_equal(map(&p.from.puppet, AT, 8192 * P, -1), AT);
	assert_int_equal(map(&p.to.puppet, AT, 8192 * P, -1), AT);
	layout(&p);
	fill(&p, AT, 8, 1);
	page_runs_add(&p.runs, AT, 4, PAGE_DATA);
	page_runs_add(&p.runs, AT + P, 1, PAGE_GONE);
	page_runs_add(&p.runs, AT + 2 * P, 1, PAGE_GONE);
	page_runs_add(&p.runs, AT + 2 * P, 1, PAGE_DATA);
	transfer(&p);
	assert_int_equal(p.st.runs_dropped, 1);
	CALL(&p.from.puppet, SYS_madvise, (long)(AT + P), P, MADV_DONTNEED);
	compare(&p, AT, 4);
	/* More runs than a table holds. */
	p.runs.n = 0;
	for (uint64_t i = 0; i < 8192; i += 2)
		page_runs_add(&p.runs, AT + i * P, 1, i % 4 ? PAGE_GONE : PAGE_DATA);
	transfer(&p);
	compare(&p, AT, 1);
	pair_close(&p);
}

/* KiB of the mapping at AT that are in huge pages; 1 where the kernel makes none. */
static unsigned long huge_kib(struct pair *p)
{
	char path[64], line[256];
	unsigned long at = 0, start, end, kib = 0, one;
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	bool never = !f || !fgets(line, sizeof(line), f) || strstr(line, "[never]");

	if (f)
		fclose(f);
	if (never)
		return 1;
	snprintf(path, sizeof(path), "/proc/%d/smaps", p->to.t.pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			at = start;
		if (at >= AT && at < AT + (1 << 30) &&
			sscanf(line, "AnonHugePages: %lu", &one) == 1)
			kib += one;
	}
	fclose(f);
	return kib;
}

static void huge_pages(unused_arg void **state)
{
	const uint64_t huge = 2 << 20, at = AT;
	struct pair p;

	pair_open(&p);
	assert_int_equal(map(&p.from.puppet, at, 3 * huge, -1), at);
	assert_int_equal(map(&p.to.puppet, at, 3 * huge, -1), at);
	both(&p, SYS_madvise, at, 3 * huge, MADV_HUGEPAGE);
	layout(&p);
	fill(&p, at, 3 * huge / P, 1);
	find_runs(&p, 3 * huge);
	p.to.calls = 0;
	transfer(&p);
	if (way == SINK_COPY) /* for huge pages alone */
		assert_true(p.to.calls > 0 && p.to.calls <= 6);
	else
		assert_int_equal(page_sink_copied(p.sink), 0);
	assert_true(huge_kib(&p) > 0);
	compare(&p, at, 3 * huge / P);
	pair_close(&p);
}

static void shared_memory_with_holes(unused_arg void **state)
{
	const uint64_t pages = 700, last = P / 2;
	uint8_t page[PAGE_BYTES];
	struct stat st;
	struct pair p;

	pair_open(&p);
	for (int i = 0; i < 2; i++) {
		p.shared[i] = memfd_create("shared", MFD_CLOEXEC);
		assert_int_equal(ftruncate(p.shared[i], (off_t)(pages * P + last)), 0);
	}
	memset(page, 6, sizeof(page));
	for (uint64_t i = 0; i <= pages; i++)
		if (i < 300 || i >= 600)
			assert_true(pwrite(p.shared[0], page, i == pages ? last : P,
					    (off_t)(i * P)) > 0);
	/* The destination has something where the source has a hole. */
	assert_int_equal(pwrite(p.shared[1], page, P, (off_t)(400 * P)), P);
	p.shared_bytes = pages * P + last;
	transfer(&p);
	assert_int_equal(p.st.pages_data, 401);
	assert_int_equal(p.st.runs_dropped, 1);
	assert_int_equal(fstat(p.shared[1], &st), 0);
	assert_int_equal(st.st_size, pages * P + last);
	assert_int_equal(st.st_blocks, 401 * P / 512);
	for (uint64_t i = 0; i < pages; i++) {
		uint8_t want = i < 300 || i >= 600 ? 6 : 0;

		assert_int_equal(pread(p.shared[1], page, P, (off_t)(i * P)), P);
		assert_int_equal(page[0], want);
		assert_int_equal(page[P - 1], want);
	}
	/* All zero by content. */
	assert_int_equal(ftruncate(p.shared[0], 0), 0);
	assert_int_equal(ftruncate(p.shared[0], (off_t)(pages * P)), 0);
	memset(page, 0, sizeof(page));
	assert_int_equal(pwrite(p.shared[0], page, P, 0), P);
	transfer(&p);
	assert_int_equal(fstat(p.shared[1], &st), 0);
	assert_int_equal(st.st_blocks, 0);
	close(p.shared[0]);
	close(p.shared[1]);
	pair_close(&p);
}

static void a_dead_target_is_gone(unused_arg void **state)
{
	struct pair p;

	pair_open(&p);
	assert_int_equal(map(&p.from.puppet, AT, 8 * P, -1), AT);
	page_runs_add(&p.runs, AT, 8, PAGE_DATA);
	assert_true(p.from.t.pid > 1);
	kill(p.from.t.pid, SIGKILL);
	waitid(P_PID, (id_t)p.from.t.pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	send_all(&p);
	assert_non_null(p.sent);
	assert_string_equal(err_code_name(err_code(p.sent)), "GONE");
	err_free(p.sent);
	pair_close(&p);
}

static void drop_frames(unused_arg void **state)
{
	struct frame_head h;
	struct pair p;

	pair_open(&p);
	assert_int_equal(map(&p.to.puppet, AT, 8 * P, -1), AT);
	layout(&p);
	ok(pages_send_drop(&p.out, SPACE_PRIVATE, AT, 8 * P, &p.st));
	assert_int_equal(p.st.runs_dropped, 1);
	ok(channel_head(&p.in, &h));
	ok(page_sink_frame(p.sink, &h, &p.in));
	ok(page_sink_settle(p.sink));
	pair_close(&p);
}

static int to_copy(unused_arg void **state)
{
	way = SINK_COPY;
	return 0;
}

static int to_splice(unused_arg void **state)
{
	way = SINK_SPLICE;
	return 0;
}

static void zero_pages_are_found(unused_arg void **state)
{
	uint8_t page[PAGE_BYTES] __attribute__((aligned(16))) = { 0 };

	assert_true(page_is_zero(page));
	for (size_t i = 0; i < sizeof(page); i++) {
		page[i] = 1;
		assert_false(page_is_zero(page));
		page[i] = 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_pages_are_found),
		cmocka_unit_test(every_kind_of_memory),
		cmocka_unit_test(pages_that_vanish_are_left_out),
		cmocka_unit_test(dropped_runs_keep_their_order),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(shared_memory_with_holes),
		cmocka_unit_test(a_dead_target_is_gone),
		cmocka_unit_test(drop_frames),
	};

	int failed = cmocka_run_group_tests_name("copy", tests, to_copy, NULL);

	return failed + cmocka_run_group_tests_name("splice", tests, to_splice, NULL);
}
