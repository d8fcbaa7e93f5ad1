// SPDX-License-Identifier: Apache-2.0
/*
 * A ring of shared memory: bytes arrive whatever their sizes, whoever sleeps is woken, and another
 * side that lies about its position, or a file whose size can change, is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "wire/ring.h"

#define BYTES (64u << 10)
#ifdef __SANITIZE_THREAD__
#define TOTAL (4u << 20)
#else
#define TOTAL (32u << 20)
#endif
#define LIMIT_MS   60000
#define PIECE_MAX  (BYTES / 2) /* more could make both wait */
#define POSITIONS  ((uint64_t[]){ 1, BYTES + 1, UINT64_MAX, UINT64_MAX / 2 })
#define N_POSITION 4

static void make(struct ring *a, struct ring *b)
{
	autoclose int fd = -1;

	assert_null(ring_make(BYTES, &fd));
	assert_null(ring_map(fd, a));
	assert_null(ring_map(fd, b));
}

/* One piece, though it lies across the end. */
static void test_one_piece(void **state unused_arg)
{
	struct ring w, r;
	const uint8_t *from;
	uint8_t *at;

	make(&w, &r);
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(ring_writable(&w, &at), BYTES);
		memset(at, (int)i, BYTES - 999);
		assert_int_equal(ring_readable(&r, &from), 0);
		assert_false(ring_written(&w, BYTES - 999));
		assert_int_equal(ring_readable(&r, &from), BYTES - 999);
		for (size_t k = 0; k < BYTES - 999; k++)
			assert_int_equal(from[k], i);
		assert_false(ring_read(&r, BYTES - 999));
	}
	ring_unmap(&w);
	ring_unmap(&r);
}

/* Woken once, and not before there is as much as was waited for. */
static void test_wakes(void **state unused_arg)
{
	struct ring w, r;

	make(&w, &r);
	assert_true(ring_reader_sleeps(&r, 100));
	assert_false(ring_written(&w, 99));
	assert_true(ring_written(&w, 1));
	assert_false(ring_written(&w, BYTES - 100));
	assert_false(ring_reader_sleeps(&r, 100));
	assert_true(ring_writer_sleeps(&w, 1000));
	assert_false(ring_read(&r, 999));
	assert_true(ring_read(&r, 1));
	assert_false(ring_read(&r, 1));
	assert_false(ring_writer_sleeps(&w, 1000));
	ring_unmap(&w);
	ring_unmap(&r);
}

/* No position that the other side claims makes more than the ring. */
static void test_lies(void **state unused_arg)
{
	const uint8_t *from;
	struct ring w, r;
	uint8_t *at;

	make(&w, &r);
	for (size_t i = 0; i < N_POSITION; i++) {
		ssize_t n;

		w.shared->written = POSITIONS[i];
		n = ring_readable(&r, &from);
		assert_true(n == -EPROTO || (n >= 0 && n <= (ssize_t)BYTES));
		assert_true(POSITIONS[i] <= BYTES || n == -EPROTO);
		r.shared->read = POSITIONS[i];
		n = ring_writable(&w, &at);
		assert_true(n == -EPROTO || (n >= 0 && n <= (ssize_t)BYTES));
		assert_true(at >= w.data && at < w.data + BYTES);
	}
	ring_unmap(&w);
	ring_unmap(&r);
}

static void refused(int fd)
{
	struct err *e;
	struct ring r;

	e = ring_map(fd, &r);
	assert_non_null(e);
	assert_int_equal(err_code(e), ERR_PEER);
	err_free(e);
	close(fd);
}

static int memory_file(size_t bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_not_a_ring(void **state unused_arg)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int pair[2];

	refused(memory_file(PAGE_BYTES + BYTES, 0));
	refused(memory_file(PAGE_BYTES + BYTES, F_SEAL_GROW));
	refused(memory_file(BYTES, seals));
	refused(memory_file(PAGE_BYTES, seals));
	refused(memory_file(0, seals));
	refused(memory_file(PAGE_BYTES + BYTES + 1, seals));
	refused(memory_file(PAGE_BYTES + (1u << 30), seals));
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	refused(pair[0]);
	close(pair[1]);
}

/* ---- two processes ---- */

/* Who waits asks again and again. */
#define NO_BELL -1

static uint8_t pattern(size_t at)
{
	return (uint8_t)((at * 2654435761u) >> 13 ^ at >> 20);
}

/* Until the other one has rung; bells that rang for nothing are no harm. */
static void sleep_until(int bell)
{
	struct pollfd p = { bell, POLLIN, 0 };
	char bytes[64];

	if (bell == NO_BELL) {
		sched_yield();
		return;
	}
	if (poll(&p, 1, LIMIT_MS) <= 0)
		_exit(3);
	(void)recv(bell, bytes, sizeof(bytes), MSG_DONTWAIT);
}

static int write_all(struct ring *w, int bell)
{
	unsigned seed = 1;

	for (size_t done = 0; done < TOTAL;) {
		size_t dice = (size_t)rand_r(&seed) % PIECE_MAX + 1, n = MIN(dice, TOTAL - done);
		uint8_t *at;

		while (ring_writable(w, &at) < (ssize_t)n)
			if (bell == NO_BELL || ring_writer_sleeps(w, n))
				sleep_until(bell);
		for (size_t i = 0; i < n; i++)
			at[i] = pattern(done + i);
		done += n;
		if (ring_written(w, n) && send(bell, "w", 1, 0) != 1)
			return 2;
	}
	return 0;
}

static void read_all(struct ring *r, int bell)
{
	unsigned seed = 2;

	for (size_t done = 0; done < TOTAL;) {
		size_t dice = (size_t)rand_r(&seed) % PIECE_MAX + 1, n = MIN(dice, TOTAL - done);
		const uint8_t *at;

		while (ring_readable(r, &at) < (ssize_t)n)
			if (bell == NO_BELL || ring_reader_sleeps(r, n))
				sleep_until(bell);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(at[i], pattern(done + i));
		done += n;
		if (ring_read(r, n))
			assert_int_equal(send(bell, "w", 1, 0), 1);
	}
}

static void test_two_processes(void **state unused_arg)
{
	struct ring w, r;
	int bells[2], status;
	pid_t pid;

	make(&w, &r);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bells), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(write_all(&w, bells[0]));
	read_all(&r, bells[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(bells[0]);
	close(bells[1]);
	ring_unmap(&w);
	ring_unmap(&r);
}

/* ---- two threads ---- */

static void *write_thread(void *ring)
{
	return (void *)(intptr_t)write_all(ring, NO_BELL);
}

/* Of one mapping, so that ThreadSanitizer sees both sides; and without bells, which would put their
 * bytes in order for it, whatever the ring does. */
static void test_two_threads(void **state unused_arg)
{
	autoclose int fd = -1;
	struct ring w, r;
	pthread_t thread;
	void *result;

	assert_null(ring_make(BYTES, &fd));
	assert_null(ring_map(fd, &w));
	r = w;
	assert_int_equal(pthread_create(&thread, NULL, write_thread, &w), 0);
	read_all(&r, NO_BELL);
	pthread_join(thread, &result);
	assert_null(result);
	ring_unmap(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_piece),
		cmocka_unit_test(test_wakes),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_not_a_ring),
		cmocka_unit_test(test_two_processes),
		cmocka_unit_test(test_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
