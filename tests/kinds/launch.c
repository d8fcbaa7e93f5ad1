// SPDX-License-Identifier: Apache-2.0
/*
 * Moves a subject between two hosts of one program: two pid, mount, network, IPC and time
 * namespaces, joined by a socketpair, with the real engine on both sides and no daemon around it.
 *
 *     launch [--moves N] [--cancel STATE [--retaken NAME]] [--dawdle STATE] [--streams N]
 *            SUBJECT [ARG...]
 *
 * Exit: 0 the subject verified itself after N moves, 1 not, 77 it cannot run here.
 * --signal N: somebody sends that signal to the original when it stands still already; the source
 * must say that it is lost.
 * After every move the kernel must say the same about it as before (fixpoint.h).
 * --cancel STATE: every move is cancelled when the source enters STATE; that, and nothing else,
 * must be what ends it, and the subject must stay and be unharmed. --retaken NAME: the original
 * takes back at once objects of that kind, which the destination may be about to take, so that it
 * may fail before it hears of the cancel.
 * Memory goes by reference on the first move, by copies on the second, and so on in turns
 * (LAUNCH_PAGES, LAUNCH_SINK: always so); with LAUNCH_PIECES the stream's bytes come in pieces of
 * that size at most.
 * --dawdle STATE: the source takes its time before it enters STATE, so that the subject surely does
 * something then.
 * --streams N: so many page streams, each a socketpair too; all rounds go over them, in pieces of
 * some pages.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/forked.h"
#include "base/io.h"
#include "engine/engine.h"
#include "fixpoint.h"
#include "kernel/confine.h"
#include "kernel/proc.h"
#include "pages/odd_stream.h"
#include "tests/tmp.h"

#define SKIP_STATUS   77
#define READY_MS      120000
#define END_MS        120000
#define LOOKS         10
#define LOOK_AGAIN_US 30000
#define CLOCK_AHEAD   "monotonic 1000000 0\nboottime 1000000 0\n"
/* High enough that neither host has it. */
#define SUBJECT_PID 4000

/* What the launcher asks of a host's init, and what comes back. */
enum order { ORDER_START, ORDER_SEND, ORDER_RECEIVE, ORDER_LOOK, ORDER_IPC };
struct order_msg {
	enum order order;
	pid_t pid;
	char cancel[16], dawdle[16];
	int signal;
	unsigned streams;
	bool copying;
	char id[32];
};
/* The control stream, and those for pages. */
#define FDS_MAX (1 + ENGINE_STREAMS_MAX)
struct answer_msg {
	int result; /* enum engine_result, or -1: the subject ended with `status` */
	int status;
	int code; /* enum err_code; 0: no error */
	char text[1500];
};

struct host {
	const char *name;
	int fd; /* to its init */
	pid_t init;
};

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

/* ---- inside a host ---- */

struct run {
	const int *fds; /* streams */
	struct stream streams[ENGINE_STREAMS_MAX];
	int cancel[2];
	const char *cancel_state, *dawdle_state;
	int signal;
};

#define DAWDLE_US 30000

static void on_progress(void *arg, const struct engine_stats *s)
{
	struct run *r = arg;

	if (getenv("LAUNCH_VERBOSE"))
		fprintf(stderr, "  %8jd us [%d] %s round %u dirty %ju sent %ju\n",
			(intmax_t)(clock_us() - s->started_us), getpid(), s->state, s->round,
			(uintmax_t)s->round_dirty_bytes, (uintmax_t)s->bytes_sent);
	if (r->signal && !strcmp(s->state, "offered") && kill(SUBJECT_PID, r->signal) < 0)
		perror("signal");
	if (r->dawdle_state && !strcmp(s->state, r->dawdle_state))
		usleep(DAWDLE_US);
	if (r->cancel_state && !strcmp(s->state, r->cancel_state) &&
		write(r->cancel[1], "c", 1) < 0)
		perror("cancel");
}

static void describe(const struct engine_outcome *o, struct answer_msg *a)
{
	autofree char *line = o->error ? err_line(o->error) : NULL;
	size_t n;

	n = (size_t)snprintf(a->text, sizeof(a->text),
		"%s%s%s in %s; downtime %jd us, stall %jd us, %u rounds, %ju bytes, %s %s, "
		"%ju bytes copied, %u streams\n",
		engine_result_name(o->result), line ? ": " : "", line ? line : "",
		o->error ? o->state : o->stats.state, (intmax_t)o->stats.downtime_us,
		(intmax_t)o->stats.stall_us, o->stats.round, (uintmax_t)o->stats.bytes_sent,
		o->stats.sink ? "sink" : "source",
		o->stats.sink     ? o->stats.sink
		: o->stats.source ? o->stats.source
				  : "none",
		(uintmax_t)o->stats.bytes_copied, o->stats.streams);
	for (size_t i = 0; i < o->notes.n_blockers && n < sizeof(a->text); i++) {
		autofree char *b = err_line(o->notes.blockers[i]);

		n += (size_t)snprintf(a->text + n, sizeof(a->text) - n, "  blocker: %s\n", b);
	}
	for (size_t i = 0; i < o->notes.n_warnings && n < sizeof(a->text); i++)
		n += (size_t)snprintf(
			a->text + n, sizeof(a->text) - n, "  warning: %s\n", o->notes.warnings[i]);
}

static struct err *carry(int fd, struct stream *ret)
{
	const char *pieces = getenv("LAUNCH_PIECES");
	size_t max = pieces ? strtoul(pieces, NULL, 10) : 0;

	return max ? odd_stream(fd, (struct odd){ max, max }, ret) : stream_socket(fd, ret);
}

/* What the source says goes to a file, for tests/fuzz/seeds.py. */
static struct err *carry_recorded(int fd, struct stream *ret)
{
	const char *path = getenv("LAUNCH_RECORD");
	struct odd how = { .even = true };

	if (!path)
		return carry(fd, ret);
	how.record = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
	if (how.record < 0)
		die(path);
	return odd_stream(fd, how, ret);
}

static struct err *open_stream(void *arg, unsigned n, struct deadline d, struct stream **ret)
{
	struct run *r = arg;
	int fd = n < FDS_MAX ? r->fds[n] : -1;

	if (fd < 0 || deadline_passed(d))
		return err_new(ERR_PEER, "no connection %u", n);
	*ret = &r->streams[n - 1];
	return carry(dup(fd), *ret);
}

static void run_engine(const struct order_msg *m, const int *fds, int reply)
{
	const char *pages = getenv("LAUNCH_PAGES"), *sink = getenv("LAUNCH_SINK");
	const char *turn = m->copying ? "copy" : NULL;
	struct run r = { .fds = fds,
		.cancel_state = m->cancel[0] ? m->cancel : NULL,
		.dawdle_state = m->dawdle[0] ? m->dawdle : NULL,
		.signal = m->signal };
	struct stream carrier = { .fd = -1 };
	struct engine_io io = {
		.stream = &carrier,
		.arg = &r,
		.on_progress = on_progress,
		.open_stream = open_stream,
		.page_thread = confine_page_thread,
	};
	struct engine_outcome out;
	struct answer_msg a = { 0 };
	char here[TMP_BYTES]; /* the launcher's directory */

	signal(SIGPIPE, SIG_IGN);
	if (!getcwd(here, sizeof(here)) || pipe2(r.cancel, O_CLOEXEC) < 0 ||
		(m->order == ORDER_SEND ? carry : carry_recorded)(dup(fds[0]), &carrier))
		die("begin");
	io.interrupt_fd = r.cancel[0];
	if (m->order == ORDER_SEND)
		engine_send(&io,
			&(struct send_options){ .pid = m->pid,
				.id = m->id,
				.downtime_us = 1000000,
				.max_rounds = 5,
				.force_switch = true,
				.tracker = getenv("LAUNCH_TRACKER"),
				.pages = pages ? pages : turn,
				.streams = m->streams,
				.spread_bytes = 1 },
			&out);
	else
		engine_receive(&io,
			&(struct receive_options){ .state_dir = here,
				.cgroup_dir = getenv("LAUNCH_CGROUP"),
				.sink = sink ? sink : turn },
			&out);
	a.result = out.result;
	a.code = out.error ? (int)err_code(out.error) : 0;
	describe(&out, &a);
	engine_outcome_fini(&out);
	stream_close(&carrier);
	fork_leaks(); /* reap() tells */
	if (write(reply, &a, sizeof(a)) < 0)
		perror("answer");
	_exit(0);
}

static bool out_has(const char *word)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	char *text;

	e = io_read_file(a, "out", 1 << 20, &text, NULL);
	return !e && strstr(text, word);
}

/* It has said ready, but may still be inside that write, with its descriptor's position not yet
 * moved on: waits until its first thread sleeps. One that never does is looked at as it is. */
static void until_it_sleeps(void)
{
	autoarena struct arena *a = arena_new();
	struct proc_stat stat = { 0 };

	for (int i = 0; i < 1000 && stat.state != 'S'; i++) {
		err_free(proc_stat(a, SUBJECT_PID, 0, &stat));
		usleep(1000);
	}
}

/* What the kernel says about the subject, into fd. */
static void look(int fd, int reply)
{
	struct answer_msg a = { .result = RESULT_KEPT };
	autotext struct text t = { 0 };

	until_it_sleeps();
	fixpoint_look(SUBJECT_PID, out_has("restless\n"), &t);
	err_free(io_write_full(fd, text_str(&t), t.len, "what the kernel says"));
	if (write(reply, &a, sizeof(a)) < 0)
		perror("answer");
}

#define QUEUES "/mnt"

static void list_queues(struct answer_msg *a, size_t n)
{
	DIR *d;

	if (mount("mqueue", QUEUES, "mqueue", 0, NULL) < 0)
		return;
	d = opendir(QUEUES);
	for (const struct dirent *de; d && n < sizeof(a->text) && (de = readdir(d));)
		if (de->d_name[0] != '.')
			n += (size_t)snprintf(a->text + n, sizeof(a->text) - n,
				"  message queue /%s\n", de->d_name);
	if (d)
		closedir(d);
	(void)umount(QUEUES);
}

/* What the host has of System V IPC, and queues, which no process's end removes. */
static void look_at_ipc(int reply)
{
	static const char *const files[] = { "/proc/sysvipc/shm", "/proc/sysvipc/sem",
		"/proc/sysvipc/msg" };
	struct answer_msg a = { .result = RESULT_KEPT };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		autoarena struct arena *arena = arena_new();
		autoerr struct err *e = NULL;
		char *text = NULL;

		e = io_read_file(arena, files[i], 1 << 20, &text, NULL);
		for (char *p = e ? NULL : strchr(text, '\n'); p && p[1]; p = strchr(p + 1, '\n'))
			n += (size_t)snprintf(a.text + n, sizeof(a.text) - n, "  %s: %.*s\n",
				files[i], (int)strcspn(p + 1, "\n"), p + 1);
		n = MIN(n, sizeof(a.text) - 1);
	}
	list_queues(&a, n);
	if (write(reply, &a, sizeof(a)) < 0)
		perror("answer");
}

static pid_t start_subject(char **argv)
{
	pid_t pid;
	int in, out;

	autofree char *last = NULL;
	if (asprintf(&last, "%d", SUBJECT_PID - 1) < 0)
		die("asprintf");
	err_free(io_write_file("/proc/sys/kernel/ns_last_pid", last));
	pid = fork();
	if (pid)
		return pid;
	setsid();
	in = open("/dev/null", O_RDONLY);
	out = open("out", O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		die("dup2");
	close_range(3, ~0U, 0);
	signal(SIGCHLD, SIG_DFL);
	execv(argv[0], argv);
	die(argv[0]);
	return -1;
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	autoclose int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		perror("loopback");
}

static int recv_order(int fd, struct order_msg *m, int fds[FDS_MAX])
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c;

	for (int i = 0; i < FDS_MAX; i++)
		fds[i] = -1;
	if (recvmsg(fd, &msg, MSG_CMSG_CLOEXEC) != sizeof(*m))
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return 0;
}

/* Reports the subject's end, or one of an engine that did not come to its own. What else there is
 * are children of the subject, who are ended here when they have moved. */
static void reap(int fd, pid_t engine)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct answer_msg a = { .result = -1, .status = status };

		if (pid != SUBJECT_PID && pid != engine)
			continue;
		if (pid != SUBJECT_PID && WIFSIGNALED(status))
			fprintf(stderr, "engine %d ended by signal %d\n", pid, WTERMSIG(status));
		if (pid != SUBJECT_PID && WIFEXITED(status) && WEXITSTATUS(status))
			fprintf(stderr, "engine %d ended with status %d\n", pid,
				WEXITSTATUS(status));
		if (pid != SUBJECT_PID && status && write(fd, &a, sizeof(a)) < 0)
			_exit(1);
		if (pid == SUBJECT_PID && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) &&
			write(fd, &a, sizeof(a)) < 0)
			_exit(1);
	}
}

static void host_init(int fd, char **argv)
{
	struct pollfd p = { fd, POLLIN, 0 };
	struct order_msg m;
	int fds[FDS_MAX];
	pid_t engine = -1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mount("proc", "/proc", "proc", 0, NULL) < 0)
		die("mount /proc");
	loopback_up();
	for (;;) {
		reap(fd, engine);
		if (poll(&p, 1, 5) <= 0)
			continue;
		if (recv_order(fd, &m, fds) < 0)
			_exit(0);
		if (m.order == ORDER_START)
			start_subject(argv);
		else if (m.order == ORDER_LOOK)
			look(fds[0], fd);
		else if (m.order == ORDER_IPC)
			look_at_ipc(fd);
		else if ((engine = fork()) == 0)
			run_engine(&m, fds, fd);
		for (int i = 0; i < FDS_MAX; i++)
			fd_closep(&fds[i]);
	}
}

static void host_start(struct host *h, bool ahead, char **argv)
{
	int sp[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sp) < 0)
		die("socketpair");
	h->init = fork();
	if (h->init < 0)
		die("fork");
	if (h->init) {
		close(sp[1]);
		h->fd = sp[0];
		return;
	}
	close(sp[0]);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWTIME) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("unshare");
	if (ahead)
		err_free(io_write_file("/proc/self/timens_offsets", CLOCK_AHEAD));
	pid_t init = fork();

	if (init < 0)
		die("fork");
	if (!init)
		host_init(sp[1], argv);
	close(sp[1]);
	waitpid(init, NULL, 0);
	_exit(0);
}

/* ---- outside ---- */

static void order(struct host *h, const struct order_msg *m, const int *fds, size_t n)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)m, sizeof(*m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		struct cmsghdr *c;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n * sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	if (sendmsg(h->fd, &msg, 0) < 0)
		die("order");
}

static bool answer(struct host *h, int timeout_ms, struct answer_msg *a)
{
	struct pollfd p = { h->fd, POLLIN, 0 };

	return poll(&p, 1, timeout_ms) > 0 && read(h->fd, a, sizeof(*a)) == sizeof(*a);
}

static void show_out(void)
{
	autoarena struct arena *a = arena_new();
	char *text;
	struct err *e = io_read_file(a, "out", 1 << 20, &text, NULL);

	if (!e)
		fprintf(stderr, "--- the subject said:\n%s---\n", text);
	err_free(e);
}

static int subject_ended(const struct answer_msg *a)
{
	if (WIFEXITED(a->status) && WEXITSTATUS(a->status) == SKIP_STATUS) {
		show_out();
		return SKIP_STATUS;
	}
	if (WIFEXITED(a->status) && WEXITSTATUS(a->status) == 0)
		return 0;
	fprintf(stderr, "the subject ended with status %#x\n", (unsigned)a->status);
	show_out();
	return 1;
}

/* 0 when it says ready, else the exit status for the launcher. */
static int wait_ready(struct host *h)
{
	struct deadline d = deadline_in(READY_MS * 1000LL);
	struct answer_msg a;

	while (!out_has("ready\n")) {
		if (answer(h, 5, &a))
			return subject_ended(&a) ?: 1;
		if (deadline_passed(d)) {
			fprintf(stderr, "the subject is not ready\n");
			show_out();
			return 1;
		}
	}
	return 0;
}

struct what {
	int moves, signal;
	unsigned streams;
	const char *cancel, *dawdle, *retaken;
	bool copying; /* this one */
};

/* Both ends of all connections go to the two hosts. */
static void connect_and_order(struct host *from, const struct order_msg *send, struct host *to)
{
	const struct order_msg receive = { .order = ORDER_RECEIVE, .copying = send->copying };
	size_t n = 1 + (send->streams > 1 ? send->streams : 0);
	int ends[2][FDS_MAX];

	for (size_t i = 0; i < n; i++) {
		int sp[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) < 0)
			die("socketpair");
		ends[0][i] = sp[0];
		ends[1][i] = sp[1];
	}
	order(to, &receive, ends[1], n);
	order(from, send, ends[0], n);
	for (size_t i = 0; i < n; i++) {
		close(ends[0][i]);
		close(ends[1][i]);
	}
}

/* Pages went in as they should. */
static bool sink_is(const struct what *w, const char *text)
{
	const char *want = getenv("LAUNCH_SINK");
	autofree char *words = NULL;

	if (!want)
		want = w->copying ? "copy" : "splice";
	return asprintf(&words, ", sink %s,", want) > 0 && strstr(text, words);
}

/* The kind of what the original has taken back is named, and that somebody has it. */
static bool found_retaken(const struct what *w, const struct answer_msg *destination)
{
	const char *text = destination->text;

	return w->retaken && destination->code == ERR_KERNEL && strstr(text, w->retaken) &&
	       strstr(text, strerror(EAGAIN));
}

/* A move that was refused is kept as well, and then nothing has been tried. The destination is
 * told, or finds the connection closed. */
static bool cancelled(const struct what *w, const struct answer_msg *source,
	const struct answer_msg *destination)
{
	return source->code == ERR_CANCELLED &&
	       (destination->code == ERR_CANCELLED || destination->code == ERR_PEER ||
		       found_retaken(w, destination));
}

static bool as_wanted(
	const struct what *w, const struct answer_msg *source, const struct answer_msg *destination)
{
	int want = w->cancel ? RESULT_KEPT : RESULT_MOVED;

	if (source->result != want || destination->result != want)
		return false;
	return w->cancel ? cancelled(w, source, destination) : sink_is(w, destination->text);
}

/* One move; true if it ended as it should. */
static bool move(struct host *from, struct host *to, const struct what *w)
{
	struct order_msg send = {
		.order = ORDER_SEND,
		.pid = SUBJECT_PID,
		.signal = w->signal,
		.streams = w->streams,
		.copying = w->copying,
	};
	struct answer_msg a = { .result = -2 }, b = { .result = -2 };

	snprintf(send.id, sizeof(send.id), "test-%d", getpid());
	snprintf(send.cancel, sizeof(send.cancel), "%s", w->cancel ? w->cancel : "");
	snprintf(send.dawdle, sizeof(send.dawdle), "%s", w->dawdle ? w->dawdle : "");
	connect_and_order(from, &send, to);
	if (!answer(from, END_MS, &a) || !answer(to, END_MS, &b) || !as_wanted(w, &a, &b)) {
		fprintf(stderr, "source %s: %sdestination %s: %s", from->name, a.text, to->name,
			b.text);
		if (a.result == -1)
			subject_ended(&a);
		show_out();
		return false;
	}
	if (!w->signal != !strstr(a.text, "reached the original")) {
		fprintf(stderr, "about a late signal: %s", a.text);
		return false;
	}
	printf("%s -> %s: %s", from->name, to->name, a.text);
	printf("        %s", b.text);
	return true;
}

/* NULL when it has ended. The caller frees it. */
static char *host_look(struct host *h)
{
	autoarena struct arena *a = arena_new();
	autoclose int fd = memfd_create("look", MFD_CLOEXEC);
	struct answer_msg ans;
	char *text;

	if (fd < 0)
		die("memfd");
	order(h, &(struct order_msg){ .order = ORDER_LOOK }, &fd, 1);
	if (!answer(h, END_MS, &ans) || ans.result == -1)
		return NULL;
	if (lseek(fd, 0, SEEK_SET) < 0 || io_read_fd(a, fd, 64 << 20, "the look", &text))
		die("look");
	return strdup(text);
}

/* Is it as it was? What changes while one looks is looked at again. */
static bool fixpoint(struct host *h, const char *before)
{
	for (int i = 1; i <= LOOKS; i++) {
		autofree char *was = strdup(before), *now = host_look(h);

		if (!now) {
			show_out();
			return false;
		}
		if (fixpoint_compare(was, now, i == LOOKS) == 0)
			return true;
		usleep(LOOK_AGAIN_US);
	}
	fprintf(stderr, "the kernel does not say the same about it on %s (- before, + now)\n",
		h->name);
	return false;
}

/* Where it is not, nothing of it is. */
static bool nothing_left(struct host *h)
{
	struct answer_msg a;

	order(h, &(struct order_msg){ .order = ORDER_IPC }, NULL, 0);
	if (!answer(h, END_MS, &a) || a.result != RESULT_KEPT)
		return false;
	if (a.text[0])
		fprintf(stderr, "left behind on %s:\n%s", h->name, a.text);
	return !a.text[0];
}

static int verdict(struct host *h)
{
	struct answer_msg a;
	int go = open("go", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	close(go);
	if (!answer(h, END_MS, &a)) {
		fprintf(stderr, "the subject did not end\n");
		show_out();
		return 1;
	}
	return subject_ended(&a);
}

static int launch(char **argv, struct what *w)
{
	struct host hosts[2] = { { .name = "a" }, { .name = "b" } };
	autofree char *before = NULL;
	int at = 0, status;

	host_start(&hosts[0], false, argv);
	host_start(&hosts[1], true, argv);
	order(&hosts[0], &(struct order_msg){ .order = ORDER_START }, NULL, 0);
	status = wait_ready(&hosts[0]);
	if (!status)
		before = host_look(&hosts[0]);
	for (int i = 0; i < w->moves && !status; i++) {
		w->copying = i % 2;
		if (!move(&hosts[at], &hosts[!at], w))
			status = 1;
		else if (!w->cancel)
			at = !at;
		if (!status && before && !fixpoint(&hosts[at], before))
			status = 1;
		if (!status && !nothing_left(&hosts[!at]))
			status = 1;
	}
	return status ? status : verdict(&hosts[at]);
}

int main(int argc, char **argv)
{
	struct what w = { .moves = 1, .streams = 1 };
	char dir[TMP_BYTES], rm[TMP_BYTES + 8];
	int i, status;

	for (i = 1; i + 1 < argc && argv[i][0] == '-'; i += 2) {
		if (!strcmp(argv[i], "--moves"))
			w.moves = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--signal"))
			w.signal = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--cancel"))
			w.cancel = argv[i + 1];
		else if (!strcmp(argv[i], "--retaken"))
			w.retaken = argv[i + 1];
		else if (!strcmp(argv[i], "--streams"))
			w.streams = (unsigned)MIN(MAX(atoi(argv[i + 1]), 1), ENGINE_STREAMS_MAX);
		else if (!strcmp(argv[i], "--dawdle"))
			w.dawdle = argv[i + 1];
	}
	if (i >= argc)
		return 2;
	if (geteuid() != 0) {
		puts("SKIP: moving processes needs root");
		return SKIP_STATUS;
	}
	argv[i] = realpath(argv[i], NULL);
	if (!argv[i] || !mkdtemp(tmp_template(dir, "subject")) || chmod(dir, 0755) < 0 ||
		chdir(dir) < 0)
		die("set up");
	status = launch(argv + i, &w);
	snprintf(rm, sizeof(rm), "rm -rf %s", dir);
	if (!getenv("LAUNCH_KEEP") && system(rm))
		perror(rm);
	return status;
}
