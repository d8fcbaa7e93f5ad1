// SPDX-License-Identifier: Apache-2.0
/*
 * What kinds read out of fdinfo (eventfd, epoll, timerfd, signalfd, file locks): the text as the
 * kernel writes it, with names and numbers that a process has chosen. First byte: what the
 * descriptor leads to.
 */
#include <unistd.h>

#include "engine/capture.h"
#include "fuzz.h"
#include "kinds/files.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

static const char *const links[] = { "anon_inode:[eventfd]", "anon_inode:[eventpoll]",
	"anon_inode:[timerfd]", "anon_inode:[signalfd]" };

static struct err *capture(struct snapshot *s, const struct file *file)
{
	struct task t = { .pid = getpid(), .pidfd = -1, .mem_fd = -1 };
	const struct kind *k = kind_for_file(file), *locks = kind_by_id(29);
	struct capture_priv priv;
	struct capture c;
	struct err *e;

	MUST(k && locks);
	capture_context(&c, &priv, &t, s);
	priv.kind = locks;
	err_free(locks->capture(&c));
	priv.kind = k;
	c.file = file;
	e = k->capture(&c);
	fd_closep(&priv.home);
	return e;
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct feed f = { data, n };
	const char *link = links[feed_u8(&f) % ARRAY_LEN(links)];
	char *text = feed_text(&f);
	struct fd_slot slot = { 3, false };
	struct file file = { .id = 4, .slots = &slot, .n_slots = 1, .link = link, .fdinfo = text };
	struct file_look look = { .number = 3, .link = link, .fdinfo = text };
	struct notes notes = { 0 };
	struct snapshot s;
	struct err *e = file_look_parse(&look);

	snapshot_init(&s, &notes, NULL);
	s.files = (struct file_table){ &file, 1 };
	file.flags = e ? 0 : look.flags;
	err_free(e);
	err_free(capture(&s, &file));
	snapshot_fini(&s);
	notes_fini(&notes);
	free(text);
	return 0;
}
