// SPDX-License-Identifier: Apache-2.0
/*
 * Connections to the host's log, made anew to the log of the destination: journald's stream (stdout
 * and stderr of a service), and its datagram sockets (syslog(3) and the native protocol). They only
 * ever carry data one way, and what was written has left the process, so nothing can be lost.
 *
 * A stream begins with a header of seven lines: identifier, unit, priority, level prefix, forward
 * to syslog, to kmsg, to the console. It cannot be read back: the identifier is the process's name,
 * the rest what systemd's defaults are. The journal names the maker of the connection, so the
 * process makes it itself. JOURNAL_STREAM in its environment names the old socket for ever after.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "journal.pb-c.h"
#include "kernel/sockdiag.h"
#include "kinds/socket.h"
#include "kinds/sockopts.h"

#define IDENTIFIER_MAX   64
#define PRIORITY_DEFAULT 6 /* LOG_INFO */

static const struct {
	const char *path;
	int type;
} logs[] = {
	{ "/run/systemd/journal/stdout", SOCK_STREAM },
	{ "/run/systemd/journal/dev-log", SOCK_DGRAM },
	{ "/run/systemd/journal/socket", SOCK_DGRAM },
	{ "/run/systemd/journal/syslog", SOCK_DGRAM },
	{ "/dev/log", SOCK_DGRAM },
};

static const char *log_path(const char *path, int type)
{
	for (size_t i = 0; i < ARRAY_LEN(logs); i++)
		if (logs[i].type == type && strcmp(logs[i].path, path) == 0)
			return logs[i].path;
	return NULL;
}

static const char *connected_to(const struct sock_seen *s)
{
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof(a);
	char path[sizeof(a.sun_path) + 1] = "";

	if (getpeername(s->fd, (struct sockaddr *)&a, &len) < 0 ||
		len <= offsetof(struct sockaddr_un, sun_path))
		return NULL;
	memcpy(path, a.sun_path, sizeof(a.sun_path));
	return log_path(path, s->type);
}

/* A name of its own, or a stream that the log has closed, is the business of unix.c. */
static bool journal_claims(const struct sock_seen *s)
{
	struct sockaddr_un a = { 0 };
	socklen_t len = sizeof(a);

	if (s->domain != AF_UNIX || !connected_to(s) || (sock_poll(s->fd, 0) & POLLHUP))
		return false;
	return getsockname(s->fd, (struct sockaddr *)&a, &len) == 0 &&
	       len <= offsetof(struct sockaddr_un, sun_path);
}

static struct err *journal_capture(struct capture *c, const struct sock_seen *s,
	ProtobufCMessage **msg, uint64_t *group unused_arg)
{
	Migrate__Kind__Journal *m = arena_alloc(c->arena, sizeof(*m));

	migrate__kind__journal__init(m);
	m->path = arena_strdup(c->arena, connected_to(s));
	m->identifier = arena_strdup(c->arena, c->stat->comm);
	if (s->type == SOCK_STREAM)
		capture_warn(c,
			"descriptor %d goes to the journal: there it starts a new stream as %s",
			c->file->slots[0].number, m->identifier);
	*msg = &m->base;
	return NULL;
}

static struct err *journal_valid(const struct sock *s)
{
	const Migrate__Kind__Journal *m = s->state;

	if (s->m->domain != AF_UNIX || !log_path(m->path, s->m->type))
		return err_new(ERR_PEER, "no log socket: %s", m->path);
	if (strchr(m->identifier, '\n') || strlen(m->identifier) > IDENTIFIER_MAX)
		return err_new(ERR_PEER, "identifier of a log stream");
	return NULL;
}

static struct err *journal_check(struct rebuild *r unused_arg, const struct sock *s)
{
	const Migrate__Kind__Journal *m = s->state;
	struct stat st;
	bool used = false;

	if (stat(m->path, &st) == 0 && S_ISSOCK(st.st_mode))
		TRY(diag_unix_file_used(st.st_ino, &used));
	if (used)
		return NULL;
	return err_hint(err_new(ERR_MISMATCH, "nobody listens on %s here", m->path),
		"the process logs to it: start the same log service on the destination");
}

static struct err *send_header(int fd, const char *identifier)
{
	char head[IDENTIFIER_MAX + 32];
	int n = snprintf(
		head, sizeof(head), "%s\n\n%d\n1\n0\n0\n0\n", identifier, PRIORITY_DEFAULT);

	if (send(fd, head, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		return err_errno(errno, "introduce a log stream");
	if (shutdown(fd, SHUT_RD) < 0)
		return err_errno(errno, "shut down a log stream's other direction");
	return NULL;
}

static struct err *journal_rebuild(struct rebuild *r, const struct sock *s, int *ret)
{
	const Migrate__Kind__Journal *m = s->state;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	autoclose int fd = -1;

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", m->path);
	TRY_IN(sock_make_connected(r, s->m, (struct sockaddr *)&a, sizeof(a), &fd), "%s", m->path);
	TRY(sockopts_apply(fd, s->m));
	if (s->m->type == SOCK_STREAM)
		TRY_IN(send_header(fd, m->identifier), "%s", m->path);
	*ret = take_fd(&fd);
	return NULL;
}

const struct sock_impl sock_journal = {
	.id = 4,
	.name = "log socket",
	.msg = &migrate__kind__journal__descriptor,
	.claims = journal_claims,
	.capture = journal_capture,
	.valid = journal_valid,
	.check = journal_check,
	.rebuild = journal_rebuild,
};
