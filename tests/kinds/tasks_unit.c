// SPDX-License-Identifier: Apache-2.0
/*
 * Kinds of processes and threads without an engine, pages or a second host: a subject (subject.h)
 * is captured, ends, and is made again under its own pid as a seedling that has only the few pages
 * that the kernel itself looks at; then it is captured again. What was captured must be equal. It
 * never runs: whether it could is for the launcher to find out.
 *
 *     tasks_unit SUBJECT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/clock.h"
#include "kernel/remote.h"
#include "kinds/process.h"
#include "kinds/thread.h"
#include "pending.pb-c.h"
#include "tests/kernel/ns.h"
#include "tests/tmp.h"
#include "thread.pb-c.h"

#define OBJECTS_MAX 1000
#define PAGES_MAX   200
#define TIMES_KIND  13
#define ITIMER_KIND 8
#define SLACK_NS    200000

extern const struct kind kind_sched, kind_creds, kind_signals, kind_pending, kind_timer,
	kind_timer_times, kind_itimers, kind_limits, kind_fs;
static const struct kind *const kinds[] = { &kind_thread, &kind_fs, &kind_signals, &kind_timer,
	&kind_timer_times, &kind_itimers, &kind_limits, &kind_creds, &kind_pending, &kind_process,
	&kind_sched };

/* When the first capture was made. */
static int64_t captured_ns;

struct capture_priv {
	const struct kind *kind;
	struct object v[OBJECTS_MAX];
	size_t n;
};
struct rebuild_priv {
	int unused;
};

static void fail(const char *fmt, ...) printf_like(1, 2);

static void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

static void ok(struct err *e, const char *what)
{
	if (e)
		fail("%s: %s", what, err_line(e));
}

/* ---- the engine's part of kind.h ---- */

struct object *capture_emit(struct capture *c, uint64_t id, const ProtobufCMessage *msg)
{
	struct object *o = &c->priv->v[c->priv->n++];

	if (c->priv->n == OBJECTS_MAX)
		fail("too many objects");
	*o = (struct object){ .kind = c->priv->kind, .id = id };
	kind_pack(c->arena, msg, &o->body, &o->body_len);
	return o;
}

void capture_refuse(struct capture *c, struct err *e)
{
	(void)c;
	fail("refused: %s", err_line(e));
}

void capture_warn(struct capture *c, const char *fmt, ...)
{
	(void)c;
	(void)fmt;
}

void capture_ref(struct capture *c, struct object *o, int number)
{
	(void)c;
	(void)o;
	(void)number;
}

struct err *capture_home(struct capture *c, int *fd)
{
	(void)c;
	(void)fd;
	return err_new(ERR_BUG, "no descriptors here");
}

void rebuild_refuse(struct rebuild *r, struct err *e)
{
	(void)r;
	fail("refused: %s", err_line(e));
}

void rebuild_warn(struct rebuild *r, const char *fmt, ...)
{
	(void)r;
	(void)fmt;
}

int rebuild_stash_get(struct rebuild *r, uint64_t group, unsigned slot)
{
	(void)r;
	(void)group;
	(void)slot;
	return -1;
}

void rebuild_stash_put(struct rebuild *r, uint64_t group, unsigned slot, int fd)
{
	(void)r;
	(void)group;
	(void)slot;
	(void)fd;
}

struct task *rebuild_task(struct rebuild *r unused_arg, pid_t pid unused_arg)
{
	return NULL;
}

bool rebuild_locked(struct rebuild *r unused_arg, const struct net_pair *pair unused_arg)
{
	return false;
}

int rebuild_space_get(struct rebuild *r, uint64_t space)
{
	(void)r;
	(void)space;
	return -1;
}

void rebuild_space_put(struct rebuild *r, uint64_t space, int fd)
{
	(void)r;
	(void)space;
	(void)fd;
}

/* ---- both directions ---- */

static void capture_kind(struct capture *c, struct capture_priv *p, const struct kind *k)
{
	struct task *t = c->task;

	p->kind = k;
	for (size_t i = 0; i < t->n_threads; i++) {
		if (k->scope == KIND_PROCESS && i > 0)
			return;
		c->thread = t->threads[i];
		ok(k->capture(c), k->name);
	}
}

static void capture_all(struct arena *a, struct task *t, struct capture_priv *p)
{
	struct proc_stat stat;
	struct proc_status status;
	struct thread_facts_cache *facts = NULL;
	struct capture c = { .task = t,
		.stopped = true,
		.stat = &stat,
		.status = &status,
		.arena = a,
		.thread_facts = &facts,
		.priv = p };

	ok(proc_stat(a, t->pid, 0, &stat), "stat");
	ok(proc_status(a, t->pid, 0, &status), "status");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		capture_kind(&c, p, kinds[i]);
}

enum step { STEP_CHECK, STEP_REBUILD, STEP_FINISH, STEP_REGISTERS };

static void step(struct rebuild *r, const struct object *o, enum step step)
{
	const struct kind *k = o->kind;
	struct err *e = NULL;
	int fd = -1;
	void *msg;

	ok(kind_unpack(r->arena, o, &msg), "unpack");
	r->thread = r->task ? task_leader(r->task) : NULL;
	if (r->task && k->scope == KIND_THREAD)
		r->thread = task_thread(r->task, (pid_t)o->id);
	if (step == STEP_CHECK && k->check)
		e = k->check(r, o, msg);
	if (step == STEP_REBUILD && k->rebuild)
		e = k->rebuild(r, o, msg, &fd);
	if (step == STEP_FINISH && k->finish)
		e = k->finish(r, o, msg);
	if (step == STEP_REGISTERS && k == &kind_thread)
		e = thread_set_registers(r, o, msg);
	ok(e, k->name);
}

static void steps(struct rebuild *r, const struct capture_priv *p, enum step what)
{
	for (enum stage st = 0; st < STAGE_COUNT; st++)
		for (size_t i = 0; i < p->n; i++)
			if (p->v[i].kind->stage == st)
				step(r, &p->v[i], what);
}

/* ---- the pages that the kernel looks at ---- */

struct page {
	uint64_t at;
	uint8_t bytes[PAGE_BYTES];
};
struct pages {
	struct page v[PAGES_MAX];
	size_t n;
};

static void take_page(struct pages *p, struct task *t, uint64_t at)
{
	at = PAGE_DOWN(at);
	if (at == 0)
		return;
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].at == at)
			return;
	if (p->n == PAGES_MAX)
		fail("too many pages");
	p->v[p->n].at = at;
	ok(task_read(t, at, p->v[p->n].bytes, PAGE_BYTES), "read a page");
	p->n++;
}

static void take_pages(struct arena *a, struct pages *p, struct task *t, struct capture_priv *c)
{
	for (size_t i = 0; i < c->n; i++) {
		Migrate__Kind__Thread *m;
		void *msg;

		if (c->v[i].kind != &kind_thread)
			continue;
		ok(kind_unpack(a, &c->v[i], &msg), "unpack");
		m = msg;
		take_page(p, t, m->rseq->addr);
		take_page(p, t, m->rseq->addr + MAX(m->rseq->bytes, 1) - 1);
		if (!m->sleep)
			continue;
		take_page(p, t, m->sleep->remainder_addr);
		take_page(p, t, m->sleep->remainder_addr + 15);
		take_page(p, t, arch_pc(&task_thread(t, m->tid)->state) - 32);
		take_page(p, t, arch_pc(&task_thread(t, m->tid)->state));
	}
}

static void put_pages(const struct pages *p, struct task *t)
{
	for (size_t i = 0; i < p->n; i++) {
		ok(REMOTE(t, task_leader(t), NULL, "map a page", SYS_mmap, p->v[i].at, PAGE_BYTES,
			   PROT_READ | PROT_WRITE | PROT_EXEC,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0),
			"map");
		ok(task_write(t, p->v[i].at, p->v[i].bytes, PAGE_BYTES), "fill");
	}
}

/* ---- comparison ---- */

/* A sleep that was over when it was made again: its call has returned 0. There must have been
 * the time. */
static void level_slept(Migrate__Kind__Thread *x, const Migrate__Kind__Thread *y)
{
	struct arch_state s = { .regs_len = x->regs.len };

	if (!x->sleep || x->sleep->left_ns > clock_ns() - captured_ns ||
		x->regs.len > ARCH_REGS_MAX)
		fail("thread %d sleeps in one of two captures only", y->tid);
	memcpy(s.regs, x->regs.data, s.regs_len);
	arch_syscall_finish(&s, 0);
	memcpy(x->regs.data, s.regs, s.regs_len);
	x->sleep = NULL;
}

/* What runs on by itself: the rest of a sleep. Both are the same but for at most a minute. */
static void level_thread(Migrate__Kind__Thread *x, Migrate__Kind__Thread *y)
{
	if (!x->sleep != !y->sleep)
		level_slept(x, y);
	/* The kernel counts up to the end of the timer's slack. */
	if (x->sleep && y->sleep->left_ns < x->sleep->left_ns + SLACK_NS)
		y->sleep->left_ns = x->sleep->left_ns;
}

/* siginfo_t begins with si_signo, si_errno, si_code. */
static bool of_a_timer(const ProtobufCBinaryData *info)
{
	int32_t head[3];

	memcpy(head, info->data, sizeof(head));
	return head[2] == SI_TIMER || (head[2] == SI_KERNEL && head[0] == SIGALRM);
}

/* Timers fire for a stopped process too: signals of theirs that came since are left out of y. */
static void level_pending(const Migrate__Kind__Pending *x, Migrate__Kind__Pending *y)
{
	size_t n = 0;

	for (size_t i = 0; i < y->n_infos; i++) {
		const ProtobufCBinaryData *info = &y->infos[i];

		if (n < x->n_infos && memcmp(info->data, x->infos[n].data, info->len) == 0)
			y->infos[n++] = *info;
		else if (!of_a_timer(info))
			fail("a signal is pending that was not sent");
	}
	y->n_infos = n;
}

static void compare(struct arena *a, const struct object *x, const struct object *y)
{
	const uint8_t *bytes_x, *bytes_y;
	size_t len_x, len_y;
	void *mx, *my;

	if (x->kind->id == TIMES_KIND || x->kind->id == ITIMER_KIND)
		return; /* nobody reads two clocks in one instant: see subject timers */
	ok(kind_unpack(a, x, &mx), "unpack");
	ok(kind_unpack(a, y, &my), "unpack");
	if (x->kind == &kind_thread)
		level_thread(mx, my);
	if (x->kind == &kind_pending)
		level_pending(mx, my);
	kind_pack(a, mx, &bytes_x, &len_x);
	kind_pack(a, my, &bytes_y, &len_y);
	if (len_x == len_y && memcmp(bytes_x, bytes_y, len_x) == 0)
		return;
	for (size_t i = 0; i < MIN(len_x, len_y); i++)
		if (bytes_x[i] != bytes_y[i])
			fail("%s %ju differs at byte %zu of %zu: %02x, %02x", x->kind->name,
				(uintmax_t)x->id, i, len_x, bytes_x[i], bytes_y[i]);
	fail("%s %ju has %zu bytes and then %zu", x->kind->name, (uintmax_t)x->id, len_x, len_y);
}

/* Each object of `before` is in `after` and the same; none was added but signals of timers, which
 * fire for a stopped process too. */
static void compare_all(
	struct arena *a, const struct capture_priv *before, const struct capture_priv *after)
{
	size_t more = 0;

	for (size_t i = 0; i < before->n; i++) {
		const struct object *x = &before->v[i], *y = NULL;

		for (size_t j = 0; j < after->n; j++)
			if (after->v[j].kind == x->kind && after->v[j].id == x->id)
				y = &after->v[j];
		if (!y)
			fail("%s %ju is lost", x->kind->name, (uintmax_t)x->id);
		compare(a, x, y);
	}
	for (size_t i = 0; i < after->n; i++)
		more += after->v[i].kind == &kind_pending;
	for (size_t i = 0; i < before->n; i++)
		more -= before->v[i].kind == &kind_pending;
	if (after->n != before->n + more)
		fail("%zu objects became %zu", before->n, after->n);
}

/* ---- the subject ---- */

static bool says_ready(void)
{
	char text[1000] = "";
	int fd = open("out", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n > 0 && strncmp(text, "SKIP", 4) == 0) {
		printf("%s", text);
		fflush(stdout);
		_exit(TEST_SKIP);
	}
	return n > 0 && strstr(text, "ready\n");
}

static pid_t start(const char *path)
{
	pid_t pid = fork();

	if (pid == 0) {
		int out = open("out", O_CREAT | O_WRONLY | O_APPEND, 0600);

		setsid();
		dup2(open("/dev/null", O_RDWR), 0);
		dup2(out, 1);
		dup2(out, 2);
		execl(path, path, NULL);
		_exit(1);
	}
	if (pid <= 1)
		fail("fork: %s", strerror(errno));
	for (int i = 0; !says_ready(); i++) {
		if (i > 2000)
			fail("the subject is not ready");
		usleep(5000);
	}
	usleep(50000); /* until it sleeps */
	return pid;
}

static void end(struct task *t)
{
	ok(task_kill(t), "end");
	/* We trace its threads: the leader is not gone before they are reaped. */
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
	task_free(t);
}

static void round_trip(const char *subject)
{
	static struct capture_priv before, after;
	static struct pages pages;
	autoarena struct arena *a = arena_new();
	struct seedling_spec spec = { .pid = start(subject) };
	struct rebuild r = { .arena = a, .elapsed_ns = 1 };
	struct task *t;

	ok(task_open(spec.pid, &t), "open");
	ok(task_hold(t, deadline_in(60000000)), "hold");
	captured_ns = clock_ns();
	capture_all(a, t, &before);
	/* Twice in one hold: a stopped process does not change. */
	capture_all(a, t, &after);
	compare_all(a, &before, &after);
	take_pages(a, &pages, t, &before);
	end(t);

	steps(&r, &before, STEP_CHECK);
	ok(seedling_make(&spec, &r.task), "make the seedling");
	put_pages(&pages, r.task);
	steps(&r, &before, STEP_REBUILD);
	steps(&r, &before, STEP_REBUILD); /* an object that changed comes twice */
	steps(&r, &before, STEP_FINISH);
	steps(&r, &before, STEP_REGISTERS);
	after.n = 0;
	capture_all(a, r.task, &after);
	compare_all(a, &before, &after);
	printf("%s: %zu objects of %zu threads are the same\n", subject, before.n,
		r.task->n_threads);
	ok(task_kill(r.task), "end the seedling");
	task_free(r.task);
}

int main(int argc, char **argv)
{
	char dir[TMP_BYTES], rm[TMP_BYTES + 8], *subject;

	if (argc != 2)
		return 2;
	subject = realpath(argv[1], NULL);
	if (!subject)
		fail("%s: %s", argv[1], strerror(errno));
	ns_enter();
	alarm(600);
	if (!mkdtemp(tmp_template(dir, "tasks_unit")) || chdir(dir) < 0)
		fail("%s: %s", dir, strerror(errno));
	round_trip(subject);
	snprintf(rm, sizeof(rm), "rm -rf %s", dir);
	if (chdir("/") < 0 || system(rm))
		fail("clean up: %s", rm);
	free(subject);
	return 0;
}
