/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that knows at any time what must be in each page of its memory (verifier.c).
 *
 * Memory is in lots: ranges of pages of one sort, each with things that are done to it (deeds) and
 * an owner, the one thread that does them and that looks. What must be in a page is its model, kept
 * twice, in private and in shared memory, each entry with a sum, and a total per lot in a third
 * place: who loses a page of the models is noticed like who loses one of the lots.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE       4096UL
#define WORDS      (PAGE / 8)
#define HEAD_WORDS 4
#define RW         (PROT_READ | PROT_WRITE)
#define ANON_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

enum what { GONE, ANON, COW, SHARED };
enum content { ZERO, FILLED, OF_FILE };
enum { FREED = 1, GUARDED = 2 };

/* A page is `content` all over; where it has a stamp, its first words are an address, the stamp,
 * and a hash of both. */
struct page {
	uint64_t stamp, address;
	uint64_t base;    /* the stamp that a FILLED page was filled for */
	uint32_t of_file; /* the page of the file that an OF_FILE page equals */
	uint32_t mapped;  /* COW: the page of the file that is mapped there */
	uint8_t what, content, prot, flags;
	uint8_t deed; /* the last that changed it: index into the lot's deeds */
	uint8_t unused[3];
	uint64_t sum;
};

struct lot;
struct deed {
	const char *name;
	void (*fn)(struct lot *l, uint32_t from, uint32_t n);
	unsigned weight;
	uint32_t most; /* pages */
};

struct lot {
	const char *name;
	const struct deed *deeds;
	size_t n_deeds;
	struct worker *owner;
	uint32_t first;  /* its models */
	uint32_t pages;  /* as many as it may have */
	uint32_t n;      /* as many as it has: SHARED, grown */
	char *view[2];   /* where it is mapped; NULL: not (again) */
	char *second;    /* where view[1] is when it is mapped */
	int view_prot;   /* of view[1] */
	int fd;          /* of the shared object; -1: none (any more) */
	bool tail, room; /* grown lots: what lies behind it, and the other half, is reserved */
	uint64_t total;
	uint32_t sweep;
	uint8_t deed;
};

#define LOTS_MAX 8
struct worker {
	unsigned number;
	uint64_t seed, stamps, written;
	struct lot lots[LOTS_MAX];
	size_t n_lots;
	int direct; /* the file, O_DIRECT; -1: closed */
	int file;
	volatile uint64_t rounds, checks;
};

/* ---- verifier_model.c ---- */
/* The file that is mapped and read: what is in it, so many pages. */
extern const uint64_t *file_words;
extern uint32_t file_pages;
extern volatile uint64_t wrong, moves;

void models_make(uint32_t pages);
/* As it must be; what is not so is reported and then taken as it is. */
struct page model_get(struct lot *l, uint32_t i);
void model_set(struct lot *l, uint32_t i, struct page p);
/* At the end: do totals agree? */
void model_total_check(struct lot *l);

/* Looks at one page through all its views (any: one of them). */
void page_check(struct lot *l, uint32_t i, bool any);
/* Writes its head, or all of it, through `at`; it must be writable there. */
void page_write(struct lot *l, uint32_t i, char *at, bool all);
void page_becomes(struct lot *l, uint32_t i, enum content content, uint32_t of_file);

/* Says that something is wrong, with the page's model. */
void difference(struct lot *l, uint32_t i, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* All that was said, at most `size` bytes of it. */
size_t differences(char *to, size_t size);

uint64_t dice(struct worker *w, uint64_t n);
char *page_at(const struct lot *l, uint32_t i);
/* What must work, or the program ends with status 2. */
#define MUST(cond) \
	do { \
		if (!(cond)) \
			must_fail(__FILE__, __LINE__, #cond); \
	} while (0)
void must_fail(const char *file, int line, const char *what) __attribute__((noreturn));

/* ---- the lots ---- */
extern const struct deed churn_deeds[], bulk_deeds[], grown_deeds[], heap_deeds[], object_deeds[];
extern const size_t n_churn_deeds, n_bulk_deeds, n_grown_deeds, n_heap_deeds, n_object_deeds;

void lot_private(struct lot *l, bool huge);
void lot_grown(struct lot *l);
void lot_heap(struct lot *l);
/* fd: its memory; -1: anonymous. keep: stays open. */
void lot_object(struct lot *l, int fd, bool keep);
bool is_mapped(const char *at);
/* Deeds that several have. */
void do_touch(struct lot *l, uint32_t from, uint32_t n);
void do_fill(struct lot *l, uint32_t from, uint32_t n);
void do_give_back(struct lot *l, uint32_t from, uint32_t n);
