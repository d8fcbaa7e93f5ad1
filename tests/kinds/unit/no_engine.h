/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's side of kind.h, as far as tests of parts of kinds need it. */
#pragma once

#include <stdio.h>

#include "kinds/kind.h"

struct capture_priv {
	char refused[16][256];
	size_t n_refused;
};

void capture_refuse(struct capture *c, struct err *e)
{
	autofree char *line = err_line(e);

	if (c->priv->n_refused < 16)
		snprintf(c->priv->refused[c->priv->n_refused++], 256, "%s", line);
	err_free(e);
}

void capture_warn(struct capture *c unused_arg, const char *fmt unused_arg, ...)
{
}

struct object *capture_emit(
	struct capture *c, uint64_t id unused_arg, const ProtobufCMessage *msg unused_arg)
{
	return arena_alloc(c->arena, sizeof(struct object));
}

struct task *rebuild_task(struct rebuild *r unused_arg, pid_t pid unused_arg)
{
	return NULL;
}

bool rebuild_locked(struct rebuild *r unused_arg, const struct net_pair *pair unused_arg)
{
	return false;
}

int rebuild_space_get(struct rebuild *r unused_arg, uint64_t space unused_arg)
{
	return -1;
}

void rebuild_space_put(struct rebuild *r unused_arg, uint64_t space unused_arg, int fd unused_arg)
{
}

void rebuild_refuse(struct rebuild *r unused_arg, struct err *e)
{
	err_free(e);
}

void rebuild_warn(struct rebuild *r unused_arg, const char *fmt unused_arg, ...)
{
}
