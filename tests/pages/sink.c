// SPDX-License-Identifier: Apache-2.0
/* What a peer may send to the sink, and what it must not get away with: the same for both ways in.
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
#include <sys/stat.h>

#include "odd_stream.h"
#include "puppet.h"
#include "remote_puppet.h"

/* Where the mapping under test lies, with holes around it. */
#define AT   PUPPET_AT
#define SIZE (16 * P)

/* A sink, and what feeds it. */
struct kind {
	enum page_sink_way way;
	struct odd odd;
};
static const struct kind copying = { SINK_COPY, { 0, 0 } };
static const struct kind splicing = { SINK_SPLICE, { 0, 0 } };
static const struct kind records = { SINK_SPLICE, { 20000, 16384 } };
static const struct kind crumbs = { SINK_SPLICE, { 99, 5000 } };

struct stage {
	const struct kind *kind;
	struct puppet_task task;
	struct page_sink *sink;
	struct channel out, in;
	int ends[2];
	struct stream streams[2];
	int shared; /* a memfd of 3 pages and a half, space 7 */
};

static int space_fd(void *arg, uint64_t space)
{
	return space == 7 ? ((struct stage *)arg)->shared : -1;
}

static void layout(struct stage *s)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	ok(proc_maps(a, s->task.t.pid, &l));
	ok(page_sink_layout(s->sink, &l));
}

static void sink_open(struct stage *s)
{
	ok(page_sink_open(
		&(struct page_sink_spec){ &s->task.t, space_fd, s, s->kind->way }, &s->sink));
}

static bool splices(const struct stage *s)
{
	return s->kind->way == SINK_SPLICE;
}

static void stage_open(struct stage *s, void **state)
{
	*s = (struct stage){ .kind = *state };
	puppet_task_start(&s->task);
	assert_int_equal(map(&s->task.puppet, AT, SIZE, -1), AT);
	s->shared = memfd_create("shared", MFD_CLOEXEC);
	assert_int_equal(ftruncate(s->shared, 3 * P + P / 2), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s->ends), 0);
	for (int i = 0; i < 2; i++)
		ok(odd_stream(s->ends[i], s->kind->odd, &s->streams[i]));
	channel_init(&s->out, &s->streams[0], -1);
	channel_init(&s->in, &s->streams[1], -1);
	s->out.deadline = s->in.deadline = deadline_in(60000000);
	sink_open(s);
	layout(s);
}

static void stage_close(struct stage *s)
{
	page_sink_close(s->sink);
	puppet_task_stop(&s->task);
	close(s->shared);
	stream_close(&s->streams[0]);
	stream_close(&s->streams[1]);
}

static struct err *receive(struct stage *s)
{
	struct frame_head h;

	TRY(channel_head(&s->in, &h));
	return page_sink_frame(s->sink, &h, &s->in);
}

/* What the peer sends, in a thread of its own: no socket holds a frame in crumbs. */
struct sending {
	struct stage *s;
	const uint8_t *bytes;
	size_t n;
	uint64_t space;
	struct err *e;
};

static void *send_frame(void *arg)
{
	struct sending *m = arg;

	m->e = channel_send(&m->s->out, FRAME_PAGES, m->space, m->bytes, m->n);
	return NULL;
}

/* A frame as a peer would make it, with anything wrong one likes. Data pages hold `value`. */
struct made {
	uint64_t space;
	uint32_t count, reserved;
	struct run runs[4];
	size_t n_runs;
	int64_t extra; /* bytes more (or less) of body than there should be */
	uint8_t value;
};

static struct err *frame(struct stage *s, const struct made *m)
{
	static uint8_t body[64 * PAGE_BYTES];
	uint32_t head[2] = { htole32(m->count ? m->count : (uint32_t)m->n_runs), m->reserved };
	struct sending sending = { .s = s, .bytes = body, .space = m->space };
	size_t len = RUN_HEAD_BYTES;
	pthread_t sender;
	struct err *e;

	memcpy(body, head, sizeof(head));
	for (size_t i = 0; i < m->n_runs; i++, len += RUN_BYTES)
		run_encode(&m->runs[i], body + len);
	for (size_t i = 0; i < m->n_runs; i++)
		if (m->runs[i].kind == RUN_DATA && m->runs[i].pages < 32) {
			memset(body + len, m->value, m->runs[i].pages * P);
			len += m->runs[i].pages * P;
		}
	sending.n = (size_t)((int64_t)len + m->extra);
	assert_int_equal(pthread_create(&sender, NULL, send_frame, &sending), 0);
	e = receive(s);
	if (!e)
		e = page_sink_settle(s->sink);
	pthread_join(sender, NULL);
	ok(sending.e);
	return e;
}
#define FRAME(s, ...) frame((s), &(struct made){ __VA_ARGS__ })

static void one(struct stage *s, enum run_kind kind, uint64_t start, uint64_t pages, uint8_t value)
{
	ok(FRAME(s, .runs = { { start, pages, kind } }, .n_runs = 1, .value = value));
}

static uint8_t byte(struct stage *s, uint64_t at)
{
	uint8_t b = 0;

	assert_int_equal(pread(s->task.t.mem_fd, &b, 1, (off_t)at), 1);
	return b;
}

static bool present(struct stage *s, uint64_t at)
{
	char path[64];
	uint64_t word;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", s->task.t.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, &word, 8, (off_t)(at / P * 8)), 8);
	close(fd);
	return word >> 63;
}

static void refused(struct stage *s, struct err *e)
{
	assert_non_null(e);
	assert_string_equal(err_code_name(err_code(e)), "PEER");
	err_free(e);
	stage_close(s);
	stage_open(s, (void *[]){ (void *)(uintptr_t)s->kind });
}

static void absurd_frames_are_refused(void **state)
{
	const struct run data = { AT, 1, RUN_DATA };
	const uint64_t bad[] = { 0, AT - P, AT + SIZE, AT + SIZE - P, 0x7ffffffff000,
		0xffffffffff600000, 0xfffffffffffff000 };
	struct stage s;

	stage_open(&s, state);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		refused(&s, FRAME(&s, .runs = { { bad[i], 2, RUN_DATA } }, .n_runs = 1));
		refused(&s, FRAME(&s, .runs = { data, { bad[i], 2, RUN_DROP } }, .n_runs = 2));
		assert_false(present(&s, AT)); /* nothing is done before all is checked */
	}
	refused(&s, FRAME(&s, .runs = { { AT, UINT64_MAX / P, RUN_ZERO } }, .n_runs = 1));
	refused(&s, FRAME(&s, .runs = { { AT, UINT64_MAX, RUN_ZERO } }, .n_runs = 1));
	refused(&s, FRAME(&s, .runs = { { AT, 0, RUN_ZERO } }, .n_runs = 1));
	refused(&s, FRAME(&s, .runs = { { AT, 1, (enum run_kind)3 } }, .n_runs = 1));
	refused(&s, FRAME(&s, .runs = { data }, .n_runs = 1, .reserved = 1));
	refused(&s, FRAME(&s, .runs = { data }, .n_runs = 1, .count = 2));
	refused(&s, FRAME(&s, .runs = { data }, .n_runs = 1, .count = PAGES_RUNS_MAX + 1));
	refused(&s, FRAME(&s, .runs = { data }, .n_runs = 1, .count = UINT32_MAX));
	refused(&s, FRAME(&s, .runs = { data }, .n_runs = 1, .extra = 1));
	refused(&s, FRAME(&s, .runs = { data }, .n_runs = 1, .extra = -1));
	refused(&s, FRAME(&s, .n_runs = 0, .extra = -1));
	refused(&s, FRAME(&s, .space = 8, .runs = { { 0, 1, RUN_DATA } }, .n_runs = 1));
	refused(&s,
		FRAME(&s, .space = 7, .runs = { { SPACE_BYTES_MAX, 1, RUN_DROP } }, .n_runs = 1));
	refused(&s,
		FRAME(&s, .space = 7, .runs = { { SPACE_BYTES_MAX, 1, RUN_DATA } }, .n_runs = 1));
	ok(FRAME(&s, .n_runs = 0));
	stage_close(&s);
}

/* What a peer sends in one round is bounded, wherever it goes; what takes no memory is free. */
static void a_round_has_its_limit(void **state)
{
	const struct run three = { AT, 3, RUN_DATA };
	struct stage s;
	struct err *e;

	stage_open(&s, state);
	ok(page_sink_leave(s.sink));
	page_sink_close(s.sink);
	ok(page_sink_open(
		&(struct page_sink_spec){ &s.task.t, space_fd, &s, s.kind->way, 5 * P }, &s.sink));
	layout(&s);
	ok(FRAME(&s, .runs = { three }, .n_runs = 1, .value = 1));
	one(&s, RUN_ZERO, AT + 8 * P, 8, 0);
	ok(FRAME(&s, .space = 7, .runs = { { 0, 2, RUN_DATA } }, .n_runs = 1, .value = 2));
	page_sink_round(s.sink);
	ok(FRAME(&s, .runs = { three }, .n_runs = 1, .value = 3));
	e = FRAME(&s, .space = 7, .runs = { { 0, 3, RUN_DATA } }, .n_runs = 1, .value = 4);
	assert_non_null(e);
	assert_string_equal(err_code_name(err_code(e)), "LIMIT");
	err_free(e);
	assert_int_equal(byte(&s, AT), 3);
	stage_close(&s);
}

static void the_kernels_blocks_take_nothing(void **state)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;
	struct stage s;

	stage_open(&s, state);
	ok(proc_maps(a, s.task.t.pid, &l));
	for (size_t i = 0; i < l.n; i++)
		if (strcmp(l.v[i].path, "[vdso]") == 0) {
			struct run r = { l.v[i].start, 1, RUN_DATA };

			refused(&s, FRAME(&s, .runs = { r }, .n_runs = 1));
			break;
		}
	stage_close(&s);
}

static void fresh_memory(void **state)
{
	struct stage s;

	stage_open(&s, state);
	one(&s, RUN_DATA, AT + P, 3, 7);
	assert_false(present(&s, AT));
	assert_int_equal(byte(&s, AT + P), 7);
	assert_int_equal(byte(&s, AT + 4 * P - 1), 7);
	/* Sent again, half of it there already. */
	one(&s, RUN_DATA, AT, 3, 8);
	assert_int_equal(byte(&s, AT), 8);
	assert_int_equal(byte(&s, AT + 2 * P), 8);
	assert_int_equal(byte(&s, AT + 3 * P), 7);
	assert_int_equal(page_sink_copied(s.sink), splices(&s) ? 0 : 6 * P);
	/* Nothing is there: no remote call. */
	s.task.calls = 0;
	one(&s, RUN_DROP, AT + 8 * P, 8, 0);
	one(&s, RUN_ZERO, AT + 8 * P, 8, 0);
	assert_int_equal(s.task.calls, 0);
	one(&s, RUN_ZERO, AT, 2, 0);
	assert_int_equal(s.task.calls, 1);
	assert_false(present(&s, AT));
	assert_true(present(&s, AT + 2 * P));
	/* Dropped and put again in one frame, and the other way round. */
	ok(FRAME(&s, .runs = { { AT + 2 * P, 1, RUN_DROP }, { AT + 2 * P, 1, RUN_DATA } },
		.n_runs = 2, .value = 9));
	assert_int_equal(byte(&s, AT + 2 * P), 9);
	ok(FRAME(&s, .runs = { { AT + 2 * P, 1, RUN_DATA }, { AT + 2 * P, 1, RUN_DROP } },
		.n_runs = 2, .value = 9));
	assert_false(present(&s, AT + 2 * P));
	stage_close(&s);
}

static void pages_that_somebody_else_made(void **state)
{
	struct stage s;

	stage_open(&s, state);
	ok(page_sink_leave(s.sink));
	page_sink_close(s.sink);
	touch(&s.task.puppet, AT + 2 * P, 2, 1);
	sink_open(&s);
	layout(&s);
	one(&s, RUN_DATA, AT, 8, 5);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(byte(&s, AT + i * P), 5);
	stage_close(&s);
}

static void huge_layout(struct stage *s, uint64_t at, bool huge)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	ok(proc_maps(a, s->task.t.pid, &l)); /* which says nothing of advice */
	for (size_t i = 0; i < l.n; i++)
		if (l.v[i].start == at && huge)
			l.v[i].flags |= VMF_HUGEPAGE;
	ok(page_sink_layout(s->sink, &l));
}

/* Advice comes and goes between two layouts. */
static void memory_that_is_advised(void **state)
{
	const uint64_t at = AT + (4 << 20), size = 2 << 20;
	struct stage s;

	stage_open(&s, state);
	assert_int_equal(map(&s.task.puppet, at, size, -1), at);
	huge_layout(&s, at, false);
	one(&s, RUN_DATA, at + P, 2, 4);
	CALL(&s.task.puppet, SYS_madvise, (long)at, (long)size, MADV_HUGEPAGE);
	huge_layout(&s, at, true);
	one(&s, RUN_DATA, at + 3 * P, 8, 5);
	assert_int_equal(byte(&s, at + P), 4);
	assert_int_equal(byte(&s, at + 3 * P), 5);
	assert_int_equal(byte(&s, at + 10 * P), 5);
	/* now in the middle of a huge page, if there are any */
	CALL(&s.task.puppet, SYS_madvise, (long)at, (long)size, MADV_DONTNEED);
	touch(&s.task.puppet, at, 1, 1);
	CALL(&s.task.puppet, SYS_madvise, (long)at, (long)size, MADV_NOHUGEPAGE);
	huge_layout(&s, at, false);
	one(&s, RUN_DATA, at + 16 * P, 8, 6);
	assert_int_equal(byte(&s, at + 16 * P), 6);
	assert_int_equal(byte(&s, at), 1);
	stage_close(&s);
}

/* The layout's owner made the mapping again without telling: registration and pages are gone. */
static void mappings_made_anew(void **state)
{
	struct stage s;

	stage_open(&s, state);
	one(&s, RUN_DATA, AT, 4, 5);
	assert_int_equal(map(&s.task.puppet, AT, SIZE, -1), AT);
	layout(&s);
	one(&s, RUN_DATA, AT, 8, 6);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(byte(&s, AT + i * P), 6);
	/* One mapping in the layout, several in the kernel. */
	CALL(&s.task.puppet, SYS_madvise, (long)(AT + 9 * P), P, MADV_DONTFORK);
	one(&s, RUN_DATA, AT, 16, 7);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(byte(&s, AT + i * P), 7);
	stage_close(&s);
}

static void memory_that_is_not_writable(void **state)
{
	static const long prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_EXEC };
	struct stage s;

	for (size_t i = 0; i < ARRAY_LEN(prots); i++) {
		stage_open(&s, state);
		CALL(&s.task.puppet, SYS_mprotect, (long)AT, SIZE, prots[i]);
		layout(&s);
		one(&s, RUN_DATA, AT, 2, 5);
		one(&s, RUN_DATA, AT + P, 2, 6);
		assert_int_equal(byte(&s, AT), 5);
		assert_int_equal(byte(&s, AT + P), 6);
		assert_int_equal(page_sink_copied(s.sink), 4 * P);
		one(&s, RUN_DROP, AT, 3, 0);
		assert_false(present(&s, AT));
		stage_close(&s);
	}
}

static void private_file_mappings(void **state)
{
	struct puppet *p;
	struct stage s;
	uint64_t page;
	long fd;

	stage_open(&s, state);
	p = &s.task.puppet;
	page = map(p, 0, P, -1);
	touch(p, page, 1, 'x');
	fd = CALL(p, SYS_memfd_create, (long)page, 0);
	assert_true(fd >= 0);
	touch(p, page, 1, 3);
	for (long i = 0; i < 16; i++)
		CALL(p, SYS_pwrite64, fd, (long)page, 1, i * (long)P);
	assert_int_equal(map(p, AT, SIZE, (int)fd), AT);
	layout(&s);
	one(&s, RUN_DATA, AT, 2, 5);
	one(&s, RUN_ZERO, AT + P, 2, 0);
	assert_int_equal(byte(&s, AT), 5);
	assert_int_equal(byte(&s, AT + P), 0);
	assert_int_equal(byte(&s, AT + 2 * P), 0);
	assert_int_equal(byte(&s, AT + 3 * P), 3);
	one(&s, RUN_DROP, AT, 16, 0);
	assert_int_equal(byte(&s, AT), 3);
	assert_int_equal(byte(&s, AT + 2 * P), 3);
	stage_close(&s);
}

static void shared_memory(void **state)
{
	struct stat st;
	struct stage s;
	uint8_t b;

	stage_open(&s, state);
	ok(FRAME(&s, .space = 7, .runs = { { 0, 4, RUN_DATA } }, .n_runs = 1, .value = 4));
	assert_int_equal(fstat(s.shared, &st), 0);
	assert_int_equal(st.st_size, 3 * P + P / 2);
	assert_int_equal(pread(s.shared, &b, 1, 3 * P + P / 2 - 1), 1);
	assert_int_equal(b, 4);
	ok(FRAME(&s, .space = 7, .runs = { { P, 1, RUN_ZERO }, { 2 * P, 2, RUN_DROP } },
		.n_runs = 2));
	assert_int_equal(fstat(s.shared, &st), 0);
	assert_int_equal(st.st_size, 3 * P + P / 2);
	assert_int_equal(st.st_blocks, P / 512);
	assert_int_equal(pread(s.shared, &b, 1, P), 1);
	assert_int_equal(b, 0);
	stage_close(&s);
}

/* The layout is older than the mappings: the process cannot write there (any more). */
static void memory_that_turns_out_not_writable(void **state)
{
	struct stage s;

	stage_open(&s, state);
	CALL(&s.task.puppet, SYS_mprotect, (long)(AT + 3 * P), 5 * P, PROT_READ);
	CALL(&s.task.puppet, SYS_mprotect, (long)(AT + 12 * P), P, PROT_NONE);
	for (uint8_t value = 1; value < 4; value++) {
		one(&s, RUN_DATA, AT, 16, value);
		for (uint64_t i = 0; i < 16; i++) {
			assert_int_equal(byte(&s, AT + i * P), value);
			assert_int_equal(byte(&s, AT + i * P + P - 1), value);
		}
	}
	/* As many more, at most, as went wrong before; pages in two records count twice. */
	if (splices(&s))
		assert_in_range(page_sink_copied(s.sink), 3 * 6 * P, 3 * 3 * 6 * P);
	stage_close(&s);
}

/* Where a page cannot be written at all. */
static void memory_that_is_gone(void **state)
{
	struct stage s;
	char where[32];
	struct err *e;

	snprintf(where, sizeof(where), "%llx", AT + 2 * P);
	stage_open(&s, state);
	CALL(&s.task.puppet, SYS_munmap, (long)(AT + 2 * P), P);
	e = FRAME(&s, .runs = { { AT, 4, RUN_DATA } }, .n_runs = 1, .value = 5);
	assert_non_null(e);
	assert_non_null(strstr(err_text(e, 0), where));
	err_free(e);
	stage_close(&s);
}

/* A peer that ends in the middle of a page, of a table, of the head of one. */
static void truncated_frames(void **state)
{
	const size_t ends[] = { 4, RUN_HEAD_BYTES, RUN_HEAD_BYTES + 5, RUN_HEAD_BYTES + RUN_BYTES,
		RUN_HEAD_BYTES + RUN_BYTES + 1, RUN_HEAD_BYTES + RUN_BYTES + 5 * P + 77 };
	uint8_t body[RUN_HEAD_BYTES + RUN_BYTES + 8 * P] = { 1 };
	uint8_t head[FRAME_HEAD_BYTES];

	run_encode(&(struct run){ AT, 8, RUN_DATA }, body + RUN_HEAD_BYTES);
	frame_encode(&(struct frame_head){ sizeof(body), FRAME_PAGES, SPACE_PRIVATE }, head);
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		struct stage s;
		struct err *e;

		stage_open(&s, state);
		assert_int_equal(write(s.ends[0], head, sizeof(head)), sizeof(head));
		assert_int_equal(write(s.ends[0], body, ends[i]), ends[i]);
		shutdown(s.ends[0], SHUT_WR);
		e = receive(&s);
		assert_non_null(e);
		assert_string_equal(err_code_name(err_code(e)), "PEER");
		err_free(e);
		stage_close(&s);
	}
}

/* More pieces than the pipe has pages, and more than one readv takes. */
static void a_frame_of_single_pages(void **state)
{
	enum { PAGES = 256 };
	static uint8_t body[RUN_HEAD_BYTES + PAGES * (RUN_BYTES + PAGE_BYTES)];
	uint32_t head[2] = { htole32(PAGES), 0 };
	uint8_t *data = body + RUN_HEAD_BYTES + PAGES * RUN_BYTES;
	struct sending sending = { .bytes = body, .n = sizeof(body) };
	struct stage s;
	pthread_t sender;

	stage_open(&s, state);
	sending.s = &s;
	assert_int_equal(map(&s.task.puppet, AT, 2 * PAGES * P, -1), AT);
	layout(&s);
	memcpy(body, head, sizeof(head));
	for (size_t i = 0; i < PAGES; i++) {
		run_encode(&(struct run){ AT + 2 * i * P, 1, RUN_DATA },
			body + RUN_HEAD_BYTES + i * RUN_BYTES);
		memset(data + i * P, (int)i, P);
	}
	assert_int_equal(pthread_create(&sender, NULL, send_frame, &sending), 0);
	ok(receive(&s));
	ok(page_sink_settle(s.sink));
	pthread_join(sender, NULL);
	for (uint64_t i = 0; i < PAGES; i++) {
		assert_int_equal(byte(&s, AT + 2 * i * P), (uint8_t)i);
		assert_int_equal(byte(&s, AT + 2 * i * P + P - 1), (uint8_t)i);
		assert_false(present(&s, AT + (2 * i + 1) * P));
	}
	stage_close(&s);
}

/* A page that is missing in registered memory must be an error for a system call, never a wait;
 * with a pipe no memory is registered. */
static void nobody_waits_for_us(void **state)
{
	struct stage s;
	uint8_t b = 1;
	struct iovec here = { &b, 1 }, there = { (void *)(AT + P), 1 };

	stage_open(&s, state);
	alarm(60);
	if (splices(&s)) {
		assert_int_equal(process_vm_writev(s.task.t.pid, &here, 1, &there, 1, 0), 1);
	} else {
		assert_true(process_vm_writev(s.task.t.pid, &here, 1, &there, 1, 0) < 0);
		assert_int_equal(CALL(&s.task.puppet, SYS_getcwd, (long)AT, P), -EFAULT);
	}
	alarm(0);
	ok(page_sink_leave(s.sink));
	assert_int_equal(s.task.lent[0], -1);
	assert_int_equal(s.task.lent[1], -1);
	page_sink_close(s.sink);
	assert_int_equal(process_vm_writev(s.task.t.pid, &here, 1, &there, 1, 0), 1);
	sink_open(&s);
	stage_close(&s);
}

static void a_process_that_ended(void **state)
{
	struct stage s;
	struct err *e;

	stage_open(&s, state);
	assert_true(s.task.t.pid > 1);
	kill(s.task.t.pid, SIGKILL);
	waitid(P_PID, (id_t)s.task.t.pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	e = FRAME(&s, .runs = { { AT, 1, RUN_DATA } }, .n_runs = 1);
	assert_non_null(e);
	assert_string_equal(err_code_name(err_code(e)), "GONE");
	err_free(e);
	stage_close(&s);
}

#define WITH(test, kind) cmocka_unit_test_prestate(test, (void *)(uintptr_t) & (kind))
#define EACH(test) \
	WITH(test, copying), WITH(test, splicing), WITH(test, records), WITH(test, crumbs)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(absurd_frames_are_refused), EACH(a_round_has_its_limit),
		EACH(the_kernels_blocks_take_nothing), EACH(fresh_memory),
		EACH(pages_that_somebody_else_made), EACH(memory_that_is_advised),
		EACH(mappings_made_anew), EACH(memory_that_is_not_writable),
		EACH(memory_that_turns_out_not_writable), EACH(memory_that_is_gone),
		EACH(private_file_mappings), EACH(shared_memory), EACH(truncated_frames),
		EACH(a_frame_of_single_pages), EACH(nobody_waits_for_us),
		WITH(a_process_that_ended, copying), /* remote calls: see agent.c */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
