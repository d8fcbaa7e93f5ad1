// SPDX-License-Identifier: Apache-2.0
/* u32 length (little endian), then the message; see proto/control.proto. */
#include "client/conn.h"

#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/io.h"

static void *alloc_in(void *arena, size_t n)
{
	return arena_alloc(arena, n ? n : 1);
}

static void free_in(void *arena unused_arg, void *p unused_arg)
{
}

struct err *conn_open(const char *path, int *ret)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	autoclose int fd = -1;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_new(ERR_INVALID, "the path of the control socket is too long: %s", path);
	memcpy(sa.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(errno, "make a unix socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_hint(err_errno(errno, "reach the daemon at %s", path),
			errno == EACCES ? "run this as root"
					: "start migrated, or name its socket with --control PATH");
	*ret = take_fd(&fd);
	return NULL;
}

struct err *conn_send(int fd, const Migrate__Request *req)
{
	size_t n = migrate__request__get_packed_size(req);
	autofree uint8_t *buf = xcalloc(n + 4, 1);
	uint32_t le = htole32((uint32_t)n);

	if (n > CONN_MESSAGE_MAX)
		return err_new(ERR_INVALID, "the request is too long");
	memcpy(buf, &le, 4);
	migrate__request__pack(req, buf + 4);
	/* a daemon that is gone shows as EPIPE, not as a signal */
	for (size_t done = 0; done < n + 4;) {
		ssize_t k = send(fd, buf + done, n + 4 - done, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_errno(errno, "send the request to the daemon");
		done += (size_t)k;
	}
	return NULL;
}

struct err *conn_unpack(struct arena *a, const uint8_t *buf, size_t n, Migrate__Reply **ret)
{
	ProtobufCAllocator in_arena = { alloc_in, free_in, a };

	*ret = migrate__reply__unpack(&in_arena, n, buf);
	if (!*ret)
		return err_hint(err_new(ERR_BUG, "the daemon's reply is not understood"),
			"use the migratectl that came with this migrated");
	return NULL;
}

struct err *conn_recv(int fd, struct arena *a, Migrate__Reply **ret)
{
	uint32_t le, n;
	uint8_t *buf;

	TRY_IN(io_read_full(fd, &le, 4, "daemon"), "the daemon ended the conversation");
	n = le32toh(le);
	if (n > CONN_MESSAGE_MAX)
		return err_new(ERR_BUG, "the daemon's reply has %u bytes", n);
	buf = arena_alloc(a, n ? n : 1);
	TRY_IN(io_read_full(fd, buf, n, "daemon"), "the daemon ended the conversation");
	return conn_unpack(a, buf, n, ret);
}

struct err *conn_error(const Migrate__Error *m)
{
	enum err_code code = m->code ? (enum err_code)m->code : ERR_BUG;
	struct err *e =
		err_new(code, "%s", m->n_texts ? m->texts[m->n_texts - 1] : err_code_name(code));

	for (size_t i = m->n_texts; i-- > 1;)
		e = err_in(e, "%s", m->texts[i - 1]);
	return *m->hint ? err_hint(e, "%s", m->hint) : e;
}

struct err *conn_ask(
	const char *path, const Migrate__Request *req, struct arena *a, Migrate__Reply **ret)
{
	autoclose int fd = -1;

	TRY(conn_open(path, &fd));
	TRY(conn_send(fd, req));
	TRY(conn_recv(fd, a, ret));
	return (*ret)->error ? conn_error((*ret)->error) : NULL;
}
