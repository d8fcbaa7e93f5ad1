// SPDX-License-Identifier: Apache-2.0
/*
 * 16 threads, each in a kind of wait or work of its own, each checking all it can see all the time:
 *
 *   0-2   spin with live vector registers (zmm0-31 and k1-7, or ymm, or xmm)
 *   3-5   pass a token round on condition variables (futex)
 *   6-7   add under one mutex (futex)
 *   8     nanosleep with a remainder, 9 clock_nanosleep to absolute times
 *   10    writes a sequence into a pipe, 11 reads it (blocked in read)
 *   12    poll with a timeout, 13 epoll_wait on a timerfd
 *   14    POSIX timer that signals this thread, sigtimedwait
 *   15    signals thread 0 and waits, blocked in read of an eventfd, for its handler
 *
 * Every round of a thread checks its thread-local data and that the clocks did not jump. The file
 * `status` holds the count of rounds per thread. It ends when the file `stop` appears.
 */
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define THREADS 16
#define RING    3
#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			dprintf(1, "FAIL thread %d line %d: %s (errno %d)\n", self, __LINE__, \
				#cond, errno); \
			_exit(1); \
		} \
	} while (0)

static __thread int self = -1;
static __thread uint64_t canary[8];
static __thread volatile sig_atomic_t signals_seen;
static volatile int stop;
static volatile uint64_t rounds[THREADS];
static pthread_t threads[THREADS];
static pthread_barrier_t all_there;
static volatile pid_t tids[THREADS];

static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER, sum_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ring_turn[RING] = { PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
	PTHREAD_COND_INITIALIZER };
static int turn;
static uint64_t sum, parts[2];
static int pipe_fds[2], event_fd;
static volatile sig_atomic_t handled;

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Thread-local data as left, and no clock has jumped: 20 s is far above any stop. */
static void check_self(int64_t last[2])
{
	int64_t mono = now_ns(CLOCK_MONOTONIC), boot = now_ns(CLOCK_BOOTTIME);

	for (int i = 0; i < 8; i++)
		CHECK(canary[i] == 0x1234567800000000ull + (uint64_t)(self * 8 + i));
	CHECK(mono >= last[0] && mono - last[0] < 20000000000ll);
	CHECK(boot >= last[1] && boot - last[1] < 20000000000ll);
	last[0] = mono;
	last[1] = boot;
	CHECK(syscall(SYS_gettid) == tids[self]);
}

/* Loads every register with words of its own, spins, stores them all. */
__attribute__((target("avx512f,avx512bw"), noinline)) static void spin_avx512(
	const uint64_t *in, uint64_t *out, uint64_t *masks, uint64_t n)
{
#define LOAD(r)  "vmovdqu64 " #r "*64(%[in]), %%zmm" #r "\n\t"
#define STORE(r) "vmovdqu64 %%zmm" #r ", " #r "*64(%[out])\n\t"
#define ALL(F) \
	F(0) \
	F(1) \
	F(2) \
	F(3) \
	F(4) \
	F(5) \
	F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15) F(16) F(17) F(18) F(19) F(20) \
		F(21) F(22) F(23) F(24) F(25) F(26) F(27) F(28) F(29) F(30) F(31)
#define KLOAD(r)  "kmovq " #r "*8(%[in]), %%k" #r "\n\t"
#define KSTORE(r) "kmovq %%k" #r ", " #r "*8(%[masks])\n\t"
#define KALL(F)   F(1) F(2) F(3) F(4) F(5) F(6) F(7)
	__asm__ volatile(ALL(LOAD) KALL(KLOAD) "1: pause\n\tdec %[n]\n\tjnz 1b\n\t" ALL(STORE)
				 KALL(KSTORE) "vzeroupper\n\t"
			 : [n] "+r"(n)
			 : [in] "r"(in), [out] "r"(out), [masks] "r"(masks)
			 : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
			 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
			 "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
			 "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30",
			 "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7");
}

__attribute__((noinline)) static void spin_sse(const uint64_t *in, uint64_t *out, uint64_t n)
{
#define XLOAD(r)  "movdqu " #r "*64(%[in]), %%xmm" #r "\n\t"
#define XSTORE(r) "movdqu %%xmm" #r ", " #r "*64(%[out])\n\t"
#define XALL(F) \
	F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
	__asm__ volatile(XALL(XLOAD) "1: pause\n\tdec %[n]\n\tjnz 1b\n\t" XALL(XSTORE)
			 : [n] "+r"(n)
			 : [in] "r"(in), [out] "r"(out)
			 : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
			 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
			 "xmm15");
}

static void round_spin(void)
{
	static __thread uint64_t in[256], out[256], masks[8];
	int wide = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512f");

	for (int i = 0; i < 256; i++)
		in[i] = rounds[self] * 0x9e3779b97f4a7c15ull + (uint64_t)(self * 1000 + i);
	memset(out, 0, sizeof(out));
	if (self)
		usleep(2000); /* leave the processor to somebody; thread 0 never does */
	if (wide) {
		spin_avx512(in, out, masks, 30000);
		CHECK(memcmp(in, out, sizeof(in)) == 0);
		CHECK(memcmp(in + 1, masks + 1, 56) == 0);
		return;
	}
	spin_sse(in, out, 30000);
	for (int i = 0; i < 16; i++)
		CHECK(memcmp(in + i * 8, out + i * 8, 16) == 0);
}

static void round_ring(void)
{
	int me = self - 3;

	pthread_mutex_lock(&ring_lock);
	while (turn != me && !stop) {
		struct timespec t;

		clock_gettime(CLOCK_REALTIME, &t);
		t.tv_sec += 60;
		CHECK(pthread_cond_timedwait(&ring_turn[me], &ring_lock, &t) == 0);
	}
	turn = (me + 1) % RING;
	pthread_cond_signal(&ring_turn[turn]);
	pthread_mutex_unlock(&ring_lock);
	if (me == 0)
		usleep(4000); /* meanwhile the others wait */
}

static void round_sum(void)
{
	for (int i = 0; i < 100; i++) {
		pthread_mutex_lock(&sum_lock);
		sum++;
		parts[self - 6]++;
		CHECK(sum == parts[0] + parts[1]);
		pthread_mutex_unlock(&sum_lock);
	}
	usleep(2000);
}

static void round_sleep(void)
{
	struct timespec left = { 0, 15000000 };
	int64_t began = now_ns(CLOCK_MONOTONIC), took;

	/* nobody has a handler that runs here, so nothing may interrupt it */
	CHECK(nanosleep(&left, &left) == 0);
	took = now_ns(CLOCK_MONOTONIC) - began;
	CHECK(took >= 15000000);
}

static void round_sleep_until(void)
{
	int64_t at = now_ns(CLOCK_MONOTONIC) + 12000000;
	struct timespec t = { at / 1000000000, at % 1000000000 };

	CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0);
	CHECK(now_ns(CLOCK_MONOTONIC) >= at);
}

static void round_write(void)
{
	uint64_t n = rounds[self];

	CHECK(write(pipe_fds[1], &n, sizeof(n)) == sizeof(n));
	usleep(8000);
}

static void round_read(void)
{
	uint64_t n;

	CHECK(read(pipe_fds[0], &n, sizeof(n)) == sizeof(n));
	CHECK(n == rounds[self]);
}

static void round_poll(void)
{
	struct pollfd p = { .fd = event_fd, .events = POLLPRI };
	int64_t began = now_ns(CLOCK_MONOTONIC);

	CHECK(poll(&p, 1, 14) == 0);
	CHECK(now_ns(CLOCK_MONOTONIC) - began >= 13000000);
}

static void round_epoll(void)
{
	static __thread int ep = -1, tfd;
	struct itimerspec every = { { 0, 9000000 }, { 0, 9000000 } };
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 77 };
	uint64_t n = 0;
	int got;

	if (ep < 0) {
		ep = epoll_create1(0);
		tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
		CHECK(timerfd_settime(tfd, 0, &every, NULL) == 0);
		CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &ev) == 0);
	}
	ev.data.u64 = 0;
	/* EINTR after any stop is what signal(7) promises, here and of sigtimedwait */
	while ((got = epoll_wait(ep, &ev, 1, 20000)) < 0)
		CHECK(errno == EINTR);
	CHECK(got == 1);
	CHECK(ev.data.u64 == 77);
	CHECK(read(tfd, &n, sizeof(n)) == sizeof(n) && n >= 1);
}

static void round_timer(void)
{
	static __thread timer_t timer;
	static __thread int made;
	struct itimerspec every = { { 0, 11000000 }, { 0, 11000000 } };
	struct sigevent se = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1 };
	struct timespec limit = { 20, 0 };
	siginfo_t si;
	sigset_t set;
	int got;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	if (!made) {
		se.sigev_value.sival_int = 4711;
		((int *)&se)[4] = tids[self]; /* sigev_notify_thread_id; glibc hides the name */
		CHECK(timer_create(CLOCK_MONOTONIC, &se, &timer) == 0);
		CHECK(timer_settime(timer, 0, &every, NULL) == 0);
		made = 1;
	}
	while ((got = sigtimedwait(&set, &si, &limit)) < 0)
		CHECK(errno == EINTR);
	CHECK(got == SIGRTMIN + 1);
	CHECK(si.si_code == SI_TIMER && si.si_value.sival_int == 4711);
}

/* Signals thread 0 and waits, blocked in read, for its handler's answer. */
static void round_signal(void)
{
	int64_t before = handled;
	uint64_t n;

	CHECK(pthread_kill(threads[0], SIGUSR1) == 0);
	CHECK(read(event_fd, &n, sizeof(n)) == sizeof(n) && n == 1);
	CHECK(handled == before + 1);
	usleep(5000);
}

static void on_usr1(int sig)
{
	uint64_t one = 1;
	int saved = errno;

	CHECK(sig == SIGUSR1 && self == 0);
	signals_seen++;
	handled++;
	CHECK(write(event_fd, &one, sizeof(one)) == sizeof(one));
	errno = saved;
}

static void (*const round_of[THREADS])(void) = { round_spin, round_spin, round_spin, round_ring,
	round_ring, round_ring, round_sum, round_sum, round_sleep, round_sleep_until, round_write,
	round_read, round_poll, round_epoll, round_timer, round_signal };

static void *run(void *arg)
{
	int64_t last[2] = { now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_BOOTTIME) };
	char name[16];

	self = (int)(intptr_t)arg;
	tids[self] = (pid_t)syscall(SYS_gettid);
	snprintf(name, sizeof(name), "subject-%d", self);
	pthread_setname_np(pthread_self(), name);
	for (int i = 0; i < 8; i++)
		canary[i] = 0x1234567800000000ull + (uint64_t)(self * 8 + i);
	pthread_barrier_wait(&all_there);
	while (!stop) {
		round_of[self]();
		check_self(last);
		rounds[self]++;
	}
	if (self == 10)
		round_write(); /* the reader may be waiting */
	return NULL;
}

static void write_status(int fd)
{
	char line[THREADS * 21];
	int n = 0;

	for (int i = 0; i < THREADS; i++)
		n += snprintf(
			line + n, sizeof(line) - (size_t)n, "%llu ", (unsigned long long)rounds[i]);
	line[n - 1] = '\n';
	CHECK(pwrite(fd, line, (size_t)n, 0) == n);
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };
	int status = open("status", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	sigset_t set;

	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	event_fd = eventfd(0, 0);
	CHECK(status >= 0 && event_fd >= 0 && pipe(pipe_fds) == 0);
	pthread_barrier_init(&all_there, NULL, THREADS);
	dprintf(1, "vectors: %s\n", __builtin_cpu_supports("avx512bw") ? "avx512" : "sse");
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i) == 0);
	dprintf(1, "ready\n");
	while (access("stop", F_OK) < 0) {
		write_status(status);
		usleep(10000);
	}
	stop = 1;
	pthread_mutex_lock(&ring_lock);
	for (int i = 0; i < RING; i++)
		pthread_cond_broadcast(&ring_turn[i]);
	pthread_mutex_unlock(&ring_lock);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(sum == parts[0] + parts[1]);
	dprintf(1, "ok\n");
	return 0;
}
