// SPDX-License-Identifier: Apache-2.0
/*
 * System V segments: attached twice, for reading, in parts and for larger than they are, with and
 * without a key, of another user, locked, removed already. And what the kernel says of them.
 */
#include <sys/shm.h>

#include "vmas.h"

#define KEY    0x4d6967
#define KEY_2  0x00abcd
#define LOCKED 02000
#define DEST   01000

static struct vmas before, after;

static struct shmid_ds stat_of(int id)
{
	struct shmid_ds d;

	CHECK(shmctl(id, IPC_STAT, &d) == 0);
	return d;
}

static char *attach(int id, int flags)
{
	char *p = shmat(id, NULL, flags);

	CHECK(p != (void *)-1);
	return p;
}

static int make(key_t key, size_t bytes, int mode)
{
	int id = shmget(key, bytes, IPC_CREAT | IPC_EXCL | mode);

	CHECK(id >= 0);
	return id;
}

static void same(const struct shmid_ds *a, const struct shmid_ds *b)
{
	CHECK(a->shm_perm.__key == b->shm_perm.__key && a->shm_perm.uid == b->shm_perm.uid &&
		a->shm_perm.gid == b->shm_perm.gid && a->shm_perm.cuid == b->shm_perm.cuid &&
		a->shm_perm.cgid == b->shm_perm.cgid && a->shm_perm.mode == b->shm_perm.mode);
	CHECK(a->shm_segsz == b->shm_segsz && a->shm_nattch == b->shm_nattch);
	CHECK(b->shm_cpid == getpid() && b->shm_lpid == getpid());
}

int main(void)
{
	int keyed = make(KEY, 8 * PAGE + 100, 0640), private = make(IPC_PRIVATE, 16 * PAGE, 0600);
	int gone = make(KEY_2, 4 * PAGE, 0600), odd = make(IPC_PRIVATE, PAGE, 0644), other;
	char *a = attach(keyed, 0), *b = attach(keyed, 0), *r = attach(keyed, SHM_RDONLY);
	char *p = attach(private, 0), *q = attach(private, 0), *g = attach(gone, 0), *o, *large, *x;
	struct shmid_ds d[4], now;

	vmas_early();
	CHECK(keyed == 0); /* the first of all: a number that means nothing elsewhere */
	fill(a, 8 * PAGE, 1);
	fill(p, 16 * PAGE, 2);
	fill(g, 4 * PAGE, 3);
	/* Parts: the middle taken out, protected, moved; and one that is larger than its segment.
	 */
	CHECK(munmap(p + 4 * PAGE, 4 * PAGE) == 0);
	CHECK(mprotect(p + 10 * PAGE, 2 * PAGE, PROT_NONE) == 0);
	CHECK(munmap(q, 2 * PAGE) == 0);
	CHECK(madvise(b, 2 * PAGE, MADV_DONTFORK) == 0);
	o = attach(odd, 0);
	fill(o, PAGE, 4);
	large = mremap(o, PAGE, 3 * PAGE, MREMAP_MAYMOVE);
	CHECK(large != MAP_FAILED);
	/* Removed with a key, which is free for another one. */
	CHECK(shmctl(gone, IPC_RMID, NULL) == 0);
	other = make(KEY_2, 2 * PAGE, 0600);
	x = attach(other, 0);
	fill(x, 2 * PAGE, 5);
	now = stat_of(odd);
	now.shm_perm.uid = 1234;
	now.shm_perm.gid = 4321;
	now.shm_perm.mode = 0604;
	CHECK(shmctl(odd, IPC_SET, &now) == 0);
	CHECK(shmctl(private, SHM_LOCK, NULL) == 0);
	d[0] = stat_of(keyed);
	d[1] = stat_of(private);
	d[2] = stat_of(gone);
	d[3] = stat_of(odd);
	CHECK((d[1].shm_perm.mode & LOCKED) && (d[2].shm_perm.mode & DEST));
	vmas_read(&before);
	subject_wait_moved();
	vmas_read(&after);
	vmas_equal(&before, &after);
	for (int i = 0; i < 4; i++) {
		now = stat_of((int[]){ keyed, private, gone, odd }[i]);
		same(&d[i], &now);
	}
	check_filled(a, 8 * PAGE, 1);
	CHECK(!memcmp(a, b, 8 * PAGE) && !memcmp(a, r, 8 * PAGE));
	check_filled(p, 4 * PAGE, 2);
	CHECK(!memcmp(p + 8 * PAGE, q + 8 * PAGE, 2 * PAGE));
	check_filled(g, 4 * PAGE, 3);
	check_filled(large, PAGE, 4);
	check_filled(x, 2 * PAGE, 5);
	/* What is one object stays one, and its id and key lead to it. */
	a[5] ^= 1;
	CHECK(b[5] == a[5] && r[5] == a[5]);
	CHECK(shmget(KEY, 0, 0) == keyed && shmget(KEY_2, 0, 0) == other);
	CHECK(mprotect(r, PAGE, RW) < 0 && errno == EACCES);
	CHECK(shmdt(b) == 0 && shmdt(p) == 0 && shmdt(p) < 0);
	b = attach(keyed, 0);
	CHECK(b[5] == a[5]);
	CHECK(shmdt(g) == 0 && shmctl(gone, IPC_STAT, &now) < 0 && errno == EINVAL);
	CHECK(shmctl(keyed, IPC_RMID, NULL) == 0);
	return subject_ok();
}
