// SPDX-License-Identifier: Apache-2.0
#include "engine/hook.h"

#include "engine/peer.h"

/* Hooks run where this side has the word: what comes from the other one then is its end. */
static struct err *alive(void *arg)
{
	autoarena struct arena *a = arena_new();
	struct peer *p = arg;

	peer_alive(p);
	return p->ch.in && channel_news(&p->ch) ? peer_next(p, a) : NULL;
}

struct err *hook_veto(
	struct peer *p, const char *event, struct deadline until, const struct engine_stats *s)
{
	const struct engine_hook h = {
		.event = event, .until = until, .alive = alive, .arg = p, .network = p->network
	};

	return p->io->on_hook ? p->io->on_hook(p->io->arg, &h, s) : NULL;
}

static struct err *nothing(void *arg unused_arg)
{
	return NULL;
}

void hook_tell(struct peer *p, const char *event, const struct engine_stats *s)
{
	const struct engine_hook h = {
		.event = event,
		.until = DEADLINE_NEVER,
		.told_only = true,
		.alive = nothing,
		.network = p->network,
	};

	if (p->io->on_hook)
		err_free(p->io->on_hook(p->io->arg, &h, s));
}
