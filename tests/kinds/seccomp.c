// SPDX-License-Identifier: Apache-2.0
/*
 * Seccomp filters: one that all threads have, which refuses what migrated calls in them, and others
 * of single threads, logged and not. Each shows by the error of a call that does not exist. With an
 * argument all threads have the same, and another one can be given to all afterwards: the kernel
 * does so only if they share what they have.
 */
#include "subject.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define THREADS 3
#define NO_CALL 1000 /* and the following have no meaning */
#define LARGE   4000 /* instructions */

static atomic_int ready, go;
static int alone; /* no thread has one of its own */

/* Call number `nr` fails with `error`, all others go through. */
static void filter(long nr, unsigned error, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog) == 0);
}

/* What migrated calls in us would fail, if it were judged. */
static void refuse_many(void)
{
	static const unsigned refused[] = { SYS_prctl, SYS_userfaultfd, SYS_mremap, SYS_arch_prctl,
		SYS_modify_ldt, SYS_get_mempolicy, SYS_socketpair, SYS_capset };

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		filter(refused[i], EPERM, 0);
}

static void large(void)
{
	static struct sock_filter code[LARGE];
	struct sock_fprog prog = { .len = LARGE, .filter = code };

	for (int i = 0; i < LARGE; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, (unsigned)i);
	code[LARGE - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0);
}

static int error_of(long nr)
{
	long got = syscall(nr);

	CHECK(got == -1);
	return errno;
}

static void check(int own)
{
	CHECK(error_of(NO_CALL) == 77);
	for (int i = 0; i < THREADS; i++)
		CHECK(error_of(NO_CALL + 1 + i) == (i == own ? 80 + i : ENOSYS));
	CHECK(syscall(SYS_prctl, PR_GET_DUMPABLE) == -1 && errno == EPERM);
}

static void *body(void *arg)
{
	int me = (int)(intptr_t)arg;
	int own = alone ? -1 : me;

	if (own >= 0)
		filter(NO_CALL + 1 + me, 80 + (unsigned)me, me ? SECCOMP_FILTER_FLAG_LOG : 0);
	if (own == 2)
		large();
	check(own);
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&go))
		subject_sleep_ms(1);
	check(own);
	CHECK(error_of(NO_CALL + 9) == (alone ? 99 : ENOSYS));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS];

	(void)argv;
	alone = argc > 1;
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	filter(NO_CALL, 77, 0);
	refuse_many();
	for (intptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, body, (void *)i) == 0);
	while (atomic_load(&ready) < THREADS)
		subject_sleep_ms(1);
	subject_wait_moved();
	check(-1);
	if (alone)
		filter(NO_CALL + 9, 99, SECCOMP_FILTER_FLAG_TSYNC);
	atomic_store(&go, 1);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	return subject_ok();
}
