// SPDX-License-Identifier: Apache-2.0
#include "roles/hooks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "roles/ipc.h"
#include "roles/role.h"
#include "wire/err_wire.h"

#define OUTPUT_MAX 4096 /* bytes of a hook's output that are kept */
#define ENV_MAX    24
#define PATH_VALUE "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Like run-parts: no editor's backup files, nothing hidden. */
static int looks_like_hook(const struct dirent *d)
{
	size_t len = strlen(d->d_name);

	return d->d_name[0] != '.' && d->d_name[len - 1] != '~' && !strstr(d->d_name, ".dpkg-");
}

size_t hooks_count(const char *dir)
{
	AUTO(fd_closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *d;
	size_t n = 0;
	DIR *open_dir;

	if (fd < 0)
		return errno != ENOENT; /* let hooks_run say what is wrong */
	open_dir = fdopendir(fd);
	if (!open_dir)
		return 1;
	fd = -1;
	while ((d = readdir(open_dir))) {
		struct stat st;

		n += looks_like_hook(d) && fstatat(dirfd(open_dir), d->d_name, &st, 0) == 0 &&
		     S_ISREG(st.st_mode) && (st.st_mode & 0111);
	}
	closedir(open_dir);
	return n;
}

struct field {
	const char *json, *env; /* env NULL: only in JSON */
	json_t *value;
};

/* What a hook is told, once for both forms. */
static size_t fields(const Migrate__HookRun *run, struct field out[ENV_MAX])
{
	const Migrate__Progress *p = run->progress;
	const struct field all[] = {
		{ "event", "MIGRATED_EVENT", json_string(run->event) },
		{ "id", "MIGRATED_ID", json_string(p->id) },
		{ "side", "MIGRATED_SIDE", json_string(p->side) },
		{ "pid", "MIGRATED_PID", json_integer(p->pid) },
		{ "comm", "MIGRATED_COMM", json_string(p->comm) },
		{ "peer", "MIGRATED_PEER", json_string(p->peer) },
		{ "state", "MIGRATED_STATE", json_string(p->state) },
		{ "owner", "MIGRATED_OWNER", json_string(p->owner) },
		{ "rounds", NULL, json_integer(p->round) },
		{ "resident_bytes", NULL, json_integer((json_int_t)p->resident_bytes) },
		{ "bytes_sent", NULL, json_integer((json_int_t)p->bytes_sent) },
		{ "total_ms", NULL, json_real((double)p->total_us / 1000) },
		{ "downtime_ms", NULL, json_real((double)p->downtime_us / 1000) },
		{ "error", "MIGRATED_ERROR",
			run->error && run->error->n_texts ? json_string(run->error->texts[0])
							  : json_null() },
	};

	_Static_assert(ARRAY_LEN(all) <= ENV_MAX, "room");
	memcpy(out, all, sizeof(all));
	return ARRAY_LEN(all);
}

struct call {
	char *json;
	char *env[ENV_MAX + 2];
	size_t n_env;
	int stop_fd; /* a HookStop may come here; -1: no, or one has come */
	bool stopped, told_only;
};

static void call_fini(struct call *c)
{
	free(c->json);
	for (size_t i = 0; i < c->n_env; i++)
		free(c->env[i]);
}

/* As a worker wrote it. What does not parse is not told. */
static void add_network(json_t *root, int fd)
{
	json_t *more = fd >= 0 ? json_loadfd(fd, 0, NULL) : NULL;

	if (json_is_object(more))
		json_object_update_missing(root, more);
	json_decref(more);
}

static void call_init(struct call *c, const Migrate__HookRun *run, int stop_fd, int network_fd)
{
	struct field f[ENV_MAX];
	size_t n = fields(run, f);
	json_t *root = json_object();

	*c = (struct call){ .json = NULL, .stop_fd = stop_fd, .told_only = run->told_only };
	c->env[c->n_env++] = xstrdup(PATH_VALUE);
	for (size_t i = 0; i < n; i++) {
		char *entry = NULL;
		int len = 0;

		/* A value that jansson did not take (a name that is not UTF-8) is null. */
		json_object_set(root, f[i].json, f[i].value ? f[i].value : json_null());
		if (f[i].env && json_is_string(f[i].value))
			len = asprintf(&entry, "%s=%s", f[i].env, json_string_value(f[i].value));
		else if (f[i].env && json_is_integer(f[i].value))
			len = asprintf(&entry, "%s=%lld", f[i].env,
				(long long)json_integer_value(f[i].value));
		if (len < 0)
			abort();
		if (entry)
			c->env[c->n_env++] = entry;
		json_decref(f[i].value);
	}
	add_network(root, network_fd);
	c->json = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (!c->json)
		abort();
}

/* Root runs it: nobody else may be able to change it. */
static struct err *check_owner(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(errno, "hook %s", path);
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return err_hint(
			err_new(ERR_DENIED, "hook %s can be changed by others than root", path),
			"chown root it and chmod go-w it");
	return NULL;
}

static void exec_hook(const char *path, const char *event, const struct call *c, int in, int out)
{
	char *argv[] = { (char *)(uintptr_t)path, (char *)(uintptr_t)event, NULL };
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	setpgid(0, 0); /* so that all of it can be ended */
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
		dup2(out, STDERR_FILENO) < 0)
		_exit(127);
	execve(path, argv, (char **)(uintptr_t)c->env);
	dprintf(STDERR_FILENO, "cannot be executed: %s\n", strerror(errno));
	_exit(127);
}

struct output {
	char text[OUTPUT_MAX];
	size_t len;
};

/* Keeps the end; what does not fit is dropped from the front. False at the end of file. */
static bool output_read(struct output *o, int fd)
{
	char buf[1024];
	ssize_t n = read(fd, buf, sizeof(buf));
	size_t drop;

	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN);
	drop = o->len + (size_t)n > OUTPUT_MAX ? o->len + (size_t)n - OUTPUT_MAX : 0;
	memmove(o->text, o->text + drop, o->len - drop);
	memcpy(o->text + o->len - drop, buf, (size_t)n);
	o->len += (size_t)n - drop;
	return true;
}

/* The last line that is not empty, made fit for a terminal. */
static void output_last_line(const struct output *o, char line[256])
{
	size_t end = o->len, start;

	while (end && (o->text[end - 1] == '\n' || o->text[end - 1] == ' '))
		end--;
	start = end;
	while (start && o->text[start - 1] != '\n')
		start--;
	snprintf(line, 256, "%.*s", (int)MIN(end - start, (size_t)255), o->text + start);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

/* With nobody to answer to, a question needs no answer; what is only told is told to the end. */
static bool told_to_stop(const struct call *c)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	autoerr struct err *e = ipc_recv(c->stop_fd, deadline_in(0), &msg);

	return e ? !c->told_only : msg.m->body_case == MIGRATE__IPC__BODY_HOOK_STOP;
}

/* Until the program ends (not until its output does: it may leave a daemon), time is up or somebody
 * says so (c->stopped). */
static bool wait_hook(struct call *c, int pidfd, int out, struct output *o, struct deadline d)
{
	struct pollfd p[] = { { pidfd, POLLIN, 0 }, { out, POLLIN, 0 }, { c->stop_fd, POLLIN, 0 } };

	for (;;) {
		int n = poll(p, ARRAY_LEN(p), deadline_poll_ms(d));

		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0 && p[1].revents && !output_read(o, out))
			p[1].fd = -1;
		if (n > 0 && p[0].revents && !(p[1].fd >= 0 && p[1].revents & POLLIN))
			return true;
		if (n > 0 && p[2].revents) {
			c->stopped = told_to_stop(c);
			c->stop_fd = p[2].fd = -1;
			if (c->stopped)
				return false;
		}
		if (deadline_passed(d))
			return n > 0 && p[0].revents;
	}
}

static struct err *verdict(const char *name, int status, const struct output *o)
{
	char line[256];

	output_last_line(o, line);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	if (WIFSIGNALED(status))
		return err_new(
			ERR_DENIED, "hook %s was ended by signal %d", name, WTERMSIG(status));
	if (line[0])
		return err_new(ERR_DENIED, "hook %s said no (exit %d): %s", name,
			WEXITSTATUS(status), line);
	return err_new(ERR_DENIED, "hook %s said no (exit %d)", name, WEXITSTATUS(status));
}

static struct err *run_one(
	const char *path, const char *name, const Migrate__HookRun *run, struct call *c)
{
	autoclose int in = memfd_create("hook", MFD_CLOEXEC), out = -1, theirs = -1, pidfd = -1;
	struct output o = { .len = 0 };
	int pipe_fds[2], status = 0;
	bool ended;
	pid_t pid;

	TRY(check_owner(path));
	if (in < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(errno, "start hook %s", name);
	out = pipe_fds[0];
	theirs = pipe_fds[1];
	(void)fcntl(out, F_SETFL, O_NONBLOCK);
	TRY(io_write_full(in, c->json, strlen(c->json), "hook input"));
	if (lseek(in, 0, SEEK_SET) < 0)
		return err_errno(errno, "start hook %s", name);
	pid = fork();
	if (pid < 0)
		return err_errno(errno, "start hook %s", name);
	if (pid == 0)
		exec_hook(path, run->event, c, in, theirs);
	fd_closep(&theirs);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	ended = pidfd >= 0 && wait_hook(c, pidfd, out, &o, deadline_in((int64_t)run->limit_us));
	if (!ended) {
		kill(-pid, SIGKILL); /* its own group, made above; pid > 1 is ours and unreaped */
		kill(pid, SIGKILL);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (c->stopped)
		return err_new(
			ERR_TIMEOUT, "hook %s was killed: nobody waits for it any more", name);
	if (!ended)
		return err_new(ERR_TIMEOUT, "hook %s took longer than %ju ms and was killed", name,
			(uintmax_t)run->limit_us / 1000);
	return verdict(name, status, &o);
}

struct err *hooks_run(const Migrate__HookRun *run, int stop_fd, int network_fd)
{
	autoarena struct arena *a = arena_new();
	AUTO(call_fini) struct call c = { .json = NULL, .stop_fd = -1 };
	struct dirent **list = NULL;
	struct err *e = NULL;
	int n = scandir(run->hooks_dir, &list, looks_like_hook, alphasort);

	if (n < 0)
		return errno == ENOENT ? NULL : err_errno(errno, "list %s", run->hooks_dir);
	if (n > 0)
		e = check_owner(run->hooks_dir);
	call_init(&c, run, stop_fd, network_fd);
	for (int i = 0; i < n; i++) {
		const char *path = arena_printf(a, "%s/%s", run->hooks_dir, list[i]->d_name);
		struct stat st;

		if (!e && stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111))
			e = run_one(path, list[i]->d_name, run, &c);
		free(list[i]);
	}
	free(list);
	return e;
}

/* The role: one run, one answer. */
int hooks_main(void)
{
	autoarena struct arena *a = arena_new();
	autoipc struct ipc_msg msg = { .m = NULL };
	Migrate__HookResult result = MIGRATE__HOOK_RESULT__INIT;
	Migrate__Ipc reply = MIGRATE__IPC__INIT;
	autoerr struct err *e = ipc_recv(IPC_FD, DEADLINE_NEVER, &msg);

	if (e || msg.m->body_case != MIGRATE__IPC__BODY_HOOK_RUN)
		return 1;
	/* As in the worker: what could not come here is no "nothing". */
	e = msg.m->hook_run->told_only ? NULL : ipc_no_room(&msg);
	if (!e)
		e = hooks_run(msg.m->hook_run, IPC_FD, msg.n_fds ? msg.fds[0] : -1);
	if (e)
		result.error = err_to_wire(
			a, e, msg.m->hook_run->progress->side, msg.m->hook_run->progress->state);
	reply.body_case = MIGRATE__IPC__BODY_HOOK_RESULT;
	reply.hook_result = &result;
	err_free(e);
	e = ipc_send(IPC_FD, &reply, NULL, 0, deadline_in(1000000));
	return e ? 1 : 0;
}
