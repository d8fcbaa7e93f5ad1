// SPDX-License-Identifier: Apache-2.0
/* System V message queues: messages of all sizes and types in their order, an empty one, a thread
 * that waits for a message. */
#include <pthread.h>
#include <sys/msg.h>

#include "subject.h"

#define KEY  0x4d53
#define BIG  8000
#define MANY 40

struct message {
	long type;
	char text[BIG];
};

static int queue, drained, full, crammed, never;

static void send(int id, long type, size_t len)
{
	static struct message m;

	m.type = type;
	for (size_t i = 0; i < len; i++)
		m.text[i] = (char)(type + (long)i);
	CHECK(msgsnd(id, &m, len, IPC_NOWAIT) == 0);
}

static void take(int id, long want, long type, size_t len)
{
	static struct message m;

	CHECK(msgrcv(id, &m, sizeof(m.text), want, IPC_NOWAIT) == (ssize_t)len && m.type == type);
	for (size_t i = 0; i < len; i++)
		CHECK(m.text[i] == (char)(type + (long)i));
}

static struct msqid_ds stat_of(int id)
{
	struct msqid_ds d;

	CHECK(msgctl(id, IPC_STAT, &d) == 0);
	return d;
}

static void same(const struct msqid_ds *a, const struct msqid_ds *b)
{
	CHECK(a->msg_perm.__key == b->msg_perm.__key && a->msg_perm.uid == b->msg_perm.uid &&
		a->msg_perm.gid == b->msg_perm.gid && a->msg_perm.cuid == b->msg_perm.cuid &&
		a->msg_perm.mode == b->msg_perm.mode);
	CHECK(a->msg_qnum == b->msg_qnum && a->__msg_cbytes == b->__msg_cbytes &&
		a->msg_qbytes == b->msg_qbytes && a->msg_lspid == b->msg_lspid &&
		a->msg_lrpid == b->msg_lrpid && !a->msg_stime == !b->msg_stime &&
		!a->msg_rtime == !b->msg_rtime);
}

static void *wait_there(void *arg)
{
	struct message m;

	CHECK(msgrcv(drained, &m, sizeof(m.text), 77, 0) == 5 && m.type == 77);
	return arg;
}

int main(void)
{
	struct msqid_ds d[4], now;
	size_t room;
	pthread_t t;

	queue = msgget(KEY, IPC_CREAT | IPC_EXCL | 0620);
	drained = msgget(IPC_PRIVATE, 0600);
	full = msgget(IPC_PRIVATE, 0600);
	crammed = msgget(IPC_PRIVATE, 0600);
	never = msgget(IPC_PRIVATE, 0600);
	CHECK(queue == 0 && drained > 0 && full > 0 && crammed > 0 && never > 0);
	for (int i = 0; i < MANY; i++)
		send(queue, i % 3 + 1, (size_t)i);
	send(queue, 99, BIG);
	send(queue, 0x7fffffffffffffffL, 0);
	send(drained, 5, 100);
	take(drained, 0, 5, 100);
	send(drained, 6, 10);
	now = stat_of(full);
	now.msg_qbytes = 4000;
	now.msg_perm.uid = 9;
	CHECK(msgctl(full, IPC_SET, &now) == 0);
	send(full, 1, 4000);
	now.msg_qbytes = 100; /* less than is in it */
	CHECK(msgctl(full, IPC_SET, &now) == 0);
	/* To the last byte of what one may have without privilege. */
	room = (size_t)stat_of(crammed).msg_qbytes;
	for (size_t left = room; left; left -= left < BIG ? left : BIG)
		send(crammed, 1, left < BIG ? left : BIG);
	CHECK(pthread_create(&t, NULL, wait_there, NULL) == 0);
	d[0] = stat_of(queue);
	d[1] = stat_of(drained);
	d[2] = stat_of(full);
	d[3] = stat_of(crammed);
	CHECK(msgctl(never, IPC_RMID, NULL) == 0);
	subject_wait_moved();
	for (int i = 0; i < 4; i++) {
		now = stat_of((int[]){ queue, drained, full, crammed }[i]);
		same(&d[i], &now);
	}
	CHECK(msgget(KEY, 0) == queue);
	take(queue, 99, 99, BIG);
	for (int i = 0; i < MANY; i++)
		take(queue, 0, i % 3 + 1, (size_t)i);
	take(queue, 0, 0x7fffffffffffffffL, 0);
	take(drained, 6, 6, 10);
	take(full, 0, 1, 4000);
	take(crammed, 0, 1, room < BIG ? room : BIG);
	send(drained, 77, 5);
	CHECK(pthread_join(t, NULL) == 0);
	CHECK(msgctl(queue, IPC_RMID, NULL) == 0);
	return subject_ok();
}
