// SPDX-License-Identifier: Apache-2.0
#include "files_world.h"
#include "tests/tmp.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct object *capture_emit(struct capture *c, uint64_t id, const ProtobufCMessage *msg)
{
	struct object *o = &c->priv->objects[c->priv->n++];

	*o = (struct object){ .kind = c->priv->kind, .id = id };
	kind_pack(c->arena, msg, &o->body, &o->body_len);
	return o;
}

void capture_ref(struct capture *c unused_arg, struct object *o, int number unused_arg)
{
	o->n_refs++;
}

struct err *capture_home(struct capture *c, int *fd)
{
	if (c->priv->home < 0)
		c->priv->home =
			(int)syscall(SYS_pidfd_getfd, c->task->pidfd, c->file->slots[0].number, 0);
	*fd = c->priv->home;
	return *fd < 0 ? err_errno(errno, "pidfd_getfd") : NULL;
}

void capture_refuse(struct capture *c, struct err *e)
{
	err_free(c->priv->refused);
	c->priv->refused = e;
}

void capture_warn(struct capture *c unused_arg, const char *fmt unused_arg, ...)
{
}

int rebuild_stash_get(struct rebuild *r, uint64_t group, unsigned slot)
{
	for (size_t i = 0; i < r->priv->n; i++)
		if (r->priv->group[i] == group)
			return r->priv->stash[i][slot] - 1;
	return -1;
}

void rebuild_stash_put(struct rebuild *r, uint64_t group, unsigned slot, int fd)
{
	size_t i;

	for (i = 0; i < r->priv->n; i++)
		if (r->priv->group[i] == group)
			break;
	r->priv->n = MAX(r->priv->n, i + 1);
	r->priv->group[i] = group;
	r->priv->stash[i][slot] = fd + 1;
}

struct task *capture_task(const struct capture *c unused_arg, pid_t pid unused_arg)
{
	return NULL;
}

struct task *rebuild_task(struct rebuild *r unused_arg, pid_t pid unused_arg)
{
	return NULL;
}

bool rebuild_locked(struct rebuild *r unused_arg, const struct net_pair *pair unused_arg)
{
	return false;
}

int rebuild_space_get(struct rebuild *r, uint64_t space unused_arg)
{
	return r->priv->space;
}

void rebuild_space_put(struct rebuild *r unused_arg, uint64_t space unused_arg, int fd unused_arg)
{
}

void rebuild_refuse(struct rebuild *r unused_arg, struct err *e)
{
	err_free(e);
}

void rebuild_warn(struct rebuild *r unused_arg, const char *fmt unused_arg, ...)
{
}

/* ---- a child with descriptors ---- */

void ok(struct err *e)
{
	if (e) {
		char *line = err_line(e);

		fail_msg("%s", line);
	}
}

/* The error must contain `text`; takes e. */
void refused(struct err *e, const char *text)
{
	autofree char *line = e ? err_line(e) : NULL;

	assert_non_null(e);
	if (!strstr(line, text))
		fail_msg("\"%s\" is not in \"%s\"", text, line);
	err_free(e);
}

void look(struct fixture *f)
{
	struct file_table all;

	f->inside = (struct pids){ .v = &f->task.pid, .n = 1 };
	ok(file_tables_read(f->arena, &f->inside, &f->files, &all));
}

/* `make` runs in the child, which then sleeps for ever. */
void child_start(struct fixture *f, void (*make)(const char *dir))
{
	volatile int *ready =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*f = (struct fixture){ .arena = arena_new(), .cache = kind_cache_new() };
	assert_non_null(mkdtemp(tmp_template(f->dir, "kinds-files")));
	f->cp.home = -1;
	f->rp.space = -1;
	f->task.pid = fork();
	if (f->task.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, ~0U, 0);
		make(f->dir);
		*ready = 1;
		for (;;)
			pause();
	}
	while (!*ready)
		usleep(1000);
	munmap((void *)(uintptr_t)ready, 4096);
	f->task.pidfd = (int)syscall(SYS_pidfd_open, f->task.pid, 0);
	assert_true(f->task.pidfd >= 0);
	look(f);
	f->c = (struct capture){ .task = &f->task,
		.files = &f->files,
		.all = &f->files,
		.inside = &f->inside,
		.arena = f->arena,
		.cache = f->cache,
		.priv = &f->cp };
	f->r = (struct rebuild){
		.task = &f->task, .arena = f->arena, .cache = f->cache, .priv = &f->rp
	};
}

void child_end(struct fixture *f)
{
	autofree char *cmd = NULL;

	syscall(SYS_pidfd_send_signal, f->task.pidfd, SIGKILL, NULL, 0);
	waitpid(f->task.pid, NULL, 0);
	close(f->task.pidfd);
	for (size_t i = 0; i < f->rp.n; i++)
		for (size_t j = 0; j < 4; j++)
			if (f->rp.stash[i][j] > 0)
				close(f->rp.stash[i][j] - 1);
	fd_closep(&f->rp.space);
	kind_cache_free(f->cache);
	arena_free(f->arena);
	assert_true(asprintf(&cmd, "rm -rf %s", f->dir) > 0);
	assert_int_equal(system(cmd), 0);
}

struct err *capture_number(struct fixture *f, int number, struct object **ret)
{
	size_t before = f->cp.n;
	struct err *e;

	f->c.file = file_by_number(&f->files, number);
	assert_non_null(f->c.file);
	f->cp.kind = kind_for_file(f->c.file);
	assert_non_null(f->cp.kind);
	e = f->cp.kind->capture(&f->c);
	fd_closep(&f->cp.home);
	*ret = f->cp.n > before ? &f->cp.objects[before] : NULL;
	return e;
}

struct err *rebuild_object(struct fixture *f, const struct object *o, int *fd)
{
	void *msg;

	TRY(kind_unpack(f->arena, o, &msg));
	if (o->kind->check)
		TRY(o->kind->check(&f->r, o, msg));
	return o->kind->rebuild(&f->r, o, msg, fd);
}

/* The kernel's text of both, line by line, but for what cannot be equal. */
char *stable_fdinfo(struct fixture *f, pid_t pid, int fd)
{
	char *text, *out = arena_strdup(f->arena, "");

	ok(proc_fdinfo(f->arena, pid, fd, &text));
	for (char *save, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (!strncmp(l, "mnt_id:", 7) || !strncmp(l, "ino:", 4) ||
			!strncmp(l, "eventfd-id:", 11))
			continue;
		if (!strncmp(l, "flags:", 6))
			l = arena_printf(f->arena, "flags:\t%lo",
				strtoul(l + 6, NULL, 8) & ~(unsigned long)O_CLOEXEC);
		out = arena_printf(f->arena, "%s%s\n", out, l);
	}
	return out;
}

/* Captures, makes again, compares the text; a descriptor of ours. */
int round_trip(struct fixture *f, int number)
{
	struct object *o;
	int fd = -1;

	ok(capture_number(f, number, &o));
	ok(rebuild_object(f, o, &fd));
	assert_string_equal(stable_fdinfo(f, getpid(), fd), stable_fdinfo(f, f->task.pid, number));
	return fd;
}
