// SPDX-License-Identifier: Apache-2.0
#include "kernel/sysv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

const char *const sysv_names[SYSV_SORTS] = { "System V shared memory", "System V semaphore set",
	"System V message queue" };

/* What an id has for its slot, by default and with ipcmni_extend on the kernel's command line. */
#define SLOT_MASK          0x7fff
#define SLOT_MASK_EXTENDED 0xffffff

union sem_arg {
	int val;
	struct semid_ds *ds;
	unsigned short *values;
	struct seminfo *info;
};

static void take_perm(struct sysv_object *o, const struct ipc_perm *p)
{
	o->key = (uint32_t)p->__key;
	o->uid = p->uid;
	o->gid = p->gid;
	o->cuid = p->cuid;
	o->cgid = p->cgid;
	o->mode = p->mode;
}

static int stat_shm(int at, int how, struct sysv_object *o)
{
	struct shmid_ds d;
	int id = shmctl(at, how, &d);

	if (id < 0)
		return id;
	take_perm(o, &d.shm_perm);
	o->bytes = d.shm_segsz;
	o->n = d.shm_nattch;
	o->first = d.shm_cpid;
	o->last = d.shm_lpid;
	o->in_s = d.shm_atime;
	o->out_s = d.shm_dtime;
	return id;
}

static int stat_sem(int at, int how, struct sysv_object *o)
{
	struct semid_ds d;
	int id = semctl(at, 0, how, (union sem_arg){ .ds = &d });

	if (id < 0)
		return id;
	take_perm(o, &d.sem_perm);
	o->n = d.sem_nsems;
	o->in_s = d.sem_otime;
	return id;
}

static int stat_msg(int at, int how, struct sysv_object *o)
{
	struct msqid_ds d;
	int id = msgctl(at, how, &d);

	if (id < 0)
		return id;
	take_perm(o, &d.msg_perm);
	o->bytes = d.msg_qbytes;
	o->held = d.__msg_cbytes;
	o->n = d.msg_qnum;
	o->first = d.msg_lspid;
	o->last = d.msg_lrpid;
	o->in_s = d.msg_stime;
	o->out_s = d.msg_rtime;
	return id;
}

/* The highest slot in use. */
static int last_shm(void)
{
	struct shm_info i;

	return shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&i);
}

static int last_sem(void)
{
	struct seminfo i;

	return semctl(0, 0, SEM_INFO, (union sem_arg){ .info = &i });
}

static int last_msg(void)
{
	struct msginfo i;

	return msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&i);
}

static int remove_shm(int id)
{
	return shmctl(id, IPC_RMID, NULL);
}

static int remove_sem(int id)
{
	return semctl(id, 0, IPC_RMID);
}

static int remove_msg(int id)
{
	return msgctl(id, IPC_RMID, NULL);
}

static int owner_shm(int id, const struct ipc_perm *p)
{
	struct shmid_ds d = { .shm_perm = *p };

	return shmctl(id, IPC_SET, &d);
}

static int owner_sem(int id, const struct ipc_perm *p)
{
	struct semid_ds d = { .sem_perm = *p };

	return semctl(id, 0, IPC_SET, (union sem_arg){ .ds = &d });
}

static int owner_msg(int id, const struct ipc_perm *p)
{
	struct msqid_ds d;

	if (msgctl(id, IPC_STAT, &d) < 0)
		return -1;
	d.msg_perm.uid = p->uid;
	d.msg_perm.gid = p->gid;
	d.msg_perm.mode = p->mode;
	return msgctl(id, IPC_SET, &d);
}

static const struct {
	int (*stat)(int at, int how, struct sysv_object *o);
	int stat_slot; /* `how`, where `at` is a slot; it returns the id */
	int (*last)(void);
	int (*remove)(int id);
	int (*owner)(int id, const struct ipc_perm *p);
	const char *next;
} sorts[SYSV_SORTS] = {
	[SYSV_SHM] = { stat_shm, SHM_STAT, last_shm, remove_shm, owner_shm,
		"/proc/sys/kernel/shm_next_id" },
	[SYSV_SEM] = { stat_sem, SEM_STAT, last_sem, remove_sem, owner_sem,
		"/proc/sys/kernel/sem_next_id" },
	[SYSV_MSG] = { stat_msg, MSG_STAT, last_msg, remove_msg, owner_msg,
		"/proc/sys/kernel/msg_next_id" },
};

static bool is_gone(int no)
{
	return no == EINVAL || no == EIDRM;
}

struct err *sysv_get(enum sysv sort, int id, struct sysv_object *ret, bool *found)
{
	struct sysv_object o = { .id = id };
	int r = sorts[sort].stat(id, IPC_STAT, &o);

	if (r < 0 && !is_gone(errno))
		return err_errno(errno, "look at %s %d", sysv_names[sort], id);
	*found = r >= 0;
	*ret = o;
	return NULL;
}

struct err *sysv_list(struct arena *a, enum sysv sort, struct sysv_object **ret, size_t *n)
{
	int last = sorts[sort].last();
	struct sysv_object *v;

	*n = 0;
	*ret = NULL;
	if (last < 0 && errno == ENOSYS)
		return NULL;
	if (last < 0)
		return err_errno(errno, "list %ss", sysv_names[sort]);
	v = arena_array(a, (size_t)last + 1, sizeof(*v));
	for (int i = 0; i <= last; i++) {
		struct sysv_object *o = &v[*n];

		o->slot = i;
		o->id = sorts[sort].stat(i, sorts[sort].stat_slot, o);
		if (o->id >= 0)
			++*n;
		else if (!is_gone(errno))
			return err_errno(errno, "look at %s", sysv_names[sort]);
		else
			*o = (struct sysv_object){ 0 };
	}
	*ret = v;
	return NULL;
}

static bool has_slot_of(const struct sysv_object *o, int id)
{
	return o->slot == (id & SLOT_MASK) || o->slot == (id & SLOT_MASK_EXTENDED);
}

struct err *sysv_taken(enum sysv sort, int id, uint32_t key, struct sysv_object *by, bool *taken)
{
	autoarena struct arena *a = arena_new();
	struct sysv_object *v;
	size_t n;

	*taken = false;
	TRY(sysv_list(a, sort, &v, &n));
	for (size_t i = 0; i < n && !*taken; i++) {
		if (!has_slot_of(&v[i], id) && !(key && v[i].key == key))
			continue;
		*by = v[i];
		*taken = true;
	}
	return NULL;
}

struct err *sysv_next_id(enum sysv sort, int id)
{
	autoclose int fd = open(sorts[sort].next, O_WRONLY | O_CLOEXEC);
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", id);

	if (fd < 0 && errno == ENOENT)
		return err_new(ERR_MISMATCH,
			"this kernel gives no %s a chosen id (CONFIG_CHECKPOINT_RESTORE)",
			sysv_names[sort]);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		return err_errno(errno, "choose id %d by %s", id, sorts[sort].next);
	return NULL;
}

struct err *sysv_set_owner(enum sysv sort, int id, uint32_t uid, uint32_t gid, uint32_t mode)
{
	const struct ipc_perm p = { .uid = uid, .gid = gid, .mode = (unsigned short)(mode & 0777) };

	if (sorts[sort].owner(id, &p) < 0)
		return err_errno(errno, "give %s %d to its owner", sysv_names[sort], id);
	return NULL;
}

struct err *sysv_remove(enum sysv sort, int id)
{
	if (sorts[sort].remove(id) < 0 && !is_gone(errno))
		return err_errno(errno, "remove %s %d", sysv_names[sort], id);
	return NULL;
}

struct err *sysv_sem_pid(int id, uint32_t n, pid_t *ret)
{
	int pid = semctl(id, (int)n, GETPID);

	if (pid < 0)
		return err_errno(errno, "ask who used semaphore %u of set %d", n, id);
	*ret = pid;
	return NULL;
}

struct err *sysv_sem_values(int id, uint16_t *v)
{
	if (semctl(id, 0, GETALL, (union sem_arg){ .values = v }) < 0)
		return err_errno(errno, "read the values of semaphore set %d", id);
	return NULL;
}

struct err *sysv_msg_room(int id, uint64_t bytes)
{
	struct msqid_ds d;

	if (msgctl(id, IPC_STAT, &d) < 0)
		return err_errno(errno, "look at message queue %d", id);
	if (d.msg_qbytes == bytes)
		return NULL;
	d.msg_qbytes = bytes;
	if (msgctl(id, IPC_SET, &d) < 0)
		return err_hint(err_errno(errno, "let message queue %d hold %ju bytes", id,
					(uintmax_t)bytes),
			"see kernel.msgmnb");
	return NULL;
}
