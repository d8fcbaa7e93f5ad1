// SPDX-License-Identifier: Apache-2.0
/*
 * Changes its mappings all the time while it is moved: maps, unmaps (in the middle, too), protects,
 * moves, grows, advises and gives back pages, in an arena of its own, and knows for every page what
 * must be in it. A page that is lost, or kept although it was unmapped meanwhile, shows.
 */
#include "subject_memory.h"

#define PAGES 512
#define ANON  (MAP_PRIVATE | MAP_ANONYMOUS)

enum what { GONE, ANONYMOUS, PRIVATE_FILE, SHARED };
struct page {
	uint64_t stamp; /* 0: nobody wrote, so zeroes (or the file's contents) */
	unsigned file_page;
	enum what what;
	int prot;
};

static struct page model[PAGES];
static char *base;
static int file;
static uint64_t stamps, steps;
static unsigned seed = 1;

static unsigned dice(unsigned n)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 8) % n;
}

static void pick(unsigned *from, unsigned *n)
{
	*from = dice(PAGES);
	*n = 1 + dice(24);
	if (*from + *n > PAGES)
		*n = PAGES - *from;
}

static char *at(unsigned page)
{
	return base + page * PAGE;
}

static uint64_t *words(unsigned page)
{
	return (uint64_t *)(void *)at(page);
}

static void set(unsigned from, unsigned n, enum what what, int prot)
{
	for (unsigned i = from; i < from + n; i++)
		model[i] = (struct page){ .what = what, .prot = prot };
}

static void do_unmap(unsigned from, unsigned n)
{
	CHECK(munmap(at(from), n * PAGE) == 0);
	set(from, n, GONE, 0);
}

static void do_map(unsigned from, unsigned n)
{
	int flags = ANON | MAP_FIXED | (dice(4) ? 0 : MAP_NORESERVE);

	CHECK(mmap(at(from), n * PAGE, RW, flags, -1, 0) == at(from));
	set(from, n, ANONYMOUS, RW);
}

static void do_map_file(unsigned from, unsigned n)
{
	unsigned first = dice(64);

	CHECK(mmap(at(from), n * PAGE, RW, MAP_PRIVATE | MAP_FIXED, file, (off_t)(first * PAGE)) ==
		at(from));
	set(from, n, PRIVATE_FILE, RW);
	for (unsigned i = 0; i < n; i++)
		model[from + i].file_page = first + i;
}

static void do_map_shared(unsigned from, unsigned n)
{
	CHECK(mmap(at(from), n * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		at(from));
	set(from, n, SHARED, RW);
}

/* Not of shared memory: a part of it that is unmapped and a part that is left are one object. */
static void do_protect(unsigned from, unsigned n)
{
	static const int prots[] = { PROT_NONE, PROT_READ, RW, RW };
	int prot = prots[dice(4)];

	for (unsigned i = from; i < from + n; i++)
		if (model[i].what == GONE)
			return;
	CHECK(mprotect(at(from), n * PAGE, prot) == 0);
	for (unsigned i = from; i < from + n; i++)
		model[i].prot = prot;
}

static void do_write(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		if (model[i].what == GONE || !(model[i].prot & PROT_WRITE))
			continue;
		model[i].stamp = ++stamps;
		words(i)[0] = words(i)[PAGE / 8 - 1] = stamps;
	}
}

static void do_give_back(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		if (model[i].what != ANONYMOUS && model[i].what != PRIVATE_FILE)
			return;
	CHECK(madvise(at(from), n * PAGE, MADV_DONTNEED) == 0);
	for (unsigned i = from; i < from + n; i++)
		model[i].stamp = 0;
}

static void do_advise(unsigned from, unsigned n)
{
	static const int advice[] = { MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP };

	for (unsigned i = from; i < from + n; i++)
		if (model[i].what == GONE)
			return;
	CHECK(madvise(at(from), n * PAGE, advice[dice(4)]) == 0);
}

/* One mapping moves as a whole: its pages must be of one sort and protection. */
static void do_move(unsigned from, unsigned n)
{
	unsigned to = dice(PAGES);

	if (to + n > PAGES || (to < from + n && from < to + n))
		return;
	for (unsigned i = from; i < from + n; i++)
		if (model[i].what != ANONYMOUS || model[i].prot != model[from].prot)
			return;
	if (mremap(at(from), n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(to)) ==
		MAP_FAILED) {
		/* Advice or tracking had split it: since Linux 6.17 a part may have moved. */
		CHECK(errno == EFAULT);
		do_map(from, n);
		do_map(to, n);
		return;
	}
	memcpy(&model[to], &model[from], n * sizeof(*model));
	set(from, n, GONE, 0);
}

static void check_page(unsigned i)
{
	uint64_t want = model[i].stamp, last = want;

	if (model[i].what == GONE || !(model[i].prot & PROT_READ))
		return;
	if (!want && model[i].what == PRIVATE_FILE) {
		want = model[i].file_page + 1000;
		last = want;
	}
	if (words(i)[0] == want && words(i)[PAGE / 8 - 1] == last)
		return;
	dprintf(1, "page %u (what %d, prot %d) after %lu steps: %lu %lu, not %lu\n", i,
		model[i].what, model[i].prot, (unsigned long)steps, (unsigned long)words(i)[0],
		(unsigned long)words(i)[PAGE / 8 - 1], (unsigned long)want);
	_exit(1);
}

static void check_all(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		if (model[i].what != GONE && !(model[i].prot & PROT_READ)) {
			CHECK(mprotect(at(i), PAGE, PROT_READ) == 0);
			model[i].prot = PROT_READ;
		}
		check_page(i);
	}
	/* What is unmapped here must be unmapped: nothing of the past comes back. */
	for (unsigned i = 0; i < PAGES; i++)
		if (model[i].what == GONE)
			CHECK(mmap(at(i), PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == at(i));
}

static void make_file(void)
{
	uint64_t buf[PAGE / 8] = { 0 };

	file = open("data", O_RDWR | O_CREAT | O_TRUNC, 0644);
	CHECK(file >= 0);
	for (unsigned i = 0; i < 128; i++) {
		buf[0] = buf[PAGE / 8 - 1] = i + 1000;
		CHECK(write(file, buf, sizeof(buf)) == sizeof(buf));
	}
	close(file);
	file = open("data", O_RDONLY);
	CHECK(file >= 0);
}

static void (*const deeds[])(unsigned from, unsigned n) = { do_unmap, do_map, do_map, do_map_file,
	do_map_shared, do_protect, do_protect, do_write, do_write, do_write, do_write, do_write,
	do_give_back, do_advise, do_move, do_move };

int main(int argc, char **argv)
{
	struct timespec now;
	unsigned from, n;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : (unsigned)now.tv_nsec;
	dprintf(1, "seed %u\n", seed);

	make_file();
	base = map(PAGES, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
	do_unmap(0, PAGES);
	subject_restless();
	dprintf(1, "ready\n");
	while (access("go", F_OK) < 0) {
		for (int i = 0; i < 50; i++, steps++) {
			pick(&from, &n);
			deeds[dice(sizeof(deeds) / sizeof(*deeds))](from, n);
			check_page(dice(PAGES));
		}
		if (steps % 1000 == 0)
			subject_sleep_ms(1);
	}
	check_all();
	dprintf(1, "%lu steps\n", (unsigned long)steps);
	return subject_ok();
}
