// SPDX-License-Identifier: Apache-2.0
/*
 * pages/sink: PAGES frames for a process that is none, into private memory of several sorts and
 * into a shared object. The input is the frames as they travel. First byte: size of pieces; its
 * highest bit: by a thread's placer instead of the sink's own.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake_task.h"
#include "mem_stream.h"
#include "pages/pages.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;
const size_t fuzz_frames_at = 1;

#define AT 0x10000000ULL

static int space_fd(void *arg, uint64_t space)
{
	return space == 7 ? *(int *)arg : -1;
}

static struct err *run_here(void *arg unused_arg, struct err *(*fn)(void *what), void *what)
{
	return fn(what);
}

/* A hole between each two, and where a run may begin in one and end in the next, none. */
static const struct vma vmas[] = {
	{ AT, AT + 0x10000, 0, PROT_READ | PROT_WRITE, .path = "", .flags = 0 },
	{ AT + 0x20000, AT + 0x30000, 0, PROT_READ, .path = "" },
	{ AT + 0x30000, AT + 0x40000, 0, PROT_READ | PROT_WRITE, .path = "/lib/x", .inode = 5 },
	{ AT + 0x50000, AT + 0x60000, 0, PROT_READ | PROT_WRITE, .shared = true, .path = "/m",
		.inode = 7 },
	{ AT + 0x70000, AT + 0x470000, 0, PROT_READ | PROT_WRITE, .path = "",
		.flags = VMF_HUGEPAGE },
	{ 0x7fff00000000, 0x7fff00002000, 0, PROT_READ | PROT_EXEC, .path = "[vdso]" },
};

static void frames(struct page_sink *s, struct placer *p, struct channel *ch)
{
	struct frame_head h;
	struct err *e;

	do {
		e = channel_head(ch, &h);
		if (!e)
			e = p ? placer_frame(p, &h, ch) : page_sink_frame(s, &h, ch);
	} while (!e);
	err_free(e);
	err_free(page_sink_settle(s));
}

int fuzz_one(const uint8_t *data, size_t n)
{
	const struct vma_list maps = { (struct vma *)(uintptr_t)vmas, ARRAY_LEN(vmas) };
	struct feed f = { data, n };
	uint8_t how = feed_u8(&f);
	struct mem_stream mem = { .in = f, .piece = how & 0x7f };
	autoclose int shared = memfd_create("shared", MFD_CLOEXEC);
	struct task *t = fake_task(FAKE_PID);
	struct page_sink *s;
	struct placer *p = NULL;
	struct stream stream;
	struct channel ch;
	struct stat st;

	mem_stream(&mem, &stream);
	channel_init(&ch, &stream, -1);
	MUST(shared >= 0 && ftruncate(shared, 3 * PAGE_BYTES + 100) == 0);
	err_free(page_sink_open(&(struct page_sink_spec){ t, space_fd, &shared, SINK_COPY }, &s));
	err_free(page_sink_layout(s, &maps));
	if (how & 0x80)
		p = placer_open(s, &(struct placer_remote){ run_here, NULL });
	frames(s, p, &ch);
	placer_close(p);
	page_sink_close(s);
	/* No more than was sent, but for the size. */
	MUST(fstat(shared, &st) == 0 && (uint64_t)st.st_blocks * 512 <= n + 4 * PAGE_BYTES);
	task_free(t);
	return 0;
}
