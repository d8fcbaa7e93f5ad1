// SPDX-License-Identifier: Apache-2.0
/* Hooks, as the worker asks the monitor for them. */
#include "roles/worker.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "engine/network.h"
#include "engine/patience.h"
#include "roles/hooks.h"
#include "wire/err_wire.h"

/* Until there is something to read or `limit`, and the peer hears meanwhile that somebody is at
 * work. An error is the reason for not waiting any more. */
static struct err *await_hooks(
	const struct worker *w, const struct engine_hook *h, struct deadline limit)
{
	struct pollfd p[] = { { IPC_FD, POLLIN, 0 },
		{ h->told_only ? -1 : w->interrupt_fd, POLLIN, 0 } };
	struct deadline d = deadline_min(limit, h->until);

	while (!deadline_passed(limit)) {
		struct deadline next = deadline_min(deadline_in(ENGINE_ALIVE_US), d);

		if (poll(p, ARRAY_LEN(p), deadline_poll_ms(next)) < 0 && errno != EINTR)
			return err_errno(errno, "wait for the hooks");
		if (p[0].revents)
			return NULL;
		if (p[1].revents)
			return err_new(ERR_CANCELLED, "cancelled");
		if (deadline_passed(h->until))
			return err_new(ERR_TIMEOUT, "its time is up");
		TRY(h->alive(h->arg));
	}
	return NULL;
}

/* Who is cancelled, or has no time left, does not wait for a program that hangs. */
static struct err *stop_hooks(struct worker *w, const struct engine_hook *h, struct err *why)
{
	Migrate__HookStop stop = MIGRATE__HOOK_STOP__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	autoipc struct ipc_msg msg = { .m = NULL };
	autoerr struct err *e = NULL;

	ipc.body_case = MIGRATE__IPC__BODY_HOOK_STOP;
	ipc.hook_stop = &stop;
	worker_say(w, &ipc);
	e = worker_answer(w, 0, deadline_in(WORKER_SAY_US), &msg);
	w->no_hooks = e;
	if (e || msg.m->body_case != MIGRATE__IPC__BODY_HOOK_RESULT || !msg.m->hook_result->error)
		return why;
	/* It names the program that took all the time. */
	if (deadline_passed(h->until) && msg.m->hook_result->error->code == ERR_TIMEOUT) {
		err_free(why);
		return err_in(err_from_wire(msg.m->hook_result->error), "hook %s", h->event);
	}
	return why;
}

static struct err *hook_result(struct worker *w, const struct engine_hook *h)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	/* Each program has its time limit, and the monitor some to tell us. */
	int64_t limit_us =
		(int64_t)(hooks_count(w->work->hooks_dir) * w->work->hook_limit_us) + WORKER_SAY_US;
	struct deadline limit = deadline_in(limit_us);
	struct err *e = await_hooks(w, h, limit);

	if (e)
		return stop_hooks(w, h, e);
	e = worker_answer(w, 0, limit, &msg);
	if (e) { /* the monitor hangs */
		w->no_hooks = true;
		e = err_hint(err_in(e, "run hooks"), "see what holds up migrated here");
	} else if (msg.m->body_case != MIGRATE__IPC__BODY_HOOK_RESULT) {
		e = err_new(ERR_BUG, "the monitor answered something else");
	} else if (msg.m->hook_result->error) {
		e = err_from_wire(msg.m->hook_result->error);
	}
	return err_in(e, "hook %s", h->event);
}

/* ---- what a hook may do with the network in our place ---- */

static json_t *json_end(const struct net_end *e)
{
	char text[NET_END_TEXT];

	return json_string(net_end_text(e, text));
}

static json_t *json_connections(const struct network *n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n->n_connections; i++)
		json_array_append_new(list,
			json_pack("{s:o,s:o}", "local", json_end(&n->connections[i].pair.local),
				"remote", json_end(&n->connections[i].pair.remote)));
	return list;
}

static json_t *json_addresses(const struct network *n)
{
	json_t *list = json_array();
	char text[NET_IP_TEXT];

	/* The name of an interface may be any bytes; then it is null, like a process's. */
	for (size_t i = 0; i < n->n_addresses; i++)
		json_array_append_new(
			list, json_pack("{s:s,s:i,s:o?}", "address",
				      net_ip_text(&n->addresses[i].ip, text), "prefix",
				      (int)n->addresses[i].prefix, "interface",
				      json_string(n->addresses[i].interface)));
	return list;
}

/* Written at once: the process may stand still, and jansson makes a call for each token. */
static struct err *write_network(int fd, const struct network *n)
{
	json_t *root = json_object();
	char *text;
	struct err *e;

	json_object_set_new(root, "connections", json_connections(n));
	json_object_set_new(root, "addresses", json_addresses(n));
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (!text)
		abort();
	e = io_write_full(fd, text, strlen(text), "network of a hook");
	free(text);
	if (!e && lseek(fd, 0, SEEK_SET) < 0)
		e = err_errno(errno, "rewind the network of a hook");
	return e;
}

/* A file, because it may be longer than a message. -1: there is nothing to tell. */
static struct err *network_file(const struct network *n, int *ret)
{
	autoclose int fd = n ? memfd_create("network", MFD_CLOEXEC) : -1;

	if (n && fd < 0)
		return err_errno(errno, "make a file for the network of a hook");
	if (n)
		TRY(write_network(fd, n));
	*ret = take_fd(&fd);
	return NULL;
}

struct err *worker_hooks(
	struct worker *w, const struct engine_hook *h, const struct engine_stats *s)
{
	Migrate__HookRun run = MIGRATE__HOOK_RUN__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	autoclose int network = -1;
	Migrate__Progress p;
	struct err *e;

	if (w->no_hooks || w->monitor_gone || !hooks_count(w->work->hooks_dir))
		return NULL;
	worker_fill_progress(w, s, &p);
	run.event = worker_text(h->event);
	run.told_only = h->told_only;
	run.progress = &p;
	ipc.body_case = MIGRATE__IPC__BODY_HOOK_RUN;
	ipc.hook_run = &run;
	/* Who is asked is not left in the dark: "no connections" could be what it says yes to. */
	e = network_file(h->network, &network);
	if (e && !h->told_only)
		return err_in(e, "hook %s", h->event);
	err_free(e);
	pthread_mutex_lock(&w->asking);
	err_free(worker_tell_with(w, &ipc, network));
	e = hook_result(w, h);
	pthread_mutex_unlock(&w->asking);
	return e;
}
