// SPDX-License-Identifier: Apache-2.0
#include "beating.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))

int beating_open(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);
}

void *beating_pages(struct beater *b, size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	b->pages = p;
	b->n_pages = bytes / PAGE_BYTES;
	return p;
}

/* The page whose turn it is was written one turn ago; all of its words that are looked at say so.
 */
static uint8_t look_at_page(struct beater *b)
{
	volatile uint64_t *page = b->pages + (b->beats % b->n_pages) * PAGE_WORDS;
	uint64_t expected = b->beats > b->n_pages ? b->beats - b->n_pages : 0;
	const size_t words[] = { 0, 1, PAGE_WORDS / 2, PAGE_WORDS - 1 };
	uint8_t wrong = 0;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (page[words[i]] != expected)
			wrong = WRONG_PAGE;
		page[words[i]] = b->beats;
	}
	return wrong;
}

void beating_beat(struct beater *b, int log_fd, uint8_t wrong)
{
	struct utsname name;
	struct timespec now;
	struct beat out = { .number = ++b->beats, .thread = (uint16_t)b->number };

	wrong |= look_at_page(b);
	if (uname(&name) < 0 || clock_gettime(CLOCK_REALTIME, &now) < 0)
		wrong |= WRONG_CALL;
	out.when_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	out.pid = (uint32_t)getpid();
	out.host = (uint8_t)name.nodename[0];
	out.wrong = wrong;
	if (write(log_fd, &out, sizeof(out)) != sizeof(out))
		abort();
}
