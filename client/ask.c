// SPDX-License-Identifier: Apache-2.0
/* Every verb that names no process: its arguments go to the daemon, the reply is shown. */
#include <stdio.h>
#include <string.h>

#include "client/conn.h"
#include "client/follow.h"
#include "client/json.h"
#include "client/render.h"
#include "client/verbs.h"

static void print_list(const Migrate__Reply *r)
{
	verb_print_json(json_list(r));
}

static void print_done(const Migrate__Reply *r)
{
	if (r->done)
		verb_print_json(json_done(r->done, NULL));
}

static void print_identity(const Migrate__Reply *r)
{
	json_t *j = json_pack("{s:s,s:s}", "event", "identity", "fingerprint", r->fingerprint);

	if (*r->next_fingerprint)
		json_object_set_new(j, "next_fingerprint", json_string(r->next_fingerprint));
	verb_print_json(j);
}

static void print_peers(const Migrate__Reply *r)
{
	for (size_t i = 0; i < r->n_peers; i++)
		verb_print_json(json_peer(r->peers[i]));
}

static void show_status(struct text *t, const Migrate__Reply *r)
{
	for (size_t i = 0; i < r->n_migrations; i++)
		render_status(t, r->migrations[i]);
	for (size_t i = 0; i < r->n_ended; i++) {
		if (r->ended[i]->last)
			render_status(t, r->ended[i]->last);
		text_addf(t, "outcome      %s\n", r->ended[i]->outcome);
		render_done(t, r->ended[i], HERE_RUNS);
	}
	if (!r->n_migrations && !r->n_ended)
		text_addf(t, "no migrations\n");
}

static void show_done(struct text *t, const Migrate__Reply *r)
{
	if (r->done)
		render_done(t, r->done, HERE_RUNS);
}

static void show_identity(struct text *t, const Migrate__Reply *r)
{
	text_addf(t, "%s\n", r->fingerprint);
	if (*r->next_fingerprint)
		text_addf(t, "%s\tnext\n", r->next_fingerprint);
}

/* What is known of it, and what the two answers would do. */
static void show_doubt(struct text *t, const Migrate__Reply *r)
{
	show_status(t, r);
	for (size_t i = 0; i < r->n_ended; i++)
		if (strcmp(r->ended[i]->outcome, "in_doubt") == 0)
			render_answers(t, r->ended[i]);
}

static const struct ask {
	Migrate__Request__VerbCase request;
	void (*json)(const Migrate__Reply *r); /* NULL, as the next: success is silent */
	void (*text)(struct text *t, const Migrate__Reply *r);
	bool follows; /* many replies until the last */
} asks[VERBS] = {
	[VERB_LIST] = { MIGRATE__REQUEST__VERB_LIST, print_list, render_list },
	[VERB_STATUS] = { MIGRATE__REQUEST__VERB_STATUS, print_list, show_status },
	[VERB_WATCH] = { MIGRATE__REQUEST__VERB_WATCH, print_done, show_done, true },
	[VERB_CANCEL] = { MIGRATE__REQUEST__VERB_CANCEL },
	[VERB_RESOLVE] = { MIGRATE__REQUEST__VERB_RESOLVE },
	[VERB_IDENTITY] = { MIGRATE__REQUEST__VERB_IDENTITY, print_identity, show_identity },
	[VERB_IDENTITY_ROTATE] = { MIGRATE__REQUEST__VERB_IDENTITY_ROTATE },
	[VERB_IDENTITY_RETIRE] = { MIGRATE__REQUEST__VERB_IDENTITY_RETIRE },
	[VERB_PEER_ADD] = { MIGRATE__REQUEST__VERB_PEER_ADD },
	[VERB_PEER_LIST] = { MIGRATE__REQUEST__VERB_PEER_LIST, print_peers, render_peers },
	[VERB_PEER_REMOVE] = { MIGRATE__REQUEST__VERB_PEER_REMOVE },
};

/* Without an answer, resolve only shows. */
static const struct ask *ask_of(const struct options *o)
{
	static const struct ask doubt = { MIGRATE__REQUEST__VERB_STATUS, print_list, show_doubt };

	return o->verb == VERB_RESOLVE && o->n_args == 1 ? &doubt : &asks[o->verb];
}

/* The fields of these requests are the verb's arguments: strings, in the same order. */
static void fill(Migrate__Request *req, const struct options *o, struct arena *a)
{
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(
		&migrate__request__descriptor, ask_of(o)->request);
	const ProtobufCMessageDescriptor *d = f->descriptor;
	char *m = arena_alloc(a, d->sizeof_message);

	d->message_init((void *)m);
	for (int i = 0; i < o->n_args; i++)
		memcpy(m + d->fields[i].offset, &o->args[i], sizeof(o->args[i]));
	if (o->verb == VERB_PEER_REMOVE && o->key)
		((Migrate__PeerRemoveRequest *)(void *)m)->fingerprint = (char *)(uintptr_t)o->key;
	if (o->verb == VERB_IDENTITY_RETIRE)
		((Migrate__IdentityRetireRequest *)(void *)m)->force = o->force;
	req->verb_case = ask_of(o)->request;
	memcpy((char *)req + f->offset, &m, sizeof(m));
}

static void show(const struct options *o, const Migrate__Reply *r)
{
	autotext struct text t = { 0 };

	if (o->json && ask_of(o)->json)
		ask_of(o)->json(r);
	if (!o->json && ask_of(o)->text)
		ask_of(o)->text(&t, r);
	fputs(text_str(&t), stdout);
}

static void one_done(const struct follow *f, const Migrate__Done *d)
{
	show(f->opt, &(Migrate__Reply){ .done = (Migrate__Done *)d });
}

static struct err *ask_following(
	const struct options *o, const Migrate__Request *req, struct arena *a, Migrate__Reply **ret)
{
	struct follow f = { .opt = o, .on_done = one_done };
	autoclose int fd = -1;

	TRY(conn_open(o->control, &fd));
	TRY(conn_send(fd, req));
	TRY(follow(&f, fd, a, ret));
	return *ret && (*ret)->error ? conn_error((*ret)->error) : NULL;
}

enum exit_status verb_ask(const struct options *o)
{
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	Migrate__Reply *r = NULL; /* stays so when following was abandoned */
	struct err *e;

	fill(&req, o, a);
	e = ask_of(o)->follows ? ask_following(o, &req, a, &r) : conn_ask(o->control, &req, a, &r);
	if (e)
		return verb_failed(o, e);
	if (r)
		show(o, r);
	return EXIT_DONE;
}
