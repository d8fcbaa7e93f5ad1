/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For subjects about memory: the process's own mappings as text, joined where neighbours differ in
 * nothing, without what may change by a move (inode numbers of unlinked shared memory, flags that
 * tell about tracking, a mapping that was split or joined).
 */
#pragma once

#include "subject_memory.h"

#define VMAS_MAX 4096

struct line {
	unsigned long start, end, offset;
	char perm[8], path[160], flags[96];
};

struct vmas {
	struct line v[VMAS_MAX];
	int n;
};

static inline char *vmas_text(const char *file)
{
	size_t cap = 16 << 20, n = 0;
	char *text = mmap(NULL, cap, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open(file, O_RDONLY);
	ssize_t got;

	CHECK(text != MAP_FAILED && fd >= 0);
	while ((got = read(fd, text + n, cap - 1 - n)) > 0)
		n += (size_t)got;
	CHECK(got == 0);
	close(fd);
	return text;
}

/* VmFlags without what a move may change: sd soft-dirty, uw our tracking, ac of what is writable
 * anyway, gu the hint that there may be guard pages, sh of what can never be written. */
static inline void vmas_flags(struct line *l, const char *p)
{
	l->flags[0] = '\0';
	while (*p && *p != '\n') {
		char word[4] = { 0 };

		while (*p == ' ')
			p++;
		if (*p == '\n' || !*p)
			break;
		memcpy(word, p, 2);
		p += 2;
		if (strcmp(word, "sd") && strcmp(word, "uw") && strcmp(word, "gu") &&
			!(strcmp(word, "ac") == 0 && l->perm[1] == 'w') &&
			!(strcmp(word, "sh") == 0 && l->perm[1] != 'w')) {
			strcat(l->flags, word);
			strcat(l->flags, " ");
		}
	}
}

static inline int vmas_joins(const struct line *a, const struct line *b)
{
	int same_object = a->path[0] == '/' ? a->offset + (a->end - a->start) == b->offset : 1;

	return a->end == b->start && !strcmp(a->perm, b->perm) && !strcmp(a->path, b->path) &&
	       !strcmp(a->flags, b->flags) && same_object;
}

static inline void vmas_push(struct vmas *out, const struct line *l, const char *skip)
{
	if (l->start == (unsigned long)skip)
		return;
	if (out->n && vmas_joins(&out->v[out->n - 1], l)) {
		out->v[out->n - 1].end = l->end;
		return;
	}
	CHECK(out->n < VMAS_MAX);
	out->v[out->n++] = *l;
}

static inline void vmas_early(void)
{
	/* The heap is there before the first look (a compiler may drop malloc and free). */
	void *volatile p = malloc(1);

	free(p);
}

/* From smaps, without the buffer that this needs itself. */
static inline void vmas_read(struct vmas *out)
{
	char *text = vmas_text("/proc/self/smaps"), *p = text;
	struct line l = { 0 };

	out->n = 0;
	while (*p) {
		char *eol = strchr(p, '\n');
		int at = 0;

		CHECK(eol);
		if (!strncmp(p, "VmFlags:", 8)) {
			vmas_flags(&l, p + 8);
			vmas_push(out, &l, text);
		} else if (*p < 'A' || *p > 'Z') {
			memset(&l, 0, sizeof(l));
			CHECK(sscanf(p, "%lx-%lx %4s %lx %*s %*s%n", &l.start, &l.end, l.perm,
				      &l.offset, &at) == 4);
			p += at;
			while (*p == ' ')
				p++;
			snprintf(l.path, sizeof(l.path), "%.*s", (int)(eol - p), p);
		}
		p = eol + 1;
	}
	CHECK(munmap(text, 16 << 20) == 0);
}

static inline void vmas_equal(const struct vmas *a, const struct vmas *b)
{
	int bad = 0;

	for (int i = 0; i < a->n || i < b->n; i++) {
		const struct line *x = &a->v[i], *y = &b->v[i];

		if (i < a->n && i < b->n && x->start == y->start && x->end == y->end &&
			x->offset == y->offset && !strcmp(x->perm, y->perm) &&
			!strcmp(x->path, y->path) && !strcmp(x->flags, y->flags))
			continue;
		if (i < a->n)
			dprintf(1, "before %lx-%lx %s %lx %s [%s]\n", x->start, x->end, x->perm,
				x->offset, x->path, x->flags);
		if (i < b->n)
			dprintf(1, "after  %lx-%lx %s %lx %s [%s]\n", y->start, y->end, y->perm,
				y->offset, y->path, y->flags);
		if (++bad == 5)
			break;
	}
	CHECK(!bad);
}
