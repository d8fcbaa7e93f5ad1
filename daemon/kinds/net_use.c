// SPDX-License-Identifier: Apache-2.0
#include "kinds/net_use.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/sockdiag.h"
#include "kinds/tcp_state.h"

#define BIT(state) (1U << (state))
#define CLOSING_STATES \
	(BIT(TCP_FIN_WAIT1) | BIT(TCP_CLOSING) | BIT(TCP_LAST_ACK) | BIT(TCP_CLOSE_WAIT))

static const int families[] = { AF_INET, AF_INET6 };

/* ---- what it is ---- */

struct looking {
	struct capture *c;
	struct net_use *use;
	size_t cap_pairs, cap_pids, cap_numbers, cap_reuse, cap_listeners, cap_addresses;
};

static void need_address(struct looking *l, const struct net_ip *ip)
{
	struct net_use *u = l->use;

	if (net_ip_is_any(ip) || net_ip_is_loopback(ip))
		return;
	for (size_t i = 0; i < u->n_addresses; i++)
		if (net_ip_equal(&u->addresses[i], ip))
			return;
	u->addresses = arena_grow(l->c->arena, u->addresses, &l->cap_addresses, u->n_addresses + 1,
		sizeof(*u->addresses));
	u->addresses[u->n_addresses++] = *ip;
}

static void add_connection(
	struct looking *l, const struct file *f, int fd, const struct net_pair *pair)
{
	struct net_use *u = l->use;
	struct arena *a = l->c->arena;
	size_t n = u->n_connections + 1;
	int reuse = 0;

	(void)sock_int(fd, SOL_SOCKET, SO_REUSEADDR, &reuse);
	u->connections = arena_grow(a, u->connections, &l->cap_pairs, n, sizeof(*u->connections));
	u->numbers = arena_grow(a, u->numbers, &l->cap_numbers, n, sizeof(*u->numbers));
	u->pids = arena_grow(a, u->pids, &l->cap_pids, n, sizeof(*u->pids));
	u->reuse = arena_grow(a, u->reuse, &l->cap_reuse, n, sizeof(*u->reuse));
	u->connections[n - 1] = *pair;
	u->pids[n - 1] = f->slots[0].pid;
	u->numbers[n - 1] = f->slots[0].number;
	u->reuse[n - 1] = reuse == 1;
	u->n_connections = n;
}

static void add_listener(struct looking *l, const struct net_end *e)
{
	struct net_use *u = l->use;

	u->listeners = arena_grow(l->c->arena, u->listeners, &l->cap_listeners, u->n_listeners + 1,
		sizeof(*u->listeners));
	u->listeners[u->n_listeners++] = *e;
}

static struct err *capture_file_home(const struct capture *c, const struct file *f, int *fd)
{
	struct task *t = capture_task(c, f->slots[0].pid);

	return t ? remote_fd_home(t, f->slots[0].number, fd)
		 : err_new(ERR_GONE, "process %d has ended", f->slots[0].pid);
}

static bool end_of(int fd, int (*ask)(int, struct sockaddr *, socklen_t *), struct net_end *ret)
{
	union sock_addr a = { 0 };
	socklen_t len = sizeof(a);

	if (ask(fd, &a.any, &len) < 0 || !sockaddr_len(&a))
		return false;
	tcp_end(&a, ret);
	return true;
}

static void look_at_tcp(struct looking *l, const struct file *f, int fd, struct net_end *local)
{
	struct net_pair pair = { .local = *local };
	int listening = 0;

	(void)sock_int(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening);
	if (listening)
		add_listener(l, local);
	else if (tcp_connected(fd) && end_of(fd, getpeername, &pair.remote))
		add_connection(l, f, fd, &pair);
	else if (tcp_connected(fd))
		l->use->n_connecting++;
}

static void look_at_socket(struct looking *l, const struct file *f, int fd)
{
	int domain, type, protocol;
	struct net_end local;

	if (!sock_int(fd, SOL_SOCKET, SO_DOMAIN, &domain) ||
		!sock_int(fd, SOL_SOCKET, SO_TYPE, &type) ||
		!sock_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) ||
		(domain != AF_INET && domain != AF_INET6) || !end_of(fd, getsockname, &local) ||
		!local.port)
		return;
	if (protocol == IPPROTO_TCP)
		look_at_tcp(l, f, fd, &local);
	else if (protocol == IPPROTO_UDP)
		l->use->n_datagram++;
	else
		return;
	need_address(l, &local.ip);
}

static bool is_socket(const struct file *f)
{
	return strncmp(f->link, "socket:[", 8) == 0 && !(f->flags & O_PATH);
}

struct err *net_use_look(struct capture *c, struct net_use *ret)
{
	struct looking l = { .c = c, .use = ret };

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < c->all->n; i++) {
		const struct file *f = &c->all->v[i];
		autoclose int fd = -1;
		struct err *e;

		if (!is_socket(f))
			continue;
		e = capture_file_home(c, f, &fd);
		/* It runs: it may have closed it meanwhile. */
		if (e && !c->stopped) {
			err_free(e);
			continue;
		}
		TRY(e);
		look_at_socket(&l, f, fd);
	}
	return NULL;
}

/* ---- what waits ---- */

static bool is_door(const struct net_use *u, const struct net_end *local)
{
	for (size_t i = 0; i < u->n_listeners; i++) {
		const struct net_end *e = &u->listeners[i];
		bool any = net_ip_is_any(&e->ip) &&
			   (e->ip.family == AF_INET6 || local->ip.family == AF_INET);

		if (e->port == local->port && (any || net_ip_equal(&e->ip, &local->ip)))
			return true;
	}
	return false;
}

static bool is_own(const struct capture *c, uint64_t inode)
{
	for (size_t i = 0; i < c->all->n; i++)
		if (is_socket(&c->all->v[i]) && c->all->v[i].st.st_ino == inode)
			return true;
	return false;
}

static bool is_ours(const struct net_use *u, const struct net_end *local)
{
	if (is_door(u, local))
		return true;
	for (size_t i = 0; i < u->n_connections; i++)
		if (u->connections[i].local.port == local->port &&
			net_ip_equal(&u->connections[i].local.ip, &local->ip))
			return true;
	return false;
}

static uint32_t all(const struct net_pending *p)
{
	return p->unaccepted + p->handshakes + p->closing + p->connecting;
}

static void count(
	struct capture *c, const struct net_use *u, const struct diag_tcp *d, struct net_pending *p)
{
	uint32_t before = all(p);

	if (d->state == TCP_LISTEN && is_door(u, &d->pair.local))
		p->unaccepted += d->queued_in;
	else if (d->state == TCP_SYN_RECV && is_door(u, &d->pair.local))
		p->handshakes++;
	else if (d->state == TCP_SYN_SENT && is_own(c, d->inode))
		p->connecting++;
	/* Nobody has it any more, but the kernel: with data, or the end of them. */
	else if (!d->inode && BIT(d->state) & CLOSING_STATES && d->queued_out &&
		 is_ours(u, &d->pair.local))
		p->closing++;
	if (all(p) != before)
		net_end_text(&d->pair.local, p->where);
}

static struct err *count_datagrams(struct capture *c, struct net_pending *p)
{
	for (size_t i = 0; i < c->all->n; i++) {
		const struct file *f = &c->all->v[i];
		autoclose int fd = -1;
		autoerr struct err *e = NULL;
		int protocol = 0;

		if (!is_socket(f))
			continue;
		e = capture_file_home(c, f, &fd);
		if (!e && sock_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) &&
			protocol == IPPROTO_UDP && (sock_poll(fd, POLLIN) & POLLIN))
			p->datagrams++;
	}
	return NULL;
}

struct err *net_use_pending(struct capture *c, const struct net_use *use, struct net_pending *ret)
{
	const uint32_t states =
		BIT(TCP_LISTEN) | BIT(TCP_SYN_RECV) | BIT(TCP_SYN_SENT) | CLOSING_STATES;
	autoarena struct arena *a = arena_new();

	memset(ret, 0, sizeof(*ret));
	for (size_t f = 0; f < ARRAY_LEN(families); f++) {
		struct diag_tcp *v;
		size_t n;

		TRY(diag_tcp_list(a, families[f], states, &v, &n));
		for (size_t i = 0; i < n; i++)
			count(c, use, &v[i], ret);
	}
	return use->n_datagram ? count_datagrams(c, ret) : NULL;
}

struct err *net_use_reset_unaccepted(
	struct capture *c unused_arg, const struct net_use *use, uint32_t *ret)
{
	const uint32_t states = BIT(TCP_ESTABLISHED) | BIT(TCP_SYN_RECV) | CLOSING_STATES;
	autoarena struct arena *a = arena_new();

	*ret = 0;
	for (size_t f = 0; f < ARRAY_LEN(families); f++) {
		struct diag_tcp *v;
		size_t n;

		TRY(diag_tcp_list(a, families[f], states, &v, &n));
		for (size_t i = 0; i < n; i++) {
			if (v[i].inode || !is_door(use, &v[i].pair.local))
				continue;
			TRY(diag_tcp_reset(&v[i]));
			(*ret)++;
		}
	}
	return NULL;
}

/* ---- who else ---- */

static void name(struct capture *c, const char *what, const struct net_end *e, char **who)
{
	char text[NET_END_TEXT];

	*who = arena_printf(
		c->arena, "a %s socket of another program (%s)", what, net_end_text(e, text));
}

struct err *net_use_others(struct capture *c, const struct net_ip *ip, char **who)
{
	const uint32_t states =
		UINT32_MAX & ~(BIT(TCP_TIME_WAIT) | CLOSING_STATES | BIT(TCP_SYN_RECV));
	autoarena struct arena *a = arena_new();

	*who = NULL;
	for (size_t f = 0; f < ARRAY_LEN(families) && !*who; f++) {
		struct diag_tcp *t;
		struct diag_udp *u;
		size_t n;

		TRY(diag_tcp_list(a, families[f], states, &t, &n));
		for (size_t i = 0; i < n && !*who; i++)
			if (t[i].inode && net_ip_equal(&t[i].pair.local.ip, ip) &&
				!is_own(c, t[i].inode))
				name(c, "TCP", &t[i].pair.local, who);
		TRY(diag_udp_list(a, families[f], &u, &n));
		for (size_t i = 0; i < n && !*who; i++)
			if (u[i].inode && net_ip_equal(&u[i].pair.local.ip, ip) &&
				!is_own(c, u[i].inode))
				name(c, "UDP", &u[i].pair.local, who);
	}
	return NULL;
}
