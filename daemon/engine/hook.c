// SPDX-License-Identifier: Apache-2.0
#include "engine/hook.h"

#include "engine/peer.h"

static void alive(void *arg)
{
	peer_alive(arg);
}

struct err *hook_veto(
	struct peer *p, const char *event, struct deadline until, const struct engine_stats *s)
{
	const struct engine_hook h = { .event = event, .until = until, .alive = alive, .arg = p };

	return p->io->on_hook ? p->io->on_hook(p->io->arg, &h, s) : NULL;
}

static void nothing(void *arg unused_arg)
{
}

void hook_tell(struct peer *p, const char *event, const struct engine_stats *s)
{
	const struct engine_hook h = {
		.event = event, .until = DEADLINE_NEVER, .told_only = true, .alive = nothing
	};

	if (p->io->on_hook)
		err_free(p->io->on_hook(p->io->arg, &h, s));
}
