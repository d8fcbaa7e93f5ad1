// SPDX-License-Identifier: Apache-2.0
/*
 * What each way into a process costs: PAGES frames of 1 MiB come over a socketpair, from a process
 * that sends them by reference (so that it costs next to nothing), into a real seedling.
 *
 *     bench-sinks [MIB] [RUNS]
 *
 * For memory of each sort: GiB/s of both sinks and their ratio, and CPU seconds per GiB, of us and
 * of the seedling, that the one and the other take; the median of the runs, both ways by turns.
 * "drop" is the stream alone: its bytes are read into one buffer, or spliced into a pipe and from
 * there to nowhere. Bytes to be spliced come 16 KiB at a time, as from a socket on which the kernel
 * does TLS; bytes to be read come as many as there is room for, as they do from there too.
 */
#include "pages/pages.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "kernel/ns.h"
#include "kernel/remote.h"
#include "pages/odd_stream.h"

#define AT         0x200000000000ULL
#define DATA_PAGES 256
#define DATA_BYTES (DATA_PAGES * PAGE_BYTES)
#define RUNS_MAX   31
#define PID        5000

enum sort { SMALL, AGAIN, HUGE, DROP, SORTS };
static const char *const names[SORTS] = { "new, small pages", "again, small pages",
	"new, huge pages", "drop" };

struct result {
	double seconds, ours, theirs; /* the last two: CPU */
};

static uint64_t bytes;

static void must(struct err *e)
{
	autofree char *line = e ? err_line(e) : NULL;

	if (!e)
		return;
	fprintf(stderr, "bench-sinks: %s\n", line);
	exit(1);
}

static void need(bool yes, const char *what)
{
	if (yes)
		return;
	perror(what);
	exit(1);
}

/* ---- the sender, a process ---- */

/* A frame's pages in a pipe, by reference. */
static void fill_pipe(int pipe_fd, const uint8_t *data)
{
	struct iovec iov = { (void *)(uintptr_t)data, DATA_BYTES };

	while (iov.iov_len) {
		ssize_t n = vmsplice(pipe_fd, &iov, 1, 0);

		need(n > 0, "vmsplice");
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
	}
}

static void send_frames(struct stream *s)
{
	uint8_t table[RUN_HEAD_BYTES + RUN_BYTES];
	const uint32_t head[2] = { htole32(1), 0 };
	uint8_t *data =
		mmap(NULL, DATA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct channel ch;
	int p[2];

	need(data != MAP_FAILED && pipe2(p, O_CLOEXEC) == 0 &&
			fcntl(p[1], F_SETPIPE_SZ, DATA_BYTES) > 0,
		"a pipe");
	memset(data, 7, DATA_BYTES);
	channel_init(&ch, s, -1);
	memcpy(table, head, sizeof(head));
	for (uint64_t at = 0; at < bytes; at += DATA_BYTES) {
		struct iovec iov = { table, sizeof(table) };

		run_encode(&(struct run){ AT + at, DATA_PAGES, RUN_DATA }, table + RUN_HEAD_BYTES);
		fill_pipe(p[1], data);
		must(channel_send_body(&ch, FRAME_PAGES, SPACE_PRIVATE,
			&(struct frame_body){ &iov, 1, p[0], DATA_BYTES }));
	}
	_exit(0);
}

static pid_t start_sender(struct stream s[2])
{
	pid_t pid = fork();

	need(pid >= 0, "fork");
	if (!pid)
		send_frames(&s[0]);
	stream_close(&s[0]);
	return pid;
}

/* ---- the receiver ---- */

static void call_in(struct task *t, long nr, uint64_t a, uint64_t b, uint64_t c)
{
	must(REMOTE(t, task_leader(t), NULL, "prepare memory", nr, a, b, c));
}

static void make_memory(struct task *t, enum sort sort)
{
	must(REMOTE(t, task_leader(t), NULL, "mmap", SYS_mmap, AT, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, (uint64_t)-1, 0));
	if (sort == HUGE)
		call_in(t, SYS_madvise, AT, bytes, MADV_HUGEPAGE);
}

static double cpu_of(pid_t pid)
{
	char path[64], text[1024];
	unsigned long user, system;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	need(f && fgets(text, sizeof(text), f), path);
	fclose(f);
	need(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
		     &user, &system) == 2,
		"stat");
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void take_frames(struct page_sink *sink, struct channel *ch)
{
	for (uint64_t at = 0; at < bytes; at += DATA_BYTES) {
		struct frame_head h;

		must(channel_head(ch, &h));
		must(page_sink_frame(sink, &h, ch));
	}
	must(page_sink_settle(sink));
}

/* All frames to nowhere. */
static void drop_frames(enum page_sink_way way, struct channel *ch)
{
	static uint8_t buf[CHANNEL_BORROW_MAX];
	uint64_t left =
		bytes / (DATA_BYTES) * (FRAME_HEAD_BYTES + RUN_HEAD_BYTES + RUN_BYTES + DATA_BYTES);
	autoclose int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC), pipe_fd = -1;

	must(io_pipe_single(&pipe_fd));
	io_pipe_grow(pipe_fd, 1 << 20);
	while (left) {
		size_t n = (size_t)MIN(left, (uint64_t)sizeof(buf));

		if (way == SINK_COPY) {
			must(channel_read(ch, buf, n));
		} else {
			must(channel_splice(ch, pipe_fd, n, &n));
			need(splice(pipe_fd, NULL, nowhere, NULL, n, 0) == (ssize_t)n, "splice");
		}
		left -= n;
	}
}

static void layout(struct page_sink *sink, const struct task *t)
{
	autoarena struct arena *a = arena_new();
	struct vma_list l;

	must(proc_smaps(a, t->pid, &l));
	must(page_sink_layout(sink, &l));
}

static struct result run(struct task *t, enum sort sort, enum page_sink_way way)
{
	struct page_sink *sink;
	struct stream s[2];
	struct channel ch;
	struct result r;
	int ends[2];

	make_memory(t, sort);
	must(page_sink_open(&(struct page_sink_spec){ .t = t, .way = way }, &sink));
	layout(sink, t);
	for (int pass = sort == AGAIN ? 0 : 1; pass < 2; pass++) {
		pid_t sender;
		int64_t began;

		need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
		for (int i = 0; i < 2; i++)
			must(odd_stream(ends[i],
				(struct odd){ .in_max = i && way == SINK_SPLICE ? 16384 : 0,
					.even = true },
				&s[i]));
		sender = start_sender(s);
		channel_init(&ch, &s[1], -1);
		began = clock_us();
		r = (struct result){ .ours = -own_cpu(), .theirs = -cpu_of(t->pid) };
		if (sort == DROP)
			drop_frames(way, &ch);
		else
			take_frames(sink, &ch);
		r.seconds = (double)(clock_us() - began) / 1e6;
		r.ours += own_cpu();
		r.theirs += cpu_of(t->pid);
		waitpid(sender, NULL, 0);
		stream_close(&s[1]);
	}
	must(page_sink_leave(sink));
	page_sink_close(sink);
	call_in(t, SYS_munmap, AT, bytes, 0);
	return r;
}

static int compare(const void *a, const void *b)
{
	const struct result *x = a, *y = b;

	return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

static void bench(struct task *t, enum sort sort, int runs)
{
	struct result r[SINK_WAYS][RUNS_MAX];
	const double gib = (double)bytes / (1 << 30);
	double speed[SINK_WAYS];

	for (int i = 0; i < runs; i++)
		for (int way = 0; way < SINK_WAYS; way++)
			r[way][i] = run(t, sort, (enum page_sink_way)way);
	printf("%-20s", names[sort]);
	for (int way = 0; way < SINK_WAYS; way++) {
		const struct result *m = &r[way][runs / 2];

		qsort(r[way], (size_t)runs, sizeof(r[way][0]), compare);
		speed[way] = gib / m->seconds;
		printf("%8s %5.2f GiB/s %5.2f + %4.2f s/GiB", page_sink_names[way], speed[way],
			m->ours / gib, m->theirs / gib);
	}
	printf("   ratio %.2f\n", speed[SINK_SPLICE] / speed[SINK_COPY]);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int runs = argc > 2 ? atoi(argv[2]) : 5;
	struct task *t;

	bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 256) << 20;
	if (!bytes || runs < 1 || runs > RUNS_MAX)
		return 2;
	ns_enter();
	signal(SIGPIPE, SIG_IGN);
	must(seedling_make(&(struct seedling_spec){ .pid = PID }, &t));
	run(t, SMALL, SINK_COPY); /* memory that the machine has yet to provide */
	for (int sort = 0; sort < SORTS; sort++)
		bench(t, (enum sort)sort, runs);
	must(task_kill(t));
	task_free(t);
	return 0;
}
