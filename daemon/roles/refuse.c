// SPDX-License-Identifier: Apache-2.0
#include "roles/refuse.h"

#include <sys/socket.h>

#include "wire/channel.h"
#include "wire/err_wire.h"
#include "wire/handoff.h"

#define SAY_US 5000000

/* The monitor does this. @calls none: sendto */
void refuse_relay(int fd, const struct err *e)
{
	autoarena struct arena *a = arena_new();
	Migrate__Error *m = err_to_wire(a, e, "destination", "hello");
	size_t len = migrate__error__get_packed_size(m);
	uint8_t *buf = arena_alloc(a, FRAME_HEAD_BYTES + len);

	err_free(handoff_say(fd, HANDOFF_PLAIN, NULL, 0));
	frame_encode(&(struct frame_head){ .length = (uint32_t)len, .type = FRAME_ERROR }, buf);
	migrate__error__pack(m, buf + FRAME_HEAD_BYTES);
	(void)send(fd, buf, FRAME_HEAD_BYTES + len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void refuse_stream(struct stream *s, const Migrate__Error *why)
{
	autoarena struct arena *a = arena_new();
	size_t len = migrate__error__get_packed_size(why);
	uint8_t *buf = arena_alloc(a, len);
	struct channel ch;

	migrate__error__pack(why, buf);
	channel_init(&ch, s, -1);
	ch.deadline = deadline_in(SAY_US);
	err_free(channel_send(&ch, FRAME_ERROR, 0, buf, len));
}
