// SPDX-License-Identifier: Apache-2.0
#include "session/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"

#define BACKLOG            1024
#define KEEPALIVE_IDLE_S   10
#define KEEPALIVE_EACH_S   5
#define KEEPALIVE_COUNT    4
#define UNACKED_TIMEOUT_MS 30000

static struct err *set_port(const char *text, struct address *a)
{
	uint64_t port;

	TRY(text_u64(text, 10, "port", &port));
	if (port == 0 || port > UINT16_MAX)
		return err_new(ERR_INVALID, "port %s is not between 1 and 65535", text);
	a->port = (uint16_t)port;
	return NULL;
}

static struct err *set_host(const char *s, size_t len, struct address *a)
{
	if (len >= HOST_BYTES)
		return err_new(ERR_INVALID, "host name of %zu characters", len);
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr(".-_:%", s[i]))
			return err_new(ERR_INVALID, "\"%.*s\" is no host name", (int)len, s);
	memcpy(a->host, s, len);
	a->host[len] = 0;
	return NULL;
}

static struct err *parse(const char *text, struct address *ret)
{
	const char *colon = strchr(text, ':'), *close;
	struct address a = { .port = 0 };

	if (text[0] == '[') {
		close = strchr(text, ']');
		if (!close || (close[1] && close[1] != ':'))
			return err_new(ERR_INVALID, "no ] at the end of the address");
		TRY(set_host(text + 1, (size_t)(close - text - 1), &a));
		if (close[1])
			TRY(set_port(close + 2, &a));
	} else if (colon && !strchr(colon + 1, ':')) {
		TRY(set_host(text, (size_t)(colon - text), &a));
		TRY(set_port(colon + 1, &a));
	} else {
		TRY(set_host(text, strlen(text), &a));
	}
	*ret = a;
	return NULL;
}

struct err *address_parse(const char *text, struct address *ret)
{
	struct address a;

	TRY_IN(parse(text, &a), "\"%s\" is not HOST[:PORT]", text);
	if (!a.host[0])
		return err_new(ERR_INVALID, "\"%s\" names no host", text);
	*ret = a;
	return NULL;
}

struct err *address_parse_listen(const char *text, struct address *ret)
{
	if (text[0] == '*')
		text++;
	TRY_IN(parse(text, ret), "\"%s\" is not [ADDR][:PORT]", text);
	return NULL;
}

void address_text(const struct address *a, char out[ADDRESS_BYTES])
{
	bool brackets = strchr(a->host, ':') != NULL;
	int n = snprintf(
		out, ADDRESS_BYTES, "%s%s%s", brackets ? "[" : "", a->host, brackets ? "]" : "");

	if (a->port)
		snprintf(out + n, ADDRESS_BYTES - (size_t)n, ":%u", a->port);
}

static struct err *resolve(const struct address *a, int flags, struct addrinfo **ret)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	char port[8];
	int rc;

	hints.ai_flags = flags | AI_NUMERICSERV;
	snprintf(port, sizeof(port), "%u", a->port ? a->port : PORT_DEFAULT);
	rc = getaddrinfo(a->host[0] ? a->host : NULL, port, &hints, ret);
	if (rc == EAI_SYSTEM)
		return err_errno(errno, "look up %s", a->host);
	if (rc)
		return err_hint(err_new(ERR_PEER, "no such host %s: %s", a->host, gai_strerror(rc)),
			"check the name, or use the address");
	return NULL;
}

/* Waits for a connect(2) in progress; 0 or its errno.
 * @calls net: poll getsockopt[1=SOL_SOCKET,2=SO_ERROR] */
static int connect_wait(int fd, struct deadline d)
{
	struct pollfd p = { fd, POLLOUT, 0 };
	socklen_t len = sizeof(int);
	int no = 0, n;

	do
		n = poll(&p, 1, deadline_poll_ms(d));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return ETIMEDOUT;
	if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &no, &len) < 0)
		return errno;
	return no;
}

/* A dead link must be noticed while the engine has nothing to say, and small frames (PING, COMMIT)
 * must not wait for a fuller segment. Advice only: errors do not matter.
 * @calls net: setsockopt[1=IPPROTO_TCP] setsockopt[1=SOL_SOCKET,2=SO_KEEPALIVE] */
static void tune(int fd)
{
	const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EACH_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKED_TIMEOUT_MS },
	};

	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		(void)setsockopt(
			fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

struct err *address_look_up(const struct address *a, struct address_places *ret)
{
	struct addrinfo *list = NULL;

	TRY(resolve(a, AI_ADDRCONFIG, &list));
	ret->n = 0;
	for (struct addrinfo *ai = list; ai && ret->n < ADDRESS_PLACES_MAX; ai = ai->ai_next) {
		if (ai->ai_addrlen > sizeof(ret->v[0]))
			continue;
		memcpy(&ret->v[ret->n], ai->ai_addr, ai->ai_addrlen);
		ret->len[ret->n++] = ai->ai_addrlen;
	}
	freeaddrinfo(list);
	return NULL;
}

/* @calls net: socket[0=AF_INET] socket[0=AF_INET6] connect close */
static int dial_one(const struct sockaddr_storage *to, socklen_t len, struct deadline d, int *ret)
{
	autoclose int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int no;

	if (fd < 0)
		return errno;
	tune(fd);
	if (connect(fd, (const struct sockaddr *)to, len) < 0) {
		no = errno == EINPROGRESS ? connect_wait(fd, d) : errno;
		if (no)
			return no;
	}
	*ret = take_fd(&fd);
	return 0;
}

struct err *address_dial(const struct address_places *to, struct deadline d, int *fd)
{
	int no = EADDRNOTAVAIL;

	for (size_t i = 0; i < to->n; i++) {
		no = dial_one(&to->v[i], to->len[i], d, fd);
		if (no == 0 || deadline_passed(d))
			break;
	}
	if (no == 0)
		return NULL;
	if (no == ECONNREFUSED)
		return err_hint(err_errno(no, "nobody listens there"),
			"start migrated on that host, or give its port");
	if (no == ETIMEDOUT)
		return err_hint(err_errno(no, "no answer"),
			"check the address and the firewalls between the hosts");
	return err_errno(no, "connect");
}

/* With no address: one IPv6 socket for both protocols; IPv4 alone where there is no IPv6. The
 * monitor does this.
 * @calls none: bind listen */
static int listen_one(const struct addrinfo *ai, int *ret)
{
	autoclose int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1, zero = 0;

	if (fd < 0)
		return errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return errno;
	tune(fd); /* inherited by what is accepted */
	*ret = take_fd(&fd);
	return 0;
}

struct err *address_listen(const struct address *a, int *fd)
{
	static const int families[] = { AF_INET6, AF_INET };
	struct addrinfo *list = NULL;
	int no = EAFNOSUPPORT;

	TRY(resolve(a, AI_PASSIVE, &list));
	for (size_t f = 0; f < ARRAY_LEN(families) && no == EAFNOSUPPORT; f++)
		for (struct addrinfo *ai = list; ai && no == EAFNOSUPPORT; ai = ai->ai_next)
			if (ai->ai_family == families[f])
				no = listen_one(ai, fd);
	freeaddrinfo(list);
	if (no)
		return err_errno(no, "listen on %s port %u", a->host[0] ? a->host : "any address",
			a->port ? a->port : PORT_DEFAULT);
	return NULL;
}

/* The name of a link in an IPv6 address takes a socket to ask for.
 * @calls net: getpeername socket[0=AF_UNIX] ioctl[1=SIOCGIFNAME] close */
void address_of_peer(int fd, char out[ADDRESS_BYTES])
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char host[HOST_BYTES], port[8];

	snprintf(out, ADDRESS_BYTES, "unknown address");
	if (getpeername(fd, (struct sockaddr *)&ss, &len) < 0 ||
		getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	snprintf(out, ADDRESS_BYTES, strchr(host, ':') ? "[%.200s]:%s" : "%.200s:%s", host, port);
}

/* @calls net: getsockname */
void address_of_self(int fd, char out[ADDRESS_BYTES])
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = { .any = { .sa_family = AF_UNSPEC } };
	socklen_t len = sizeof(a);
	bool ok = false;

	if (getsockname(fd, &a.any, &len) == 0) {
		if (a.any.sa_family == AF_INET)
			ok = inet_ntop(AF_INET, &a.in.sin_addr, out, ADDRESS_BYTES);
		else if (a.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a.in6.sin6_addr))
			ok = inet_ntop(AF_INET, a.in6.sin6_addr.s6_addr + 12, out, ADDRESS_BYTES);
		else if (a.any.sa_family == AF_INET6)
			ok = inet_ntop(AF_INET6, &a.in6.sin6_addr, out, ADDRESS_BYTES);
	}
	if (!ok)
		out[0] = '\0';
}
