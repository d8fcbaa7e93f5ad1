// SPDX-License-Identifier: Apache-2.0
#include "client/again.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "client/conn.h"
#include "client/look.h"

#define AGAIN_US  3000000  /* control is started anew after a second */
#define SETTLE_US 12000000 /* a frozen process is given up after 10 s */
#define NAP_US    100000

static struct err *watch(struct follow *f, struct arena *a, Migrate__Reply **ret)
{
	Migrate__WatchRequest m = MIGRATE__WATCH_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoclose int fd = -1;

	m.id = f->id;
	req.verb_case = MIGRATE__REQUEST__VERB_WATCH;
	req.watch = &m;
	TRY(conn_open(f->opt->control, &fd));
	TRY(conn_send(fd, &req));
	return follow(f, fd, a, ret);
}

void again(struct follow *f, struct arena *a, Migrate__Reply **ret)
{
	struct deadline d = deadline_in(AGAIN_US);

	for (;;) {
		autoerr struct err *e = NULL;

		*ret = NULL;
		e = watch(f, a, ret);
		if (!e && *ret && (*ret)->error)
			*ret = NULL;
		if (!e || deadline_passed(d))
			return;
		usleep(NAP_US);
	}
}

enum whereabouts again_look(int32_t pid)
{
	struct deadline d = deadline_in(SETTLE_US);
	enum whereabouts w = look(pid);

	for (; w == HERE_HELD && !deadline_passed(d); w = look(pid))
		usleep(NAP_US);
	return w;
}
