/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks, as the engine has them run: engine_io.on_hook. */
#pragma once

#include "engine/engine.h"

struct network;

struct engine_hook {
	const char *event;
	struct deadline until; /* what is not done by then is too late */
	/* Nothing can be vetoed any more: it is told, and neither cancelled nor broken off. */
	bool told_only;
	/* To be called meanwhile, every ENGINE_ALIVE_US or more often: so the peer knows that
	 * somebody is at work. An error: it has given up, there is nothing to wait for. */
	struct err *(*alive)(void *arg);
	void *arg;
	/* What comes along, as far as it is known (network.h). */
	const struct network *network;
};

struct peer;
/* Asks whoever runs hooks, if anybody does. */
struct err *hook_veto(struct peer *p, const char *event, struct deadline until,
	const struct engine_stats *s) must_check;
void hook_tell(struct peer *p, const char *event, const struct engine_stats *s);
