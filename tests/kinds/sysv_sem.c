// SPDX-License-Identifier: Apache-2.0
/*
 * System V semaphores: values, who used them last, a set that nobody has changed yet, one with undo
 * values of all sizes, and threads that wait.
 */
#include <pthread.h>
#include <sys/sem.h>
#include <sys/wait.h>

#include "subject.h"

#define KEY  0x5e3a
#define N    6
#define MANY 700

union semun {
	int val;
	struct semid_ds *ds;
	unsigned short *array;
};

static int set, fresh, undone, many;

static void op(int id, int number, int by, int flags)
{
	struct sembuf o = { (unsigned short)number, (short)by, (short)flags };

	CHECK(semop(id, &o, 1) == 0);
}

static struct semid_ds stat_of(int id)
{
	struct semid_ds d;

	CHECK(semctl(id, 0, IPC_STAT, (union semun){ .ds = &d }) == 0);
	return d;
}

static void same(const struct semid_ds *a, const struct semid_ds *b)
{
	CHECK(a->sem_perm.__key == b->sem_perm.__key && a->sem_perm.uid == b->sem_perm.uid &&
		a->sem_perm.gid == b->sem_perm.gid && a->sem_perm.cuid == b->sem_perm.cuid &&
		a->sem_perm.cgid == b->sem_perm.cgid && a->sem_perm.mode == b->sem_perm.mode &&
		a->sem_nsems == b->sem_nsems && !a->sem_otime == !b->sem_otime);
}

static volatile int passed;

static void *wait_there(void *arg)
{
	op(set, 5, -1, 0);
	passed = 1;
	return arg;
}

/* Semaphore 0: up to the greatest undo value; 1: down to the least; 2 to 4: near nothing. */
static const int undo[] = { 32767, -32768, 1, -1, 0, 700 };
static const int level[] = { 1, 32767, 3, 32767, 9, 16384 };

static void make_undo(int number)
{
	int left = undo[number];

	/* An undo value is what is added at the end. */
	CHECK(semctl(undone, number, SETVAL, left > 0 ? 32767 : 0) == 0);
	while (left) {
		int step = left > 32767 ? 32767 : left < -32767 ? -32767 : left;

		op(undone, number, -step, SEM_UNDO);
		left -= step;
		if (left) /* at the end of the range */
			op(undone, number, -32767, 0);
	}
	/* To the level, by steps that do not count. */
	if (semctl(undone, number, GETVAL) != level[number])
		op(undone, number, level[number] - semctl(undone, number, GETVAL), 0);
}

/* What the set has after a process with these undo values has ended. */
static int expected(int number)
{
	int v = level[number] + undo[number];

	return v < 0 ? 0 : v > 32767 ? 32767 : v;
}

/* In a child, which moves along as a thread of the same list would: here the process itself takes
 * the list off, by unshare(2). */
static void check_undo(void)
{
	for (int i = 0; i < N; i++)
		CHECK(semctl(undone, i, GETVAL) == level[i]);
	CHECK(unshare(0x00040000 /* CLONE_SYSVSEM */) == 0);
	for (int i = 0; i < N; i++)
		CHECK(semctl(undone, i, GETVAL) == expected(i));
}

int main(int argc, char **argv)
{
	struct semid_ds d[3], now;
	unsigned short v[MANY];
	pthread_t t;
	int threaded = argc > 1 && !strcmp(argv[1], "threads");

	set = semget(KEY, N, IPC_CREAT | IPC_EXCL | 0640);
	fresh = semget(IPC_PRIVATE, 2, 0600);
	undone = semget(IPC_PRIVATE, N, 0600);
	many = semget(IPC_PRIVATE, MANY, 0600);
	CHECK(set == 0 && fresh > 0 && undone > 0 && many > 0);
	op(set, 0, 3, 0);
	op(set, 1, 32767, 0);
	CHECK(semctl(set, 2, SETVAL, 7) == 0);
	/* Set, and not changed by semop: its otime is 0, which programs look at. */
	CHECK(semctl(fresh, 1, SETVAL, 1) == 0);
	for (int i = 0; i < MANY; i++)
		v[i] = (unsigned short)(i * 37 % 32768);
	CHECK(semctl(many, 0, SETALL, (union semun){ .array = v }) == 0);
	for (int i = 0; i < N; i++)
		make_undo(i);
	now = stat_of(set);
	now.sem_perm.uid = 77;
	now.sem_perm.gid = 78;
	CHECK(semctl(set, 0, IPC_SET, (union semun){ .ds = &now }) == 0);
	if (threaded)
		CHECK(pthread_create(&t, NULL, wait_there, NULL) == 0);
	d[0] = stat_of(set);
	d[1] = stat_of(fresh);
	d[2] = stat_of(undone);
	CHECK(!d[1].sem_otime && d[0].sem_otime);
	subject_wait_moved();
	for (int i = 0; i < 3; i++) {
		now = stat_of((int[]){ set, fresh, undone }[i]);
		same(&d[i], &now);
	}
	CHECK(semget(KEY, N, 0) == set);
	CHECK(semctl(set, 0, GETVAL) == 3 && semctl(set, 1, GETVAL) == 32767 &&
		semctl(set, 2, GETVAL) == 7 && semctl(set, 3, GETVAL) == 0);
	CHECK(semctl(set, 0, GETPID) == getpid() && semctl(set, 2, GETPID) == getpid() &&
		semctl(set, 3, GETPID) == 0);
	CHECK(semctl(fresh, 1, GETVAL) == 1 && semctl(fresh, 0, GETPID) == 0);
	CHECK(semctl(many, 0, GETALL, (union semun){ .array = v }) == 0);
	for (int i = 0; i < MANY; i++)
		CHECK(v[i] == i * 37 % 32768);
	if (threaded) {
		CHECK(!passed && semctl(set, 5, GETNCNT) == 1);
		op(set, 5, 1, 0);
		CHECK(pthread_join(t, NULL) == 0 && passed);
	}
	check_undo();
	CHECK(semctl(set, 0, IPC_RMID) == 0);
	return subject_ok();
}
