// SPDX-License-Identifier: Apache-2.0
/* identity and peer: who this host is, and whom it trusts. */
#include <stdio.h>

#include "client/conn.h"
#include "client/json.h"
#include "client/render.h"
#include "client/verbs.h"

enum exit_status verb_identity(const struct options *o)
{
	Migrate__IdentityRequest m = MIGRATE__IDENTITY_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	Migrate__Reply *r;
	struct err *e;

	req.verb_case = MIGRATE__REQUEST__VERB_IDENTITY;
	req.identity = &m;
	e = conn_ask(o->control, &req, a, &r);
	if (e)
		return verb_failed(o, e);
	if (o->json)
		verb_print_json(
			json_pack("{s:s,s:s}", "event", "identity", "fingerprint", r->fingerprint));
	else
		printf("%s\n", r->fingerprint);
	return EXIT_DONE;
}

enum exit_status verb_peer_add(const struct options *o)
{
	Migrate__PeerAddRequest m = MIGRATE__PEER_ADD_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	Migrate__Reply *r;
	struct err *e;

	m.name = (char *)o->args[0];
	m.host = (char *)o->args[1];
	m.fingerprint = (char *)o->args[2];
	req.verb_case = MIGRATE__REQUEST__VERB_PEER_ADD;
	req.peer_add = &m;
	e = conn_ask(o->control, &req, a, &r);
	return e ? verb_failed(o, e) : EXIT_DONE;
}

enum exit_status verb_peer_list(const struct options *o)
{
	Migrate__PeerListRequest m = MIGRATE__PEER_LIST_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	autotext struct text t = { 0 };
	Migrate__Reply *r;
	struct err *e;

	req.verb_case = MIGRATE__REQUEST__VERB_PEER_LIST;
	req.peer_list = &m;
	e = conn_ask(o->control, &req, a, &r);
	if (e)
		return verb_failed(o, e);
	for (size_t i = 0; o->json && i < r->n_peers; i++)
		verb_print_json(json_peer(r->peers[i]));
	if (!o->json)
		render_peers(&t, r);
	fputs(text_str(&t), stdout);
	return EXIT_DONE;
}

enum exit_status verb_peer_remove(const struct options *o)
{
	Migrate__PeerRemoveRequest m = MIGRATE__PEER_REMOVE_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	Migrate__Reply *r;
	struct err *e;

	m.name = (char *)o->args[0];
	req.verb_case = MIGRATE__REQUEST__VERB_PEER_REMOVE;
	req.peer_remove = &m;
	e = conn_ask(o->control, &req, a, &r);
	return e ? verb_failed(o, e) : EXIT_DONE;
}
