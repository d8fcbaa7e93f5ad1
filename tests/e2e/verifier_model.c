// SPDX-License-Identifier: Apache-2.0
/* What must be in each page, and looking whether it is: see verifier.h. */
#include "verifier.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

const uint64_t *file_words;
uint32_t file_pages;
volatile uint64_t wrong, moves;

static struct page *models, *mirror;
static char said[32768];
static size_t said_bytes;
static pthread_mutex_t say_lock = PTHREAD_MUTEX_INITIALIZER;

void must_fail(const char *file, int line, const char *what)
{
	dprintf(1, "MUST %s:%d: %s (%s)\n", file, line, what, strerror(errno));
	_exit(2);
}

uint64_t dice(struct worker *w, uint64_t n)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return (w->seed >> 11) % n;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	a = (a ^ b) * 0x9e3779b97f4a7c15ull;
	a = (a ^ (a >> 29)) * 0xbf58476d1ce4e5b9ull;
	return a ^ (a >> 32);
}

char *page_at(const struct lot *l, uint32_t i)
{
	return l->view[0] + i * PAGE;
}

/* ---- what is said ---- */

static const char *const whats[] = { "gone", "anonymous", "private file", "shared" };
static const char *const contents[] = { "zeroes", "filled", "of the file" };

void difference(struct lot *l, uint32_t i, const char *format, ...)
{
	const struct page *p = &models[l->first + i];
	char text[1024];
	va_list ap;
	int n, more;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text) / 2, format, ap);
	va_end(ap);
	more = snprintf(text + n, sizeof(text) - (size_t)n,
		"; page %u of lot %u.%s at %p (%s, %s%s%s, prot %d, stamp %#lx, base %#lx, page %u "
		"of "
		"the file), last changed by \"%s\", after move %lu\n",
		i, l->owner->number, l->name, (void *)page_at(l, i), whats[p->what % 4],
		contents[p->content % 3], p->flags & FREED ? ", freed" : "",
		p->flags & GUARDED ? ", guarded" : "", p->prot, p->stamp, p->base, p->of_file,
		l->deeds[p->deed % l->n_deeds].name, moves);
	n += more;
	pthread_mutex_lock(&say_lock);
	wrong++;
	if (write(1, text, (size_t)n) != n) {
		/* nobody listens: it is kept below */
	}
	if (said_bytes + (size_t)n < sizeof(said)) {
		memcpy(said + said_bytes, text, (size_t)n);
		said_bytes += (size_t)n;
	}
	pthread_mutex_unlock(&say_lock);
}

size_t differences(char *to, size_t size)
{
	size_t n;

	pthread_mutex_lock(&say_lock);
	n = said_bytes < size ? said_bytes : size;
	memcpy(to, said, n);
	pthread_mutex_unlock(&say_lock);
	return n;
}

/* ---- models ---- */

static uint64_t sum_of(const struct page *p, uint32_t index)
{
	uint64_t w[sizeof(*p) / 8], sum = index;

	memcpy(w, p, sizeof(*p));
	for (size_t k = 0; k < offsetof(struct page, sum) / 8; k++)
		sum = mix(sum, w[k]);
	return sum;
}

void models_make(uint32_t pages)
{
	size_t bytes = (pages * sizeof(struct page) + PAGE - 1) & ~(PAGE - 1);
	int fd = memfd_create("models", MFD_CLOEXEC);

	MUST(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	models = mmap(NULL, bytes, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mirror = mmap(NULL, bytes, RW, MAP_SHARED, fd, 0);
	MUST(models != MAP_FAILED && mirror != MAP_FAILED);
	close(fd);
	for (uint32_t i = 0; i < pages; i++)
		models[i].sum = mirror[i].sum = sum_of(&models[i], i);
}

struct page model_get(struct lot *l, uint32_t i)
{
	uint32_t index = l->first + i;
	struct page *a = &models[index], *b = &mirror[index];

	if (a->sum == sum_of(a, index) && memcmp(a, b, sizeof(*a)) == 0)
		return *a;
	difference(l, i, "models differ: stamp %#lx and in shared memory %#lx, sums %s and %s",
		a->stamp, b->stamp, a->sum == sum_of(a, index) ? "right" : "wrong",
		b->sum == sum_of(b, index) ? "right" : "wrong");
	a->sum = sum_of(a, index);
	*b = *a;
	return *a;
}

void model_set(struct lot *l, uint32_t i, struct page p)
{
	uint32_t index = l->first + i;

	p.deed = l->deed;
	p.sum = sum_of(&p, index);
	l->total += p.sum - models[index].sum;
	models[index] = mirror[index] = p;
}

void model_total_check(struct lot *l)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < l->pages; i++) {
		struct page none = { 0 };

		total += models[l->first + i].sum - sum_of(&none, l->first + i);
	}
	if (total != l->total)
		difference(l, 0, "the models add up to %#lx and not to %#lx", total, l->total);
}

/* ---- contents ---- */

static uint64_t head_word(const struct page *p, size_t k)
{
	const uint64_t head[HEAD_WORDS] = { p->address, p->stamp, mix(p->address, p->stamp),
		~p->stamp };

	return head[k];
}

static uint64_t fill_word(const struct page *p, size_t k)
{
	return p->base * 0x9e3779b97f4a7c15ull + k * 0xd6e8feb86659fd93ull;
}

static uint64_t content_word(const struct page *p, size_t k)
{
	if (p->content == ZERO)
		return 0;
	return p->content == FILLED ? fill_word(p, k) : file_words[p->of_file * WORDS + k];
}

/* The first word that is not as it must be, or WORDS. */
static size_t first_wrong(const uint64_t *w, const struct page *p)
{
	size_t k = 0;

	for (; p->stamp && k < HEAD_WORDS; k++)
		if (w[k] != head_word(p, k))
			return k;
	for (; k < WORDS; k++)
		if (w[k] != content_word(p, k))
			return k;
	return WORDS;
}

static bool all_zero(const uint64_t *w)
{
	uint64_t any = 0;

	for (size_t k = 0; k < WORDS; k++)
		any |= w[k];
	return !any;
}

void page_becomes(struct lot *l, uint32_t i, enum content content, uint32_t of_file)
{
	struct page p = model_get(l, i);

	p.content = content;
	p.of_file = content == OF_FILE ? of_file : 0;
	p.stamp = p.address = p.base = 0;
	p.flags &= (uint8_t)~FREED;
	model_set(l, i, p);
}

/* A freed page may be as it was or zeroes, until it is written: a store is all of it then. */
void page_write(struct lot *l, uint32_t i, char *at, bool all)
{
	uint64_t *w = (uint64_t *)(void *)at;
	struct page p = model_get(l, i);

	p.stamp = ++l->owner->stamps | (uint64_t)(l->owner->number + 1) << 56;
	p.address = (uintptr_t)at;
	if (all || (p.flags & FREED)) {
		p.content = FILLED;
		p.of_file = 0;
		p.base = p.stamp;
		for (size_t k = HEAD_WORDS; k < WORDS; k++)
			w[k] = fill_word(&p, k);
	}
	for (size_t k = 0; k < HEAD_WORDS; k++)
		w[k] = head_word(&p, k);
	p.flags &= (uint8_t)~FREED;
	model_set(l, i, p);
	l->owner->written++;
}

/* What is different is said once: the model takes what is there as its content, if it can. */
static void settle(struct lot *l, uint32_t i, char *at)
{
	struct page p = model_get(l, i);
	int prot = l->view[0] == at - i * PAGE ? p.prot : l->view_prot;

	if (prot & PROT_WRITE)
		page_write(l, i, at, true);
}

static void look(struct lot *l, uint32_t i, char *at, const struct page *p)
{
	const uint64_t *w = (const uint64_t *)(void *)at;
	size_t k = first_wrong(w, p);

	l->owner->checks++;
	if (k == WORDS)
		return;
	if ((p->flags & FREED) && all_zero(w)) {
		page_becomes(l, i, ZERO, 0);
		return;
	}
	difference(l, i, "word %zu at %p is %#lx and not %#lx; its head is %#lx %#lx %#lx", k,
		(void *)(at + k * 8), w[k],
		p->stamp && k < HEAD_WORDS ? head_word(p, k) : content_word(p, k), w[0], w[1],
		w[2]);
	settle(l, i, at);
}

/* Whether this process can read, or write, there. */
static bool can_access(char *at, bool write)
{
	uint64_t word = 0;
	struct iovec here = { &word, sizeof(word) }, there = { at, sizeof(word) };
	ssize_t n = syscall(SYS_process_vm_readv, getpid(), &here, 1, &there, 1, 0);

	if (n == sizeof(word) && write)
		n = syscall(SYS_process_vm_writev, getpid(), &here, 1, &there, 1, 0);
	return n == sizeof(word);
}

/* Of pages that are mapped, now and then. */
static void check_access(struct lot *l, uint32_t i, const struct page *p)
{
	bool may_read = (p->prot & PROT_READ) && !(p->flags & GUARDED);
	bool may_write = may_read && (p->prot & PROT_WRITE);
	bool reads = can_access(page_at(l, i), false);
	bool writes = reads && can_access(page_at(l, i), true);

	if (reads != may_read || writes != may_write)
		difference(l, i, "it can%s be read and can%s be written", reads ? "" : "not",
			writes ? "" : "not");
}

void page_check(struct lot *l, uint32_t i, bool any)
{
	struct page p = model_get(l, i);
	size_t v = any && l->view[1] ? dice(l->owner, 2) : 0;

	if (p.what == GONE)
		return;
	/* what is written back to a freed page may be all that is left of it */
	if (!(p.flags & FREED) && (!any || dice(l->owner, 256) == 0))
		check_access(l, i, &p);
	if (!(p.prot & PROT_READ) || (p.flags & GUARDED))
		return;
	look(l, i, (any ? l->view[v] : l->view[0]) + i * PAGE, &p);
	if (!any && l->view[1])
		look(l, i, l->view[1] + i * PAGE, &p);
}
