// SPDX-License-Identifier: Apache-2.0
#include "sock_world.h"
#include "tests/tmp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define SKIP_STATUS 77

/* ---- what engine and kernel would be ---- */

static uint8_t scratch[REMOTE_SCRATCH_BYTES];

struct object *capture_emit(struct capture *c, uint64_t id, const ProtobufCMessage *msg)
{
	struct object *o = &c->priv->objects[c->priv->n++];

	*o = (struct object){
		.kind = &kind_socket, .id = id, .slots = c->file->slots, .n_slots = c->file->n_slots
	};
	kind_pack(c->arena, msg, &o->body, &o->body_len);
	return o;
}

struct err *capture_home(struct capture *c, int *fd)
{
	c->priv->home = fcntl(c->file->slots[0].number, F_DUPFD_CLOEXEC, 500);
	*fd = c->priv->home;
	return *fd < 0 ? err_errno(errno, "dup") : NULL;
}

void capture_refuse(struct capture *c, struct err *e)
{
	autofree char *line = err_line(e);

	strncat(c->priv->text, line, sizeof(c->priv->text) - strlen(c->priv->text) - 1);
	err_free(e);
}

void capture_warn(struct capture *c, const char *fmt, ...)
{
	char line[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	strncat(c->priv->text, line, sizeof(c->priv->text) - strlen(c->priv->text) - 1);
}

int rebuild_stash_get(struct rebuild *r, uint64_t group, unsigned slot)
{
	return r->priv->group == group ? r->priv->stash[slot] - 1 : -1;
}

void rebuild_stash_put(struct rebuild *r, uint64_t group, unsigned slot, int fd)
{
	r->priv->group = group;
	r->priv->stash[slot] = fd + 1;
}

void rebuild_warn(struct rebuild *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->priv->warned, sizeof(r->priv->warned), fmt, ap);
	va_end(ap);
}

raddr remote_scratch(const struct task *t unused_arg)
{
	return (raddr){ (uintptr_t)scratch };
}

struct err *remote_put(struct task *t unused_arg, size_t offset, const void *buf, size_t n)
{
	memcpy(scratch + offset, buf, n);
	return NULL;
}

struct err *remote_get(struct task *t unused_arg, size_t offset, void *buf, size_t n)
{
	memcpy(buf, scratch + offset, n);
	return NULL;
}

struct err *remote_run(
	struct task *t unused_arg, struct thread *th unused_arg, struct call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const uint64_t *a = calls[i].args;
		long ret = syscall((long)calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);

		calls[i].ret = ret < 0 ? -errno : ret;
	}
	return NULL;
}

struct err *remote_call(
	struct task *t, struct thread *th, const struct call *c, const char *what, int64_t *ret)
{
	struct call one = *c;

	TRY(remote_run(t, th, &one, 1));
	if (one.ret < 0)
		return err_errno((int)-one.ret, "%s", what);
	if (ret)
		*ret = one.ret;
	return NULL;
}

struct err *remote_fd_home(struct task *t unused_arg, int number, int *fd)
{
	int n = fcntl(number, F_DUPFD_CLOEXEC, 600);

	if (n < 0)
		return err_errno(errno, "descriptor %d", number);
	*fd = n;
	return NULL;
}

/* ---- one test's world ---- */

void ok(struct err *e)
{
	if (e) {
		char *line = err_line(e);

		fail_msg("%s", line);
	}
}

void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, text);
}

/* The error must contain `part`; takes e. */
void refused(struct err *e, const char *part)
{
	autofree char *line = e ? err_line(e) : NULL;

	assert_non_null(e);
	has(line, part);
	err_free(e);
}

int setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->arena = arena_new();
	w->task.pid = getpid();
	w->inside = (struct pids){ .v = &w->task.pid, .n = 1 };
	strcpy(w->stat.comm, "subject");
	assert_non_null(mkdtemp(tmp_template(w->dir, "kinds-sockets")));
	snprintf(w->scratch_dir, sizeof(w->scratch_dir), "%s/moving-1", w->dir);
	assert_int_equal(mkdir(w->scratch_dir, 0700), 0);
	assert_int_equal(chdir(w->dir), 0);
	w->c = (struct capture){ .task = &w->task,
		.stopped = true,
		.files = &w->files,
		.all = &w->files,
		.inside = &w->inside,
		.stat = &w->stat,
		.arena = w->arena,
		.priv = &w->cp };
	w->r = (struct rebuild){
		.task = &w->task, .arena = w->arena, .scratch_dir = w->scratch_dir, .priv = &w->rp
	};
	*state = w;
	return 0;
}

int teardown(void **state)
{
	struct world *w = *state;
	autofree char *cmd = NULL;

	for (int fd = 3; fd < 700; fd++)
		close(fd);
	assert_true(asprintf(&cmd, "rm -rf %s", w->dir) > 0);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(cmd), 0);
	arena_free(w->arena);
	free(w);
	return 0;
}

/* Descriptors 3 to 63 of ours, one description each. */
static void look(struct world *w)
{
	w->files = (struct file_table){ .v = arena_array(w->arena, 64, sizeof(struct file)) };
	for (int n = 3; n < 64; n++) {
		struct file *f = &w->files.v[w->files.n];
		char path[64], link[200] = "", *text;
		uint64_t flags;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", n);
		if (readlink(path, link, sizeof(link) - 1) < 0)
			continue;
		assert_int_equal(fstat(n, &f->st), 0);
		f->id = file_id(getpid(), n);
		f->slots = arena_alloc(w->arena, sizeof(*f->slots));
		f->slots[0].pid = getpid();
		f->slots[0].number = n;
		f->n_slots = 1;
		f->link = arena_strdup(w->arena, link);
		ok(proc_fdinfo(w->arena, getpid(), n, &text));
		f->fdinfo = text;
		ok(fdinfo_u64(text, "flags", 8, &flags));
		f->flags = flags & ~(uint64_t)O_CLOEXEC;
		w->files.n++;
	}
}

struct err *capture_fd(struct world *w, int fd, struct object **ret)
{
	size_t before = w->cp.n;
	struct err *e;

	look(w);
	w->c.file = NULL;
	for (size_t i = 0; i < w->files.n; i++)
		if (w->files.v[i].slots[0].number == fd)
			w->c.file = &w->files.v[i];
	assert_non_null(w->c.file);
	assert_true(kind_socket.claims(w->c.file));
	e = kind_socket.capture(&w->c);
	fd_closep(&w->cp.home);
	if (ret)
		*ret = w->cp.n > before ? &w->cp.objects[before] : NULL;
	return e;
}

/* check, rebuild, install at its number. */
void rebuild_fd(struct world *w, const struct object *o)
{
	void *msg;
	int fd = -1;

	ok(kind_unpack(w->arena, o, &msg));
	ok(kind_socket.check(&w->r, o, msg));
	ok(kind_socket.rebuild(&w->r, o, msg, &fd));
	if (fd == o->slots[0].number)
		return;
	assert_int_equal(dup3(fd, o->slots[0].number, O_CLOEXEC), o->slots[0].number);
	close(fd);
}

static void stash_end(struct world *w)
{
	for (size_t i = 0; i < 4; i++)
		if (w->rp.stash[i] > 0)
			close(w->rp.stash[i] - 1);
	w->rp = (struct rebuild_priv){ 0 };
}

void finish_fd(struct world *w, const struct object *o)
{
	void *msg;

	ok(kind_unpack(w->arena, o, &msg));
	ok(kind_socket.finish(&w->r, o, msg));
}

static void publish_fd(struct world *w, const struct object *o)
{
	void *msg;

	ok(kind_unpack(w->arena, o, &msg));
	ok(kind_socket.publish(&w->r, o, msg));
}

/* Moves n descriptors; captured again, every body must be the same. */
void move(struct world *w, const int *fds, size_t n)
{
	struct object *o[OBJECTS_MAX], *again;

	w->cp.n = 0;
	for (size_t i = 0; i < n; i++)
		ok(capture_fd(w, fds[i], &o[i]));
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	for (size_t i = 0; i < n; i++)
		rebuild_fd(w, o[i]);
	stash_end(w);
	for (size_t i = 0; i < n; i++)
		finish_fd(w, o[i]);
	for (size_t i = 0; i < n; i++)
		publish_fd(w, o[i]);
	for (size_t i = 0; i < n; i++) {
		ok(capture_fd(w, fds[i], &again));
		assert_int_equal(again->body_len, o[i]->body_len);
		assert_memory_equal(again->body, o[i]->body, o[i]->body_len);
	}
	w->cp.n = 0;
}

void move1(struct world *w, int fd)
{
	move(w, &fd, 1);
}

void set_int(int fd, int level, int name, int v)
{
	assert_int_equal(setsockopt(fd, level, name, &v, sizeof(v)), 0);
}

int get_int(int fd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof(v);

	assert_int_equal(getsockopt(fd, level, name, &v, &len), 0);
	return v;
}

static void lo_up(void)
{
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		perror("lo");
	close(fd);
}

int sock_tests(const struct CMUnitTest *tests, size_t n)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) {
		printf("SKIP: needs root and namespaces of its own\n");
		return SKIP_STATUS;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0) {
		perror("private /run");
		return 1;
	}
	lo_up();
	return _cmocka_run_group_tests("sockets", tests, n, NULL, NULL);
}
