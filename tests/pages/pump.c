// SPDX-License-Identifier: Apache-2.0
/* source_pump: what it sends, byte by byte, and that none of it goes through memory of ours but
 * what the process cannot read itself. */
#include "pages/pages_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants these in front */
#include <cmocka.h>

#include <endian.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "kernel/ns.h"
#include "puppet.h"

#define AT    0x300000000000ULL
#define PAGES 3000

struct move {
	struct stream streams[2];
	struct puppet target;
	struct task *from;
	struct page_source *source;
	struct channel out, in;
	struct page_runs runs;
	struct shared_part part;
	struct pages_stats st;
	struct err *sent;
	/* the receiver: memory as it would be there */
	uint8_t *memory;
	uint64_t base;
	size_t frames;
};

static void connect_streams(struct move *m)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	for (int i = 0; i < 2; i++)
		ok(stream_socket(ends[i], &m->streams[i]));
	channel_init(&m->out, &m->streams[0], -1);
	channel_init(&m->in, &m->streams[1], -1);
	m->out.deadline = m->in.deadline = deadline_in(60000000);
}

static void move_open(struct move *m)
{
	*m = (struct move){ .base = AT };
	m->memory =
		mmap(NULL, PAGES * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	puppet_start(&m->target);
	assert_int_equal(map(&m->target, AT, PAGES * P, -1), AT);
	ok(task_open(m->target.pid, &m->from));
	ok(source_pump.open(m->from, SPACE_PRIVATE, &m->source));
	connect_streams(m);
}

static void move_close(struct move *m)
{
	source_pump.close(m->source);
	stream_close(&m->streams[0]);
	stream_close(&m->streams[1]);
	page_runs_fini(&m->runs);
	task_free(m->from);
	puppet_stop(&m->target);
	munmap(m->memory, PAGES * P);
}

static void fill(struct move *m, uint64_t page, uint64_t n, unsigned seed)
{
	uint64_t words[PAGE_BYTES / 8];

	for (uint64_t i = page; i < page + n; i++) {
		for (size_t k = 0; k < ARRAY_LEN(words); k++)
			words[k] = (i * P + k) * 0x9e3779b97f4a7c15ULL + seed;
		assert_int_equal(pwrite(m->from->mem_fd, words, P, (off_t)(AT + i * P)), P);
	}
}

static void add(struct move *m, uint64_t page, uint64_t n, enum page_class class)
{
	page_runs_add(&m->runs, AT + page * P, n, class);
}

static void *send_all(void *arg)
{
	struct move *m = arg;

	m->sent = m->part.bytes ? source_pump.send_shared(m->source, &m->part, &m->out, &m->st)
				: source_pump.send(m->source, &m->runs, &m->out, &m->st);
	if (!m->sent)
		m->sent = channel_send(&m->out, FRAME_BYE, 0, NULL, 0);
	return NULL;
}

/* Like the destination: the table in order, each run of data from the bytes behind it. */
static void take_frame(struct move *m, const struct frame_head *h)
{
	uint8_t head[RUN_HEAD_BYTES];
	uint8_t table[FRAME_RUNS_MAX * RUN_BYTES];
	uint32_t n;

	assert_int_equal(h->type, FRAME_PAGES);
	ok(channel_read(&m->in, head, sizeof(head)));
	memcpy(&n, head, sizeof(n));
	n = le32toh(n);
	assert_true(n <= FRAME_RUNS_MAX);
	ok(channel_read(&m->in, table, n * RUN_BYTES));
	for (uint32_t i = 0; i < n; i++) {
		struct run r;
		uint8_t *to;

		ok(run_decode(table + i * RUN_BYTES, &r));
		assert_true(r.start >= m->base && r.start + r.pages * P <= m->base + PAGES * P);
		to = m->memory + (r.start - m->base);
		if (r.kind == RUN_DATA)
			ok(channel_read(&m->in, to, r.pages * P));
		else
			memset(to, 0, r.pages * P);
	}
	m->frames++;
}

static void transfer(struct move *m)
{
	pthread_t sender;

	m->st = (struct pages_stats){ 0 };
	m->frames = 0;
	assert_int_equal(pthread_create(&sender, NULL, send_all, m), 0);
	for (;;) {
		struct frame_head h;

		ok(channel_head(&m->in, &h));
		if (h.type == FRAME_BYE)
			break;
		take_frame(m, &h);
	}
	pthread_join(sender, NULL);
	ok(m->sent);
}

static void same(struct move *m, uint64_t page, uint64_t n)
{
	uint8_t there[PAGE_BYTES];

	for (uint64_t i = page; i < page + n; i++) {
		assert_int_equal(pread(m->from->mem_fd, there, P, (off_t)(AT + i * P)), P);
		if (memcmp(there, m->memory + i * P, P))
			fail_msg("page %ju differs", (uintmax_t)i);
	}
}

static void long_and_short_runs(unused_arg void **state)
{
	struct move m;

	move_open(&m);
	fill(&m, 0, PAGES, 1);
	add(&m, 0, PAGES, PAGE_DATA);
	transfer(&m);
	assert_int_equal(m.st.pages_data, PAGES);
	assert_int_equal(m.st.pages_copied, 0);
	assert_int_equal(m.out.spliced_out, PAGES * P);
	assert_true(m.frames >= PAGES / 256);
	assert_int_equal(m.st.bytes_wire + FRAME_HEAD_BYTES, m.out.bytes_out);
	same(&m, 0, PAGES);
	/* More runs than an order takes, than a frame takes, and drops in between. */
	fill(&m, 0, PAGES, 2);
	m.runs.n = 0;
	for (uint64_t i = 0; i + 3 < PAGES; i += 3) {
		add(&m, i, 1, PAGE_DATA);
		if (i % 2)
			add(&m, i + 1, 1, PAGE_GONE);
		if (i % 5 == 0)
			add(&m, i + 2, 1, PAGE_DATA);
	}
	transfer(&m);
	assert_int_equal(m.st.pages_copied, 0);
	for (uint64_t i = 0; i + 3 < PAGES; i += 3) {
		same(&m, i, 1);
		assert_int_equal(!memcmp(m.memory + (i + 1) * P, (uint8_t[64]){ 0 }, 64), i % 2);
		if (i % 5 == 0)
			same(&m, i + 2, 1);
	}
	move_close(&m);
}

static void what_holds_last_comes_last(unused_arg void **state)
{
	struct move m;

	move_open(&m);
	fill(&m, 0, 8, 1);
	add(&m, 0, 4, PAGE_DATA);
	add(&m, 1, 1, PAGE_GONE);
	add(&m, 2, 1, PAGE_GONE);
	add(&m, 2, 1, PAGE_DATA);
	transfer(&m);
	same(&m, 0, 1);
	same(&m, 2, 2);
	assert_int_equal(m.memory[P], 0);
	/* Drops alone. */
	m.runs.n = 0;
	for (uint64_t i = 0; i < 2000; i++)
		add(&m, i, 1, PAGE_GONE);
	memset(m.memory, 1, 2000 * P);
	transfer(&m);
	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(m.memory[i * P], 0);
	m.runs.n = 0;
	transfer(&m);
	assert_int_equal(m.frames, 0);
	move_close(&m);
}

static void unreadable_memory_is_copied(unused_arg void **state)
{
	struct move m;

	move_open(&m);
	fill(&m, 0, PAGES, 3);
	CALL(&m.target, SYS_mprotect, (long)(AT + 300 * P), 700 * P, PROT_NONE);
	CALL(&m.target, SYS_mprotect, (long)(AT + 1500 * P), P, PROT_NONE);
	CALL(&m.target, SYS_mprotect, (long)(AT + 2999 * P), P, PROT_NONE);
	add(&m, 0, PAGES, PAGE_DATA);
	transfer(&m);
	same(&m, 0, PAGES);
	assert_int_equal(m.st.pages_data, PAGES);
	/* Nobody told that it is: some more may be tried with it. */
	assert_true(m.st.pages_copied >= 702 && m.st.pages_copied < 1600);
	/* Told. */
	memset(m.memory, 0, PAGES * P);
	m.runs.n = 0;
	m.runs.unreadable = true;
	add(&m, 300, 700, PAGE_DATA);
	transfer(&m);
	assert_int_equal(m.st.pages_copied, 700);
	same(&m, 300, 700);
	move_close(&m);
}

static void pages_that_vanish_are_left_out(unused_arg void **state)
{
	struct move m;

	move_open(&m);
	fill(&m, 0, PAGES, 4);
	add(&m, 0, PAGES, PAGE_DATA);
	CALL(&m.target, SYS_munmap, (long)(AT + 100 * P), 3 * P);
	CALL(&m.target, SYS_munmap, (long)(AT + 600 * P), 500 * P);
	transfer(&m);
	assert_int_equal(m.st.pages_data, PAGES - 503);
	same(&m, 0, 100);
	same(&m, 103, 497);
	same(&m, 1100, PAGES - 1100);
	CALL(&m.target, SYS_munmap, (long)AT, PAGES * P);
	transfer(&m);
	assert_int_equal(m.frames, 0);
	move_close(&m);
}

static void shared_memory_by_reference(unused_arg void **state)
{
	const uint64_t pages = 700, last = P / 2;
	uint8_t page[PAGE_BYTES];
	struct move m;
	int fd;

	move_open(&m);
	m.base = 0;
	fd = memfd_create("shared", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)(pages * P + last)), 0);
	for (uint64_t i = 0; i <= pages; i++) {
		memset(page, (int)(i % 250 + 1), P);
		if (i < 300 || i >= 600)
			assert_true(pwrite(fd, page, i == pages ? last : P, (off_t)(i * P)) > 0);
	}
	memset(m.memory, 255, PAGES * P);
	m.part = (struct shared_part){ 1, fd, 0, pages * P + last };
	transfer(&m);
	assert_int_equal(m.st.pages_data, 401);
	assert_int_equal(m.st.pages_copied, 0);
	for (uint64_t i = 0; i <= pages; i++) {
		uint8_t want = i < 300 || i >= 600 ? (uint8_t)(i % 250 + 1) : 0;

		assert_int_equal(m.memory[i * P], want);
		assert_int_equal(m.memory[i * P + P - 1], i == pages ? 0 : want);
	}
	close(fd);
	move_close(&m);
}

/* Each has every other stretch; what cannot be read lies in all of them. */
static void several_share_a_pump(unused_arg void **state)
{
	enum { SEVERAL = 3 }; /* and the first, which rests */
	struct move first, m[SEVERAL];
	pthread_t senders[SEVERAL];
	struct source_facts f;
	unsigned left = SEVERAL;

	move_open(&first);
	fill(&first, 0, PAGES, 5);
	for (uint64_t i = 100; i < PAGES; i += 500)
		CALL(&first.target, SYS_mprotect, (long)(AT + i * P), 3 * P, PROT_NONE);
	for (unsigned i = 0; i < SEVERAL; i++) {
		m[i] = (struct move){ .base = AT, .memory = first.memory };
		ok(source_pump.another(first.source, &m[i].source));
		connect_streams(&m[i]);
		for (uint64_t at = i * 40; at < PAGES; at += SEVERAL * 40)
			page_runs_add_first(
				&m[i].runs, AT + at * P, MIN(40, PAGES - at), PAGE_DATA);
	}
	for (unsigned i = 0; i < SEVERAL; i++)
		assert_int_equal(pthread_create(&senders[i], NULL, send_all, &m[i]), 0);
	for (bool ended[SEVERAL] = { false }; left;) {
		for (unsigned i = 0; i < SEVERAL; i++) {
			struct frame_head h;

			if (ended[i])
				continue;
			ok(channel_head(&m[i].in, &h));
			ended[i] = h.type == FRAME_BYE;
			left -= ended[i];
			if (!ended[i])
				take_frame(&m[i], &h);
		}
	}
	for (unsigned i = 0; i < SEVERAL; i++) {
		pthread_join(senders[i], NULL);
		ok(m[i].sent);
		assert_true(m[i].st.pages_copied < m[i].st.pages_data / 4);
	}
	same(&first, 0, PAGES);
	ok(source_pump.leave(first.source));
	for (unsigned i = 0; i < SEVERAL; i++) {
		source_pump.facts(m[i].source, &f);
		assert_int_equal(f.stop_us, 0);
		assert_true(f.fds <= 3 && f.pipe_bytes >= 3 * P);
		source_pump.close(m[i].source);
		page_runs_fini(&m[i].runs);
		stream_close(&m[i].streams[0]);
		stream_close(&m[i].streams[1]);
	}
	move_close(&first);
}

/* A file that gives nothing by reference, with something in it: about 512 pages each of its own. */
static void shared_memory_that_must_be_copied(unused_arg void **state)
{
	uint8_t want[2 * PAGE_BYTES];
	char path[64];
	struct move m;
	int fd;

	move_open(&m);
	fill(&m, 0, 700, 1);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", m.target.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	m.base = AT / P * sizeof(uint64_t);
	m.part = (struct shared_part){ 1, fd, m.base, 2 * P };
	assert_int_equal(pread(fd, want, 2 * P, (off_t)m.base), 2 * P);
	assert_true(want[0] || want[7]);
	transfer(&m);
	assert_int_equal(m.st.pages_copied, 2);
	assert_memory_equal(m.memory, want, 2 * P);
	close(fd);
	move_close(&m);
}

static void a_dead_target_is_gone(unused_arg void **state)
{
	struct move m;

	move_open(&m);
	add(&m, 0, 8, PAGE_DATA);
	assert_true(m.target.pid > 1);
	kill(m.target.pid, SIGKILL);
	waitid(P_PID, (id_t)m.target.pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	send_all(&m);
	assert_non_null(m.sent);
	assert_string_equal(err_code_name(err_code(m.sent)), "GONE");
	err_free(m.sent);
	move_close(&m);
}

static void few_descriptors(unused_arg void **state)
{
	struct source_facts f;
	struct move m;

	move_open(&m);
	source_pump.facts(m.source, &f);
	print_message("  %u descriptors, %ju KiB of pipes, stopped for %jd us\n", f.fds,
		(uintmax_t)f.pipe_bytes >> 10, (intmax_t)f.stop_us);
	assert_true(f.fds <= 5);
	assert_true(f.pipe_bytes >= 3 * P);
	assert_true(f.stop_us > 0);
	ok(source_pump.leave(m.source));
	ok(source_pump.leave(m.source));
	move_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_and_short_runs),
		cmocka_unit_test(what_holds_last_comes_last),
		cmocka_unit_test(unreadable_memory_is_copied),
		cmocka_unit_test(pages_that_vanish_are_left_out),
		cmocka_unit_test(shared_memory_by_reference),
		cmocka_unit_test(several_share_a_pump),
		cmocka_unit_test(shared_memory_that_must_be_copied),
		cmocka_unit_test(a_dead_target_is_gone),
		cmocka_unit_test(few_descriptors),
	};

	ns_enter();
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
