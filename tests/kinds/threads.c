// SPDX-License-Identifier: Apache-2.0
/*
 * Threads: vector and mask registers that hold the only copy of their data over the move,
 * thread-local variables, names, alternate stacks, robust mutexes, rseq, and pthread_join of a
 * thread that ends after the move (clear_child_tid).
 * Kinds: thread.
 */
#include "subject.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define THREADS 6

static atomic_int ready, go;
static pthread_mutex_t robust;
static __thread uint64_t tls = 0x1234;

/* Spins until *go; all data of the check is in registers meanwhile. */
__attribute__((target("avx512f"))) static int spin_avx512(atomic_int *until)
{
	uint64_t in[8], out[8] = { 0 }, k_in = 0xa5a5, k_out = 0;

	for (int i = 0; i < 8; i++)
		in[i] = 0x0123456789abcdefULL * (uint64_t)(i + 1);
	__asm__ volatile("vmovdqu64 %[in], %%zmm31\n\t"
			 "vmovdqu64 %[in], %%zmm17\n\t"
			 "kmovw %k[kin], %%k1\n\t"
			 "1: pause\n\t"
			 "cmpl $0, %[until]\n\t"
			 "je 1b\n\t"
			 "kmovw %%k1, %k[kout]\n\t"
			 "vpxorq %%zmm17, %%zmm31, %%zmm16\n\t"
			 "vporq %%zmm16, %%zmm31, %%zmm31\n\t"
			 "vmovdqu64 %%zmm31, %[out]\n\t"
			 : [out] "=m"(out), [kout] "=r"(k_out)
			 : [in] "m"(in), [kin] "r"(k_in), [until] "m"(*until)
			 : "xmm16", "xmm17", "xmm31", "k1", "memory", "cc");
	return memcmp(in, out, sizeof(in)) == 0 && k_out == k_in;
}

__attribute__((target("avx2"))) static int spin_avx2(atomic_int *until)
{
	uint64_t in[4] = { 1, 2, 3, 0xffffffffffffffffULL }, out[4] = { 0 };

	__asm__ volatile("vmovdqu %[in], %%ymm13\n\t"
			 "1: pause\n\t"
			 "cmpl $0, %[until]\n\t"
			 "je 1b\n\t"
			 "vmovdqu %%ymm13, %[out]\n\t"
			 : [out] "=m"(out)
			 : [in] "m"(in), [until] "m"(*until)
			 : "xmm13", "memory", "cc");
	return memcmp(in, out, sizeof(in)) == 0;
}

static void *spinner(void *arg)
{
	int ok;

	(void)arg;
	tls = 0x777;
	prctl(PR_SET_NAME, "spin ner\xff");
	atomic_fetch_add(&ready, 1);
	if (__builtin_cpu_supports("avx512f"))
		ok = spin_avx512(&go);
	else if (__builtin_cpu_supports("avx2"))
		ok = spin_avx2(&go);
	else
		ok = 1;
	CHECK(ok);
	CHECK(tls == 0x777);
	return (void *)0x51;
}

static void check_name(const char *want)
{
	char name[16];

	CHECK(prctl(PR_GET_NAME, name) == 0);
	CHECK(strcmp(name, want) == 0);
}

static atomic_int on_alternate;

static void handler(int sig)
{
	stack_t now;

	(void)sig;
	sigaltstack(NULL, &now);
	atomic_store(&on_alternate, (now.ss_flags & SS_ONSTACK) != 0);
}

/* glibc registers rseq for every thread: the kernel keeps the CPU number up to date there. */
static int rseq_works(void)
{
	extern const ptrdiff_t __rseq_offset __attribute__((weak));
	extern const unsigned __rseq_size __attribute__((weak));
	volatile int32_t *cpu_id;
	unsigned cpu;

	if (&__rseq_size == NULL || __rseq_size == 0)
		return 1;
	cpu_id = (volatile int32_t *)(void *)((char *)__builtin_thread_pointer() + __rseq_offset +
					      4);
	for (int tries = 0; tries < 1000; tries++) {
		if (*cpu_id < 0 || syscall(SYS_getcpu, &cpu, NULL, NULL) != 0)
			return 0;
		if ((int32_t)cpu == *cpu_id)
			return 1;
	}
	return 0;
}

static void *sleeper(void *arg)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	stack_t own = { .ss_sp = malloc(SIGSTKSZ * 4), .ss_size = (size_t)SIGSTKSZ * 4 }, now;
	unsigned long slack = 70000 + (unsigned long)(uintptr_t)arg;
	char name[16];
	int speculation;

	snprintf(name, sizeof(name), "sleeper-%d", (int)(uintptr_t)arg);
	prctl(PR_SET_NAME, name);
	CHECK(prctl(PR_SET_TIMERSLACK, slack) == 0);
	CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) == 0);
	/* Not every processor can. */
	prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
	speculation = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);
	tls = (uint64_t)(uintptr_t)arg;
	CHECK(sigaltstack(&own, NULL) == 0);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&go))
		subject_sleep_ms(1);
	CHECK(tls == (uint64_t)(uintptr_t)arg);
	check_name(name);
	CHECK((unsigned long)prctl(PR_GET_TIMERSLACK) == slack);
	CHECK(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY);
	CHECK(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0) == speculation);
	CHECK(sigaltstack(NULL, &now) == 0);
	CHECK(now.ss_sp == own.ss_sp && now.ss_size == own.ss_size && now.ss_flags == 0);
	atomic_store(&on_alternate, 0);
	CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
	CHECK(atomic_load(&on_alternate) == 1);
	CHECK(rseq_works());
	return arg;
}

/* Ends with the lock held: only the robust list tells the next owner. */
static void *dies_locked(void *arg)
{
	(void)arg;
	CHECK(pthread_mutex_lock(&robust) == 0);
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&go))
		subject_sleep_ms(1);
	return NULL;
}

/* A lock in a file, which both hosts see: the end of the original must not touch it. */
static pthread_mutex_t *lock_in_file(void)
{
	int fd = open("lock", O_RDWR | O_CREAT, 0600);
	pthread_mutexattr_t attr;
	pthread_mutex_t *m;

	CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
	m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED && close(fd) == 0);
	CHECK(pthread_mutexattr_init(&attr) == 0);
	CHECK(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0);
	CHECK(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
	CHECK(pthread_mutex_init(m, &attr) == 0);
	CHECK(pthread_mutex_lock(m) == 0);
	return m;
}

static void *tries(void *arg)
{
	return (void *)(intptr_t)pthread_mutex_trylock(arg);
}

int main(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t *in_file = lock_in_file();
	pthread_t spin, die, other, sleepers[THREADS];
	void *result;

	CHECK(pthread_mutexattr_init(&attr) == 0);
	CHECK(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0);
	CHECK(pthread_mutex_init(&robust, &attr) == 0);
	CHECK(pthread_create(&spin, NULL, spinner, NULL) == 0);
	CHECK(pthread_create(&die, NULL, dies_locked, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&sleepers[i], NULL, sleeper, (void *)(uintptr_t)(i + 1)) == 0);
	while (atomic_load(&ready) < THREADS + 2)
		subject_sleep_ms(1);
	prctl(PR_SET_NAME, "the leader");
	tls = 99;
	subject_wait_moved();
	check_name("the leader");
	CHECK(tls == 99 && rseq_works());
	CHECK(pthread_create(&other, NULL, tries, in_file) == 0);
	CHECK(pthread_join(other, &result) == 0 && result == (void *)(intptr_t)EBUSY);
	CHECK(pthread_mutex_unlock(in_file) == 0);
	atomic_store(&go, 1);
	CHECK(pthread_join(die, NULL) == 0);
	CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
	CHECK(pthread_join(spin, &result) == 0);
	CHECK(result == (void *)0x51);
	for (int i = 0; i < THREADS; i++) {
		CHECK(pthread_join(sleepers[i], &result) == 0);
		CHECK(result == (void *)(uintptr_t)(i + 1));
	}
	return subject_ok();
}
