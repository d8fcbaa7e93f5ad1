// SPDX-License-Identifier: Apache-2.0
/*
 * /proc/PID/maps and smaps.
 *
 *   55d0c1a2e000-55d0c1a30000 r-xp 00002000 fe:00 1234      /usr/bin/cat
 *
 * While we read the process may change its map. The kernel then goes on with the mapping that lies
 * where it stopped; if that has grown downwards meanwhile (joined with the one before), its line
 * overlaps the one before: we cut it there. Of a path it escapes the newline alone (\012), not the
 * backslash: a file whose name holds the four characters \012 reads the same.
 */
#include "kernel/proc_priv.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#include "base/text.h"
#include "kernel/unlinked_file.h"

static const struct {
	char word[3];
	uint64_t flag; /* 0: known and of no interest (what mprotect may grant) */
} flag_words[] = {
	{ "rd", VMF_READ },
	{ "wr", VMF_WRITE },
	{ "ex", VMF_EXEC },
	{ "sh", VMF_SHARED },
	{ "mr", 0 },
	{ "mw", VMF_MAYWRITE },
	{ "me", 0 },
	{ "ms", 0 },
	{ "gd", VMF_GROWSDOWN },
	{ "pf", VMF_PFNMAP },
	{ "lo", VMF_LOCKED },
	{ "io", VMF_IO },
	{ "sr", VMF_SEQ_READ },
	{ "rr", VMF_RAND_READ },
	{ "dc", VMF_DONTFORK },
	{ "de", VMF_DONTEXPAND },
	{ "ac", VMF_ACCOUNT },
	{ "nr", VMF_NORESERVE },
	{ "ht", VMF_HUGETLB },
	{ "sf", VMF_SYNC },
	{ "wf", VMF_WIPEONFORK },
	{ "dd", VMF_DONTDUMP },
	{ "sd", VMF_SOFTDIRTY },
	{ "mm", VMF_MIXEDMAP },
	{ "hg", VMF_HUGEPAGE },
	{ "nh", VMF_NOHUGEPAGE },
	{ "mg", VMF_MERGEABLE },
	{ "um", VMF_UFFD_MISSING },
	{ "uw", VMF_UFFD_WP },
	{ "ui", VMF_UFFD_MINOR },
	{ "ss", VMF_SHADOW_STACK },
	{ "sl", VMF_SEALED },
	{ "lf", VMF_LOCKONFAULT },
	{ "dp", VMF_DROPPABLE },
	{ "gu", VMF_GUARD },
};

static bool scan_perm(const char **p, char letter, int prot, int *ret)
{
	char c = **p;

	if (c != letter && c != '-')
		return false;
	if (c == letter)
		*ret |= prot;
	(*p)++;
	return true;
}

static bool scan_u32(const char **p, unsigned base, uint32_t *ret)
{
	uint64_t v;

	if (!text_scan_u64(p, base, &v) || v > UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool scan_head(const char **p, struct vma *v)
{
	if (!text_scan_u64(p, 16, &v->start) || !text_scan_lit(p, "-") ||
		!text_scan_u64(p, 16, &v->end) || !text_scan_lit(p, " "))
		return false;
	if (!scan_perm(p, 'r', PROT_READ, &v->prot) || !scan_perm(p, 'w', PROT_WRITE, &v->prot) ||
		!scan_perm(p, 'x', PROT_EXEC, &v->prot) || (**p != 's' && **p != 'p'))
		return false;
	v->shared = *(*p)++ == 's';
	return text_scan_lit(p, " ") && text_scan_u64(p, 16, &v->offset) && text_scan_lit(p, " ") &&
	       scan_u32(p, 16, &v->dev_major) && text_scan_lit(p, ":") &&
	       scan_u32(p, 16, &v->dev_minor) && text_scan_lit(p, " ") &&
	       text_scan_u64(p, 10, &v->inode);
}

static const char *copy_path(struct arena *a, const char *p, size_t n)
{
	char *path = arena_alloc(a, n + 1), *to = path;

	for (size_t i = 0; i < n; i++)
		if (n - i >= 4 && memcmp(p + i, "\\012", 4) == 0) {
			*to++ = '\n';
			i += 3;
		} else {
			*to++ = p[i];
		}
	return path;
}

/* "/SYSV0052e2c1 (deleted)" with its key, on the file system of the kernel's own. */
static bool is_sysv(const struct vma *v)
{
	const char *p = v->path;

	if (v->dev_major || !v->shared || !text_scan_lit(&p, "/SYSV"))
		return false;
	for (int i = 0; i < 8; i++, p++)
		if (!isxdigit((unsigned char)*p))
			return false;
	return !strcmp(p, " (deleted)") && v->inode <= INT_MAX;
}

static struct err *parse_head(struct arena *a, struct line l, struct vma *ret)
{
	struct vma v = { .path = "", .unknown_flags = "" };
	const char *p = l.p;

	if (!scan_head(&p, &v) || (line_left(l, p) && *p != ' '))
		return line_unknown(l, "maps");
	if (v.start >= v.end || (v.start | v.end | v.offset) % PAGE_BYTES)
		return err_in(line_unknown(l, "maps"), "impossible address range");
	while (line_left(l, p) && *p == ' ')
		p++;
	if (line_left(l, p))
		v.path = copy_path(a, p, (size_t)(l.p + l.len - p));
	if (is_sysv(&v))
		v.inode |= VMA_SYSV;
	else if (v.inode && proc_unlinked_path(v.path))
		v.inode = proc_unlinked_id(v.dev_major, v.dev_minor, v.inode);
	*ret = v;
	return NULL;
}

struct builder {
	struct arena *a;
	struct vma *v;
	size_t n, cap;
	uint64_t cut; /* bytes that the last one lost at its start */
};

static struct err *add_vma(struct builder *b, struct line l)
{
	uint64_t behind = b->n ? b->v[b->n - 1].end : 0;
	struct vma v;

	if (b->n == PROC_VMAS_MAX)
		return err_new(ERR_LIMIT, "more than %d mappings", PROC_VMAS_MAX);
	TRY(parse_head(b->a, l, &v));
	if (v.end <= behind)
		return err_in(line_unknown(l, "maps"), "impossible address range");
	b->cut = v.start < behind ? behind - v.start : 0;
	v.start += b->cut;
	v.offset += v.inode ? b->cut : 0;
	b->v = arena_grow(b->a, b->v, &b->cap, b->n + 1, sizeof(*b->v));
	b->v[b->n++] = v;
	return NULL;
}

struct err *proc_parse_maps(struct arena *a, const char *text, struct vma_list *ret)
{
	struct builder b = { .a = a };

	for (struct line l = line_next(&text); l.p; l = line_next(&text))
		TRY(add_vma(&b, l));
	*ret = (struct vma_list){ b.v, b.n };
	return NULL;
}

static uint64_t flag_of(const char *word)
{
	for (size_t i = 0; i < ARRAY_LEN(flag_words); i++)
		if (memcmp(flag_words[i].word, word, 2) == 0)
			return flag_words[i].flag;
	return VMF_UNKNOWN;
}

/* "VmFlags: rd wr mr mw me ac " */
static struct err *parse_flags(struct arena *a, struct line l, const char *p, struct vma *v)
{
	while (line_left(l, p)) {
		const char *end = memchr(p, ' ', (size_t)(l.p + l.len - p));
		uint64_t flag;

		if (*p == ' ') {
			p++;
			continue;
		}
		if (!end)
			end = l.p + l.len;
		if (end - p != 2)
			return line_unknown(l, "smaps");
		flag = flag_of(p);
		if (flag == VMF_UNKNOWN)
			v->unknown_flags = arena_printf(
				a, "%s%s%.2s", v->unknown_flags, *v->unknown_flags ? " " : "", p);
		v->flags |= flag;
		p = end;
	}
	return NULL;
}

/* One "Key: value" line behind a mapping's first line. Sets *done by VmFlags, the last one. */
static struct err *parse_detail(struct builder *b, struct line l, bool *done)
{
	struct vma *v = &b->v[b->n - 1];
	const char *p = l.p, *colon = memchr(l.p, ':', l.len);
	uint64_t kib, key;

	if (!colon || *l.p < 'A' || *l.p > 'Z')
		return line_unknown(l, "smaps");
	if (text_scan_lit(&p, "VmFlags:")) {
		if (*done)
			return line_unknown(l, "smaps");
		*done = true;
		return parse_flags(b->a, l, p, v);
	}
	for (colon++; *colon == ' ' || *colon == '\t'; colon++)
		;
	if (text_scan_lit(&p, "Size:")) {
		if (!text_scan_u64(&colon, 10, &kib) || kib != (b->cut + v->end - v->start) / 1024)
			return line_unknown(l, "smaps");
	} else if (text_scan_lit(&p, "ProtectionKey:")) {
		if (!text_scan_u64(&colon, 10, &key) || key > 1024 || line_left(l, colon))
			return line_unknown(l, "smaps");
		v->pkey = (int)key;
	}
	return NULL;
}

static struct err *without_flags(const struct vma *v)
{
	return err_new(ERR_UNSUPPORTED, "smaps tells no VmFlags of the mapping at %#jx",
		(uintmax_t)v->start);
}

struct err *proc_parse_smaps(struct arena *a, const char *text, struct vma_list *ret)
{
	struct builder b = { .a = a };
	bool done = true;

	for (struct line l = line_next(&text); l.p; l = line_next(&text)) {
		bool head = (*l.p >= '0' && *l.p <= '9') || (*l.p >= 'a' && *l.p <= 'f');

		if (head && !done)
			return without_flags(&b.v[b.n - 1]);
		if (!head && !b.n)
			return line_unknown(l, "smaps");
		if (!head) {
			TRY(parse_detail(&b, l, &done));
			continue;
		}
		TRY(add_vma(&b, l));
		done = false;
	}
	if (!done)
		return without_flags(&b.v[b.n - 1]);
	*ret = (struct vma_list){ b.v, b.n };
	return NULL;
}

static struct err *read_list(struct arena *a, pid_t pid, const char *name, struct vma_list *ret)
{
	bool smaps = name[0] == 's';
	struct vma_list l;
	char *text;

	TRY(proc_read(a, pid, name, &text));
	TRY_IN(smaps ? proc_parse_smaps(a, text, &l) : proc_parse_maps(a, text, &l),
		"read %s of process %d", name, pid);
	/* A zombie's file is empty, as is a kernel thread's. */
	if (!l.n)
		return err_new(ERR_GONE, "process %d has no memory: it has ended", pid);
	*ret = l;
	return NULL;
}

struct err *proc_maps(struct arena *a, pid_t pid, struct vma_list *ret)
{
	return read_list(a, pid, "maps", ret);
}

struct err *proc_smaps(struct arena *a, pid_t pid, struct vma_list *ret)
{
	return read_list(a, pid, "smaps", ret);
}

const struct vma *vma_at(const struct vma_list *l, uint64_t addr)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->v[mid].end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < l->n && l->v[lo].start <= addr ? &l->v[lo] : NULL;
}
