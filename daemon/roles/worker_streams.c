// SPDX-License-Identifier: Apache-2.0
/* The connections of a migration, as the worker gets them from the monitor. */
#include "roles/worker.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire/err_wire.h"
#include "wire/handoff.h"
#include "wire/stream_relay.h"

#define OPEN_MAX_US INT64_C(600000000) /* for one more connection */

static struct err *ask_stream(
	struct worker *w, unsigned number, struct deadline d, struct ipc_msg *msg)
{
	Migrate__Open open = MIGRATE__OPEN__INIT;
	Migrate__Ipc ipc = MIGRATE__IPC__INIT;
	int64_t left_us = d.at_us - clock_us();

	open.number = number;
	open.limit_us = (uint64_t)MIN(MAX(left_us, (int64_t)0), OPEN_MAX_US);
	ipc.body_case = MIGRATE__IPC__BODY_OPEN;
	ipc.open = &open;
	TRY_IN(worker_tell(w, &ipc), "tell the monitor");
	/* It knows best why there is none: it gets some time to say so. */
	TRY(worker_answer(w, number, deadline_in((int64_t)open.limit_us + WORKER_SAY_US), msg));
	if (msg->m->body_case != MIGRATE__IPC__BODY_OPENED)
		return err_new(ERR_BUG, "the monitor answered something else");
	if (msg->m->opened->error)
		return err_from_wire(msg->m->opened->error);
	return msg->n_fds == 1 ? NULL : err_new(ERR_BUG, "the monitor sent no connection");
}

static struct err *add_stream(
	struct worker *w, unsigned number, struct deadline d, struct stream **ret)
{
	autoipc struct ipc_msg msg = { .m = NULL };
	struct joined *j;
	struct stream s;

	TRY(ask_stream(w, number, d, &msg));
	TRY(worker_carry(w, take_fd(&msg.fds[0]), msg.m->opened->kernel_tls, &s));
	j = xcalloc(1, sizeof(*j));
	*j = (struct joined){ w->joined, s };
	w->joined = j;
	*ret = &j->stream;
	return NULL;
}

struct err *worker_open_stream(void *arg, unsigned number, struct deadline d, struct stream **ret)
{
	struct worker *w = arg;
	struct err *e;

	pthread_mutex_lock(&w->asking);
	e = add_stream(w, number, d, ret);
	pthread_mutex_unlock(&w->asking);
	return err_in(e, "open connection %u", number);
}

void worker_close_streams(struct worker *w)
{
	while (w->joined) {
		struct joined *j = w->joined;

		w->joined = j->next;
		stream_close(&j->stream);
		free(j);
	}
}

/* With kernel TLS the socket takes pages in every way. To a relay, pages that must not be copied go
 * through a socket: the rings are written by us. */
struct err *worker_carry(const struct worker *w, int fd, bool kernel_tls, struct stream *ret)
{
	bool by_reference = w->work->receive ? strcmp(w->work->sink, "splice") == 0
					     : strcmp(w->work->pages, "pump") == 0;
	struct err *e;

	if (kernel_tls)
		return stream_ktls(fd, ret);
	if (!by_reference)
		return stream_relay(fd, ret);
	e = handoff_say(fd, HANDOFF_PLAIN, NULL, 0);
	if (!e)
		return stream_socket(fd, ret);
	close(fd);
	return e;
}
