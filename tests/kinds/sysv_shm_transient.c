// SPDX-License-Identifier: Apache-2.0
/*
 * System V segments that are attached, written and detached all the time, and new ones while the
 * old go. One attachment of the first stays, and is only read.
 */
#include <sys/shm.h>

#include "subject_memory.h"

#define PAGES 128U
#define YOUNG 4U

static uint64_t model[PAGES], stamps;
static unsigned seed;

static unsigned dice(unsigned n)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 8) % n;
}

static uint64_t *attach(int id)
{
	void *p = shmat(id, NULL, 0);

	CHECK(p != (void *)-1);
	return p;
}

static void glimpse(int id)
{
	uint64_t *p = attach(id);
	unsigned page = dice(PAGES);

	p[page * PAGE / 8] = model[page] = ++stamps;
	CHECK(shmdt(p) == 0);
}

static struct young {
	int id;
	uint64_t *at, stamp;
} young[YOUNG];

static void renew(struct young *y)
{
	if (y->at)
		CHECK(shmdt(y->at) == 0 && shmctl(y->id, IPC_RMID, NULL) < 0);
	y->id = shmget(0x5000 + (int)(y - young), 3 * PAGE, IPC_CREAT | IPC_EXCL | 0600);
	CHECK(y->id >= 0);
	y->at = attach(y->id);
	y->at[PAGE / 4] = y->stamp = ++stamps;
	/* It goes with us; some are seen before this. */
	CHECK(shmctl(y->id, IPC_RMID, NULL) == 0);
}

int main(void)
{
	struct timespec now;
	uint64_t *all;
	int id;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = (unsigned)now.tv_nsec;
	id = shmget(0x4fff, PAGES * PAGE, IPC_CREAT | IPC_EXCL | 0600);
	CHECK(id >= 0);
	all = attach(id);
	for (unsigned i = 0; i < YOUNG; i++)
		renew(&young[i]);
	subject_restless();
	dprintf(1, "ready\n");
	while (access("go", F_OK) < 0) {
		for (int i = 0; i < 5; i++)
			glimpse(id);
		renew(&young[dice(YOUNG)]);
		subject_sleep_ms(1);
	}
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(all[i * PAGE / 8] == model[i]);
	for (unsigned i = 0; i < YOUNG; i++)
		CHECK(young[i].at[PAGE / 4] == young[i].stamp);
	CHECK(shmctl(id, IPC_RMID, NULL) == 0);
	return subject_ok();
}
