// SPDX-License-Identifier: Apache-2.0
#include "roles/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "kernel/confine.h"
#include "roles/groups.h"
#include "roles/inherit.h"
#include "roles/joins.h"
#include "roles/recover.h"
#include "roles/settle.h"
#include "roles/tell.h"
#include "session/ktls.h"

#define DEATHS_MAX      5 /* of one service; the count goes down by one a minute */
#define AGAIN_S         1
#define FORGIVE_S       60
#define END_WAIT_S      10
#define CONTROL_BACKLOG 64
#define SEEN_S          1
#define SOFTWARE        "migrated " MIGRATED_VERSION

/* ---- sockets ---- */

static struct err *make_parent(const char *path)
{
	autofree char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');

	if (!slash || slash == dir)
		return NULL;
	*slash = 0;
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return err_errno(errno, "make the directory %s", dir);
	return NULL;
}

/* A socket file of a daemon that is gone is removed; one that answers is not. */
static struct err *remove_stale(const char *path, const struct sockaddr_un *sa)
{
	autoclose int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? NULL : err_errno(errno, "look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_new(ERR_INVALID, "%s exists and is no socket", path);
	if (probe >= 0 && connect(probe, (const struct sockaddr *)sa, sizeof(*sa)) == 0)
		return err_hint(err_new(ERR_LIMIT, "another migrated answers at %s", path),
			"give this one its own --control and --state-dir");
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(errno, "remove the old socket %s", path);
	return NULL;
}

static struct err *listen_unix(const char *path, int *ret)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	autoclose int fd = -1;
	mode_t mask;
	int rc;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_new(ERR_INVALID, "the path of the control socket is too long: %s", path);
	memcpy(sa.sun_path, path, strlen(path));
	TRY(make_parent(path));
	TRY(remove_stale(path, &sa));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(errno, "make a unix socket");
	mask = umask(0111); /* everybody may ask; who may do what is decided per request */
	rc = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(mask);
	if (rc < 0 || listen(fd, CONTROL_BACKLOG) < 0)
		return err_errno(errno, "listen at %s", path);
	*ret = take_fd(&fd);
	return NULL;
}

/* Sockets that systemd listens on for us, told apart by their family. */
static struct err *take_activated(struct monitor *m)
{
	int n = sd_listen_fds(1);

	for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n; fd++) {
		bool is_unix = sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0;
		bool is_tcp = sd_is_socket(fd, AF_INET, SOCK_STREAM, 1) > 0 ||
			      sd_is_socket(fd, AF_INET6, SOCK_STREAM, 1) > 0;

		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		(void)fcntl(fd, F_SETFL, O_NONBLOCK);
		if (is_unix && m->n_unix < IPC_FDS_MAX)
			m->unix_fds[m->n_unix++] = fd;
		else if (is_tcp && m->n_tcp < IPC_FDS_MAX)
			m->tcp_fds[m->n_tcp++] = fd;
		else
			return err_new(ERR_INVALID,
				"descriptor %d from systemd is no listening stream socket", fd);
	}
	return NULL;
}

/* Command line before systemd before config before the default. */
static struct err *open_sockets(struct monitor *m)
{
	const struct address any = { .port = PORT_DEFAULT };
	struct config *c = &m->config;

	TRY(take_activated(m));
	if (!m->n_unix) {
		TRY(listen_unix(m->options->control_path, &m->unix_fds[0]));
		m->n_unix = 1;
		m->made_socket = true;
	}
	if (m->options->n_listen) {
		c->n_listen = 0;
		c->listen_none = false;
		for (size_t i = 0; i < m->options->n_listen; i++)
			TRY_IN(config_listen(c, m->options->listen[i]), "--listen");
	} else if (m->n_tcp || c->listen_none) {
		return NULL;
	} else if (!c->n_listen) {
		c->listen[c->n_listen++] = any;
	}
	for (size_t i = 0; i < c->n_listen; i++) {
		TRY(address_listen(&c->listen[i], &m->tcp_fds[m->n_tcp]));
		m->n_tcp++;
	}
	return NULL;
}

/* ---- services: control and net ---- */

static void end_loop(struct monitor *m, int status)
{
	m->status = status;
	event_base_loopbreak(m->base);
}

void monitor_check_end(struct monitor *m)
{
	if (m->ending && !m->moves)
		event_base_loopbreak(m->base);
}

static void post_peers_to(struct monitor *m, struct service *s)
{
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	Migrate__PeersList list = MIGRATE__PEERS_LIST__INIT;
	autoclose int fd = -1, seen = -1;
	autoerr struct err *e = state_peers_fd(&m->state, &fd);

	if (!e)
		e = state_seen_fd(&m->state, &seen);

	if (e) {
		autofree char *line = err_line(e);

		log_error("peers error=\"%s\"", line);
		return;
	}
	ipc.body_case = MIGRATE__IPC__BODY_PEERS;
	ipc.peers = &list;
	if (s->child)
		child_post(s->child, &ipc, (int[]){ fd, seen }, s->kind == ROLE_CONTROL ? 2 : 1);
}

void monitor_post_peers(struct monitor *m)
{
	post_peers_to(m, &m->control);
	post_peers_to(m, &m->net);
	admit_revoke(m);
}

/* Not with every connection. */
static void on_seen_later(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct monitor *m = arg;
	autoerr struct err *e = state_save_seen(&m->state);

	if (e) {
		autofree char *line = err_line(e);

		log_warn("seen error=\"%s\"", line);
	}
	post_peers_to(m, &m->control);
}

void monitor_seen(struct monitor *m, const Migrate__Connected *c)
{
	const struct timeval later = { SEEN_S, 0 };
	const struct peer *p = peers_by_key(&m->state.peers, c->fingerprint);

	if (!p)
		return;
	seen_note(&m->state.seen, p->name, (uint64_t)time(NULL), c->fingerprint, c->own);
	if (!event_pending(m->seen_later, EV_TIMEOUT, NULL))
		event_add(m->seen_later, &later);
}

static void say_keys(struct monitor *m, int *fds, size_t n_fds)
{
	Migrate__ControlSetup setup = MIGRATE__CONTROL_SETUP__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;

	setup.fingerprint = m->state.fingerprint;
	setup.next_fingerprint = m->state.next_fingerprint;
	ipc.body_case = MIGRATE__IPC__BODY_CONTROL_SETUP;
	ipc.control_setup = &setup;
	child_post(m->control.child, &ipc, fds, n_fds);
}

/* As files: no private key is in memory of ours, nor in a message. */
static struct err *post_keys_to_net(struct monitor *m)
{
	Migrate__Keys keys = MIGRATE__KEYS__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	autoclose int key = -1, next = -1;

	TRY(state_key_fds(&m->state, &key, &next));
	ipc.body_case = MIGRATE__IPC__BODY_KEYS;
	ipc.keys = &keys;
	child_post(m->net.child, &ipc, (int[]){ key, next }, next >= 0 ? 2 : 1);
	return NULL;
}

void monitor_post_keys(struct monitor *m)
{
	autoerr struct err *e = m->net.child ? post_keys_to_net(m) : NULL;

	if (e) {
		autofree char *line = err_line(e);

		log_error("keys error=\"%s\"", line);
		end_loop(m, 1);
		return;
	}
	if (m->control.child)
		say_keys(m, NULL, 0);
}

/* The listeners last: nobody is answered before all is known. */
static void set_up_control(struct monitor *m)
{
	post_peers_to(m, &m->control);
	moves_tell_ended(m);
	moves_tell(m, NULL);
	say_keys(m, m->unix_fds, m->n_unix);
}

/* Keys and peers first: nobody is accepted before they are known. */
static void set_up_net(struct monitor *m)
{
	Migrate__NetSetup setup = MIGRATE__NET_SETUP__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	char software[] = SOFTWARE;
	autoerr struct err *e = post_keys_to_net(m);

	if (e) {
		autofree char *line = err_line(e);

		log_error("keys error=\"%s\"", line);
		end_loop(m, 1);
		return;
	}
	post_peers_to(m, &m->net);
	setup.software = software;
	setup.boot_id = m->boot_id;
	setup.handshake_us = (uint64_t)m->config.handshake_us;
	setup.connect_us = (uint64_t)m->config.connect_us;
	setup.kernel_tls = m->config.kernel_tls;
	ipc.body_case = MIGRATE__IPC__BODY_NET_SETUP;
	ipc.net_setup = &setup;
	child_post(m->net.child, &ipc, m->tcp_fds, m->n_tcp);
}

static void on_ready(void *arg, struct ipc_msg *msg unused_arg)
{
	struct service *s = arg;
	struct monitor *m = s->monitor;

	s->ready = true;
	if (m->ready || !m->control.ready || !m->net.ready)
		return;
	m->ready = true;
	log_info("ready key=%s control=%s tcp-sockets=%zu peers=%zu", m->state.fingerprint,
		m->options->control_path, m->n_tcp, m->state.peers.n);
	sd_notify(0, "READY=1");
}

static void on_service_ended(void *arg, int status, bool heard unused_arg)
{
	const struct timeval again = { AGAIN_S, 0 };
	struct service *s = arg;

	s->child = NULL;
	s->ready = false;
	if (s->kind == ROLE_NET)
		moves_net_died(s->monitor);
	if (s->monitor->ending)
		return;
	if (WIFSIGNALED(status))
		log_error("%s ended by signal %d", role_name(s->kind), WTERMSIG(status));
	else
		log_error("%s ended with status %d", role_name(s->kind), WEXITSTATUS(status));
	/* What dies before it was ever ready would die again. */
	if (!s->monitor->ready || ++s->deaths > DEATHS_MAX)
		end_loop(s->monitor, 1);
	else
		event_add(s->again, &again);
}

static const struct child_ops control_ops = {
	.by_case = { [MIGRATE__IPC__BODY_READY] = on_ready,
		[MIGRATE__IPC__BODY_ASK] = monitor_ask,
		[MIGRATE__IPC__BODY_LEFT] = monitor_client_left },
	.ended = on_service_ended,
};

static const struct child_ops net_ops = {
	.by_case = { [MIGRATE__IPC__BODY_READY] = on_ready,
		[MIGRATE__IPC__BODY_CONNECTED] = monitor_connected,
		[MIGRATE__IPC__BODY_JOIN_ASK] = joins_asked,
		[MIGRATE__IPC__BODY_FATE_ASK] = settle_asked,
		[MIGRATE__IPC__BODY_LOST] = monitor_lost },
	.ended = on_service_ended,
};

static struct err *start_service(struct service *s)
{
	struct monitor *m = s->monitor;
	bool net = s->kind == ROLE_NET;

	TRY(child_start(m->base,
		(struct child_spec){ s->kind, monitor_debug(m), net ? &net_ops : &control_ops }, s,
		&s->child));
	if (net)
		set_up_net(m);
	else
		set_up_control(m);
	return NULL;
}

static void on_again(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct service *s = arg;
	autoerr struct err *e = start_service(s);

	if (e) {
		autofree char *line = err_line(e);

		log_error("restart role=%s error=\"%s\"", role_name(s->kind), line);
		end_loop(s->monitor, 1);
	}
}

static struct err *init_service(struct monitor *m, struct service *s, enum role_kind kind)
{
	*s = (struct service){ .monitor = m, .kind = kind };
	s->again = evtimer_new(m->base, on_again, s);
	if (!s->again)
		return err_new(ERR_BUG, "no timer");
	return start_service(s);
}

static void on_forgive(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct monitor *m = arg;

	m->control.deaths -= m->control.deaths ? 1 : 0;
	m->net.deaths -= m->net.deaths ? 1 : 0;
}

/* ---- signals ---- */

static void on_end_timeout(evutil_socket_t fd unused_arg, short what unused_arg, void *arg)
{
	struct monitor *m = arg;

	log_warn("end migrations-left=%zu", m->n_moves);
	event_base_loopbreak(m->base);
}

/* The first asks migrations to stop and waits for them, the second does not wait. */
static void on_terminate(evutil_socket_t number, short what unused_arg, void *arg)
{
	const struct timeval limit = { END_WAIT_S, 0 };
	struct monitor *m = arg;

	if (m->ending) {
		event_base_loopbreak(m->base);
		return;
	}
	m->ending = true;
	log_info("end signal=%d migrations=%zu", (int)number, m->n_moves);
	sd_notify(0, "STOPPING=1");
	moves_cancel_all(m);
	event_base_once(m->base, -1, EV_TIMEOUT, on_end_timeout, m, &limit);
	monitor_check_end(m);
}

/* A section of nobody may be a typing error, or come before its peer. */
static void warn_of_sections(const struct monitor *m)
{
	for (size_t i = 0; i < m->config.n_peers; i++)
		if (!peers_by_name(&m->state.peers, m->config.peers[i].name))
			log_warn("config section=\"[peer %s]\" is of no known peer",
				m->config.peers[i].name);
}

static struct err *reload(struct monitor *m)
{
	AUTO(config_fini) struct config next;
	autofree char *restart = NULL;

	config_init(&next);
	TRY(config_load(&next, m->options->config_path, m->options->config_required));
	TRY(state_reload(&m->state));
	restart = config_reload(&m->config, &next);
	if (restart)
		log_warn("reload needs-a-restart=\"%s\"", restart);
	return NULL;
}

/* All or nothing: what is wrong leaves what was. */
static void on_hangup(evutil_socket_t number unused_arg, short what unused_arg, void *arg)
{
	struct monitor *m = arg;
	autoerr struct err *e = reload(m);

	if (e) {
		autofree char *line = err_line(e);

		log_error("reload error=\"%s\"", line);
		return;
	}
	log_info("reload peers=%zu sections=%zu", m->state.peers.n, m->config.n_peers);
	warn_of_sections(m);
	monitor_post_peers(m);
}

static struct err *watch_signals(struct monitor *m)
{
	static const struct {
		int number;
		event_callback_fn fn;
	} signals[] = { { SIGTERM, on_terminate }, { SIGINT, on_terminate },
		{ SIGHUP, on_hangup } };
	const struct timeval minute = { FORGIVE_S, 0 };
	struct event *forgive = event_new(m->base, -1, EV_PERSIST, on_forgive, m);

	_Static_assert(ARRAY_LEN(signals) < ARRAY_LEN(m->always), "room");
	signal(SIGPIPE, SIG_IGN);
	m->always[0] = forgive;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		struct event *ev = evsignal_new(m->base, signals[i].number, signals[i].fn, m);

		m->always[i + 1] = ev;
		if (!ev || event_add(ev, NULL) < 0)
			return err_new(ERR_BUG, "no event for a signal");
	}
	if (!forgive || event_add(forgive, &minute) < 0)
		return err_new(ERR_BUG, "no timer");
	return NULL;
}

/* ---- start ---- */

static struct err *read_boot_id(struct monitor *m)
{
	autoarena struct arena *a = arena_new();
	char *text;

	TRY(io_read_file(a, "/proc/sys/kernel/random/boot_id", 64, &text, NULL));
	snprintf(m->boot_id, sizeof(m->boot_id), "%.36s", text);
	return NULL;
}

/* Connections find out by themselves; only root can have the module loaded. */
static void load_kernel_tls(const struct monitor *m)
{
	autoerr struct err *e = m->config.kernel_tls ? ktls_load() : NULL;
	autofree char *line = e ? err_line(e) : NULL;

	if (e)
		log_info("kernel-tls no reason=\"%s\"", line);
}

static struct err *start(struct monitor *m)
{
	const struct monitor_options *o = m->options;

	if (geteuid() != 0)
		return err_hint(err_new(ERR_DENIED, "migrated must be started by root"),
			"use sudo, or systemctl start migrated");
	inherit_begin();
	TRY(confine_memory());
	TRY(config_load(&m->config, o->config_path, o->config_required));
	TRY(read_boot_id(m));
	TRY(state_open(&m->state, o->state_dir));
	TRY(open_sockets(m));
	if (chdir("/") < 0)
		return err_errno(errno, "change to /");
	m->base = event_base_new();
	if (!m->base)
		return err_new(ERR_KERNEL, "no event loop");
	TRY(watch_signals(m));
	m->seen_later = evtimer_new(m->base, on_seen_later, m);
	if (!m->seen_later)
		return err_new(ERR_BUG, "no timer");
	warn_of_sections(m);
	m->groups = groups_new(m);
	load_kernel_tls(m);
	TRY(init_service(m, &m->control, ROLE_CONTROL));
	TRY(init_service(m, &m->net, ROLE_NET));
	TRY(settle_start(m));
	recover_scratch(m->state.dir);
	return NULL;
}

static void free_events(struct monitor *m)
{
	struct event *more[] = { m->seen_later, m->control.again, m->net.again };

	for (size_t i = 0; i < ARRAY_LEN(m->always); i++)
		if (m->always[i])
			event_free(m->always[i]);
	for (size_t i = 0; i < ARRAY_LEN(more); i++)
		if (more[i])
			event_free(more[i]);
	if (m->base)
		event_base_free(m->base);
}

static void finish(struct monitor *m)
{
	if (m->seen_later && event_pending(m->seen_later, EV_TIMEOUT, NULL))
		err_free(state_save_seen(&m->state));
	moves_fini(m);
	monitor_hooks_fini(m);
	settle_fini(m);
	tell_fini(m);
	rates_fini(&m->rates);
	groups_free(m->groups);
	migrations_fini(&m->ended);
	child_end(m->control.child);
	child_end(m->net.child);
	if (m->made_socket)
		(void)unlink(m->options->control_path);
	state_fini(&m->state);
	config_fini(&m->config);
	free_events(m);
}

int monitor_main(const struct monitor_options *o)
{
	struct monitor m = { .options = o, .state = { .lock_fd = -1 } };
	autoerr struct err *e = NULL;

	log_open("monitor", o->debug ? LOG_DEBUG_ : LOG_INFO_);
	config_init(&m.config);
	e = start(&m);
	if (e) {
		autofree char *line = err_line(e);
		const char *hint = err_hint_text(e);

		log_error("start error=\"%s\"%s%s%s", line, hint ? " try=\"" : "", hint ? hint : "",
			hint ? "\"" : "");
		finish(&m);
		return err_code(e) == ERR_INVALID ? 2 : 1;
	}
	event_base_dispatch(m.base);
	finish(&m);
	return m.status;
}
