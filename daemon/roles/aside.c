// SPDX-License-Identifier: Apache-2.0
#include "roles/aside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"

void flat_err_put(struct flat_err *f, struct err *e)
{
	autofree char *line = e ? err_line(e) : NULL;
	const char *hint = e ? err_hint_text(e) : NULL;

	memset(f, 0, sizeof(*f));
	if (!e)
		return;
	f->code = (int32_t)err_code(e);
	snprintf(f->text, sizeof(f->text), "%s", line);
	snprintf(f->hint, sizeof(f->hint), "%s", hint ? hint : "");
	err_free(e);
}

struct err *flat_err_get(const struct flat_err *f)
{
	struct err *e;

	if (!f->code)
		return NULL;
	e = err_new((enum err_code)f->code, "%.*s", (int)sizeof(f->text) - 1, f->text);
	return f->hint[0] ? err_hint(e, "%.*s", (int)sizeof(f->hint) - 1, f->hint) : e;
}

__attribute__((noreturn)) static void work(
	struct err *(*fn)(void *arg, void *result), void *arg, void *result, size_t size, int to)
{
	struct flat_err flat;
	bool said;

	flat_err_put(&flat, fn(arg, result));
	said = write(to, &flat, sizeof(flat)) == sizeof(flat) &&
	       write(to, result, size) == (ssize_t)size;
	_exit(said ? 0 : 1);
}

struct err *aside_run(
	struct err *(*fn)(void *arg, void *result), void *arg, void *result, size_t size)
{
	autoclose int from = -1, to = -1;
	struct flat_err flat;
	struct err *e;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(errno, "make a pipe");
	from = ends[0];
	to = ends[1];
	pid = fork();
	if (pid < 0)
		return err_errno(errno, "start a process");
	if (pid == 0)
		work(fn, arg, result, size, to);
	fd_closep(&to);
	e = io_read_full(from, &flat, sizeof(flat), "what a process of ours says");
	if (!e)
		e = flat_err_get(&flat);
	if (!e)
		e = io_read_full(from, result, size, "what a process of ours says");
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return e;
}
