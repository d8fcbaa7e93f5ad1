// SPDX-License-Identifier: Apache-2.0
#include "wire/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING_BYTES_MAX (64u << 20)
#define SEALS          (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* @calls pages: memfd_create ftruncate fcntl[1=F_ADD_SEALS] close */
struct err *ring_make(size_t bytes, int *ret)
{
	autoclose int fd = memfd_create("migrated-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)(PAGE_BYTES + bytes)) < 0 ||
		fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return err_errno(errno, "make a ring of %zu bytes", bytes);
	*ret = take_fd(&fd);
	return NULL;
}

/* @calls net pages: fcntl[1=F_GET_SEALS] fstat newfstatat[3&AT_EMPTY_PATH=AT_EMPTY_PATH] */
static bool size_is_sane(int fd, size_t *bytes)
{
	struct stat st;

	if ((fcntl(fd, F_GET_SEALS) & SEALS) != SEALS || fstat(fd, &st) < 0 ||
		st.st_size < (off_t)(2 * PAGE_BYTES) || st.st_size > RING_BYTES_MAX)
		return false;
	*bytes = (size_t)st.st_size - PAGE_BYTES;
	return (*bytes & (*bytes - 1)) == 0;
}

/* The page of positions, then the data twice. @calls net pages: mmap[2&PROT_EXEC=0] munmap */
struct err *ring_map(int fd, struct ring *ret)
{
	size_t bytes;
	char *p;

	if (!size_is_sane(fd, &bytes))
		return err_new(ERR_PEER, "that is no ring");
	p = mmap(NULL, PAGE_BYTES + 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_errno(errno, "map a ring");
	for (int i = 0; i < 2; i++) {
		/* The first one with the page in front, the second one without. */
		size_t skip = i * PAGE_BYTES;
		void *want = i ? p + PAGE_BYTES + bytes : p;

		if (mmap(want, PAGE_BYTES - skip + bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, fd, (off_t)skip) == MAP_FAILED) {
			int no = errno;

			munmap(p, PAGE_BYTES + 2 * bytes);
			return err_errno(no, "map a ring");
		}
	}
	*ret = (struct ring){
		.shared = (void *)p, .data = (uint8_t *)p + PAGE_BYTES, .bytes = bytes
	};
	return NULL;
}

void ring_unmap(struct ring *r)
{
	if (r->shared)
		munmap(r->shared, PAGE_BYTES + 2 * r->bytes);
	r->shared = NULL;
}

ssize_t ring_readable(const struct ring *r, const uint8_t **at)
{
	uint64_t n = atomic_load_explicit(&r->shared->written, memory_order_acquire) - r->at;

	*at = r->data + (r->at & (r->bytes - 1));
	return n > r->bytes ? -EPROTO : (ssize_t)n;
}

ssize_t ring_writable(const struct ring *r, uint8_t **at)
{
	uint64_t used = r->at - atomic_load_explicit(&r->shared->read, memory_order_acquire);

	*at = r->data + (r->at & (r->bytes - 1));
	return used > r->bytes ? -EPROTO : (ssize_t)(r->bytes - used);
}

/* True if somebody waits for no more than `there`, who must be woken then, by one caller only.
 * Sequentially consistent, like the sleeper's wish and its second look: one of the two sees the
 * other. */
static bool must_wake(_Atomic uint64_t *sleeps, uint64_t there)
{
	uint64_t wish = atomic_load(sleeps);

	return wish && wish <= there && atomic_exchange(sleeps, 0);
}

bool ring_read(struct ring *r, size_t n)
{
	r->at += n;
	atomic_store(&r->shared->read, r->at);
	return must_wake(
		&r->shared->writer_sleeps, r->bytes - (atomic_load(&r->shared->written) - r->at));
}

bool ring_written(struct ring *r, size_t n)
{
	r->at += n;
	atomic_store(&r->shared->written, r->at);
	return must_wake(&r->shared->reader_sleeps, r->at - atomic_load(&r->shared->read));
}

bool ring_reader_sleeps(struct ring *r, size_t n)
{
	atomic_store(&r->shared->reader_sleeps, n);
	return atomic_load(&r->shared->written) - r->at < n;
}

bool ring_writer_sleeps(struct ring *r, size_t n)
{
	atomic_store(&r->shared->writer_sleeps, n);
	return r->bytes - (r->at - atomic_load(&r->shared->read)) < n;
}
