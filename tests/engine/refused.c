// SPDX-License-Identifier: Apache-2.0
/*
 * What a process or a thread can be in that cannot be moved: a child for each, `check`ed without a
 * host. The blocker names it, there is no other, and the child answers afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "tests/kernel/filter.h"
#include "tests/kernel/ns.h"

/* ---- states; false: not possible on this machine ---- */

static bool nothing(void)
{
	return true;
}

static bool bound_memory(void)
{
	unsigned long nodes = 1;
	void *p = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return syscall(SYS_mbind, p, 1 << 16, MPOL_BIND, &nodes, 8 * sizeof(nodes), 0) == 0;
}

/* Queued under a limit that was lowered afterwards. */
static bool more_signals(void)
{
	const struct rlimit few = { 2, 2 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return false;
	for (int i = 0; i < 3; i++)
		if (sigqueue(getpid(), SIGRTMIN, (union sigval){ i }) < 0)
			return false;
	return setrlimit(RLIMIT_SIGPENDING, &few) == 0;
}

static bool filter_fails(void)
{
	return filter_call(SYS_prctl, SECCOMP_RET_ERRNO | EPERM);
}

static bool filter_kills(void)
{
	return filter_call(SYS_prctl, SECCOMP_RET_KILL_PROCESS);
}

static bool filter_kills_on_return(void)
{
	return filter_call(SYS_rt_sigreturn, SECCOMP_RET_KILL_THREAD);
}

static bool filter_signals(void)
{
	return filter_call(SYS_get_mempolicy, SECCOMP_RET_TRAP);
}

static bool filter_asks(void)
{
	return filter_call(1000, SECCOMP_RET_USER_NOTIF);
}

static bool strict(void)
{
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0;
}

static bool network(void)
{
	return unshare(CLONE_NEWNET) == 0;
}

static bool uts(void)
{
	return unshare(CLONE_NEWUTS) == 0;
}

static bool pid_for_children(void)
{
	return unshare(CLONE_NEWPID) == 0;
}

static bool time_for_children(void)
{
	return unshare(CLONE_NEWTIME) == 0;
}

static bool root(void)
{
	return chroot("/usr") == 0 && chdir("/") == 0;
}

static bool terminal(void)
{
	int master, slave;

	if (openpty(&master, &slave, NULL, NULL, NULL) < 0 || ioctl(slave, TIOCSCTTY, 0) < 0)
		return false;
	close(slave); /* only the controlling terminal is left of it */
	return fcntl(master, F_SETFD, 0) == 0;
}

/* A process that stays: the subject's sibling. It does `act`, says so, and lives on. */
static bool sibling(bool (*act)(void))
{
	int done[2];
	char ok = 'n';
	long pid;

	if (pipe2(done, O_CLOEXEC) < 0)
		return false;
	pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		ok = act() ? 'y' : 'n';
		if (write(done[1], &ok, 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	close(done[1]);
	(void)!read(done[0], &ok, 1);
	close(done[0]);
	return pid > 0 && ok == 'y';
}

static int made_file(void)
{
	return open("file", O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
}

static bool ofd_lock_of_two(void)
{
	struct flock all = { .l_type = F_WRLCK };
	int fd = made_file();

	return fd >= 0 && fcntl(fd, F_OFD_SETLK, &all) == 0 && sibling(nothing);
}

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif

static bool pidfd_of_thread(void)
{
	return syscall(SYS_pidfd_open, getpid(), PIDFD_THREAD) >= 0;
}

static bool pidfd_of_the_dead(void)
{
	pid_t pid = fork();
	int fd;

	if (pid == 0)
		for (;;)
			pause();
	fd = pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (fd < 0)
		return false;
	return syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0 &&
	       waitpid(pid, NULL, 0) == pid;
}

static bool lease(void)
{
	int fd = made_file();

	return fd >= 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
}

static int ipc_id;

static bool semaphore_up(void)
{
	struct sembuf up = { .sem_num = 0, .sem_op = 1 };

	return semop(ipc_id, &up, 1) == 0;
}

static bool semaphore_of_two(void)
{
	struct sembuf up = { .sem_num = 1, .sem_op = 1 };

	ipc_id = semget(IPC_PRIVATE, 2, 0600);
	return ipc_id >= 0 && semop(ipc_id, &up, 1) == 0 && sibling(semaphore_up);
}

/* The other one has used it last. Only the undo value tells. */
static bool semaphore_held(void)
{
	struct sembuf up = { .sem_num = 0, .sem_op = 1, .sem_flg = SEM_UNDO };

	ipc_id = semget(IPC_PRIVATE, 1, 0600);
	return ipc_id >= 0 && semop(ipc_id, &up, 1) == 0 && sibling(semaphore_up);
}

/* And it has none any more. */
static bool semaphore_let_go(void)
{
	struct sembuf up = { .sem_num = 0, .sem_op = 1, .sem_flg = SEM_UNDO };
	struct sembuf down = { .sem_num = 0, .sem_op = -1, .sem_flg = SEM_UNDO };

	ipc_id = semget(IPC_PRIVATE, 1, 0600);
	return ipc_id >= 0 && semop(ipc_id, &up, 1) == 0 && semop(ipc_id, &down, 1) == 0 &&
	       sibling(semaphore_up);
}

static bool semaphore_of_thread(void)
{
	struct sembuf up = { .sem_num = 0, .sem_op = 1, .sem_flg = SEM_UNDO };

	return unshare(CLONE_SYSVSEM) == 0 && semop(ipc_id, &up, 1) == 0;
}

static bool make_thread(bool (*state)(void));

static bool semaphore_two_lists(void)
{
	ipc_id = semget(IPC_PRIVATE, 1, 0600);
	return ipc_id >= 0 && make_thread(semaphore_of_thread);
}

static bool become_another(void)
{
	return setresgid(1234, 1234, 1234) == 0 && setresuid(1234, 1234, 1234) == 0;
}

static bool semaphore_of_root(void)
{
	ipc_id = semget(IPC_PRIVATE, 1, 0666);
	return ipc_id >= 0 && semaphore_up() && become_another();
}

static bool segment_attached(int flags)
{
	ipc_id = shmget(0x7357, 3 << 21, IPC_CREAT | 0666 | flags);
	return ipc_id >= 0 && shmat(ipc_id, NULL, 0) != (void *)-1;
}

static bool segment_of_two(void)
{
	bool ok = segment_attached(0) && sibling(nothing);

	return ok && shmctl(ipc_id, IPC_RMID, NULL) == 0;
}

static bool segment_of_root(void)
{
	bool ok = segment_attached(0) && shmctl(ipc_id, IPC_RMID, NULL) == 0;

	return ok && become_another();
}

static bool segment_detached(void)
{
	char *p;

	ipc_id = shmget(IPC_PRIVATE, 4096, 0600);
	p = shmat(ipc_id, NULL, 0);
	return p != (void *)-1 && shmdt(p) == 0;
}

static bool segment_huge(void)
{
	return segment_attached(SHM_HUGETLB) && shmctl(ipc_id, IPC_RMID, NULL) == 0;
}

static bool queue_send(void)
{
	struct {
		long type;
	} m = { 1 };

	return msgsnd(ipc_id, &m, 0, IPC_NOWAIT) == 0;
}

static bool queue_receive(void)
{
	struct {
		long type;
	} m;

	return msgrcv(ipc_id, &m, 0, 0, IPC_NOWAIT) == 0;
}

static bool queue_of_two(void)
{
	ipc_id = msgget(IPC_PRIVATE, 0600);
	return ipc_id >= 0 && queue_send() && sibling(queue_receive);
}

static bool queue_of_root(void)
{
	ipc_id = msgget(IPC_PRIVATE, 0666);
	return ipc_id >= 0 && queue_send() && become_another();
}

static bool ports(void)
{
	return ioperm(0x80, 1, 1) == 0;
}

static bool dispatch(void)
{
	static char selector;

	return prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 0, &selector) == 0;
}

static bool ldt(void)
{
	struct {
		unsigned entry, base, limit, flags;
	} d = { 0, 0, 0xfffff, 0x51 };

	return syscall(SYS_modify_ldt, 1, &d, sizeof(d)) == 0;
}

/* By the gate of 32-bit code; a 64-bit one has no such call. */
static bool segment(void)
{
	struct {
		unsigned entry, base, limit, flags;
	} *d = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int ret = 243; /* set_thread_area */

	if (d == MAP_FAILED)
		return false;
	d->entry = UINT32_MAX;
	d->limit = 0xfffff;
	d->flags = 0x51;
	__asm__ volatile("int $0x80" : "+a"(ret) : "b"(d) : "memory", "r8", "r9", "r10", "r11");
	return ret == 0;
}

static bool io_flusher(void)
{
	return prctl(57 /* PR_SET_IO_FLUSHER */, 1, 0, 0, 0) == 0;
}

/* With a sibling. */
static bool shared_files(void)
{
	long pid = syscall(SYS_clone, CLONE_FILES | CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		for (;;)
			pause();
	return pid > 0;
}

static mqd_t posix_queue(void)
{
	struct mq_attr attr = { .mq_maxmsg = 1, .mq_msgsize = 8 };
	mqd_t q = mq_open("/migrated-test", O_RDWR | O_CREAT, 0600, &attr);

	return mq_unlink("/migrated-test") == 0 ? q : -1;
}

static bool posix_queue_full(void)
{
	return mq_send(posix_queue(), "x", 1, 0) == 0;
}

static bool posix_queue_tells(void)
{
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };

	return mq_notify(posix_queue(), &e) == 0;
}

static bool posix_queue_of_two(void)
{
	return posix_queue() >= 0 && sibling(nothing);
}

static bool posix_queue_of_root(void)
{
	return posix_queue() >= 0 && become_another();
}

/* To the thread of that number: at the other host it would be somebody else's. */
static bool foreign_owner(void)
{
	struct f_owner_ex owner = { .type = F_OWNER_TID, .pid = getppid() };
	int ends[2];

	return pipe(ends) == 0 && fcntl(ends[0], F_SETOWN_EX, &owner) == 0;
}

static bool place_of_a_socket(void)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", socket(AF_UNIX, SOCK_STREAM, 0));
	return open(path, O_PATH) >= 0;
}

/* A read-only clone of the root, mounted nowhere: its path is that of the root itself. */
static bool detached_mount(void)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };
	int fd = open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return fd >= 0 && mount_setattr(fd, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) == 0;
}

static bool others_status(void)
{
	return open("/proc/1/status", O_RDONLY) >= 0;
}

static bool others_place(void)
{
	return open("/proc/1/task", O_PATH | O_DIRECTORY) >= 0;
}

static bool (*in_thread)(void);
static int thread_ready[2];

static void *thread(void *arg)
{
	char ok = in_thread() ? 'y' : 'n';

	if (write(thread_ready[1], &ok, 1) == 1)
		for (;;)
			pause();
	return arg;
}

static bool make_thread(bool (*state)(void))
{
	pthread_t t;
	char ok = 0;

	in_thread = state;
	if (pipe2(thread_ready, O_CLOEXEC) < 0 || pthread_create(&t, NULL, thread, NULL) != 0 ||
		read(thread_ready[0], &ok, 1) != 1)
		return false;
	close(thread_ready[0]);
	close(thread_ready[1]);
	return ok == 'y';
}

static bool own_fs(void)
{
	return unshare(CLONE_FS) == 0;
}

static bool own_files(void)
{
	return unshare(CLONE_FILES) == 0;
}

static bool thread_fs(void)
{
	return make_thread(own_fs);
}

static bool thread_files(void)
{
	return make_thread(own_files);
}

static bool thread_network(void)
{
	return make_thread(network);
}

static bool cgroup(void)
{
	return unshare(CLONE_NEWCGROUP) == 0;
}

static bool thread_cgroup(void)
{
	return make_thread(cgroup);
}

static bool thread_filter(void)
{
	return make_thread(filter_kills);
}

/* It stands in vfork until its child, which we are asked about, ends. */
static bool shared_memory(void)
{
	return true;
}

static const struct row {
	const char *what;
	bool (*state)(void);
	const char *blocker; /* NULL: none */
} rows[] = {
	{ "an ordinary process", nothing, NULL },
	{ "a filter that lets our calls fail", filter_fails, NULL },
	{ "a filter that ends it for our calls", filter_kills, "seccomp filter of thread" },
	{ "a filter that ends it behind our calls", filter_kills_on_return,
		"end it for rt_sigreturn" },
	{ "a filter that signals", filter_signals, "end it for get_mempolicy" },
	{ "a filter that asks somebody", filter_asks, "SECCOMP_RET_USER_NOTIF" },
	{ "strict seccomp", strict, "strict mode of seccomp" },
	{ "a network namespace", network, "net namespace" },
	{ "a uts namespace", uts, "uts namespace" },
	{ "a pid namespace for children", pid_for_children, "pid_for_children" },
	{ "a time namespace for children", time_for_children, "time namespace" },
	{ "another root", root, "root directory" },
	{ "a terminal", terminal, "controlling terminal" },
	{ "a lock of a description that another has", ofd_lock_of_two, "is shared with process" },
	{ "a lease", lease, "a lease" },
	{ "a pidfd of a thread", pidfd_of_thread, "PIDFD_THREAD" },
	{ "a pidfd of a process that has ended", pidfd_of_the_dead, "was waited for" },
	{ "a semaphore set that another uses", semaphore_of_two, "is used by process" },
	{ "a semaphore that another has used last", semaphore_held, "is used by process" },
	{ "a semaphore of which no trace is left", semaphore_let_go, "nothing tells which" },
	{ "undo values of a thread", semaphore_two_lists, "undo values of its own" },
	{ "a semaphore set of another user", semaphore_of_root, "belongs to uid 0" },
	{ "a segment that another has attached", segment_of_two, "is used by process" },
	{ "a segment of another user", segment_of_root, "belongs to uid 0" },
	{ "a segment that nobody has attached", segment_detached, "not attached by anybody" },
	{ "a segment of huge pages", segment_huge, "huge pages" },
	{ "a message queue that another uses", queue_of_two, "is used by process" },
	{ "a message queue of another user", queue_of_root, "belongs to uid 0" },
	{ "I/O ports", ports, "I/O ports" },
	{ "syscall user dispatch", dispatch, "dispatch" },
	{ "an LDT", ldt, "LDT" },
	{ "a segment", segment, "segments of its own" },
	{ "an I/O flusher", io_flusher, "I/O flusher" },
	{ "a shared descriptor table", shared_files, "shares its descriptor table" },
	{ "a POSIX queue with a message", posix_queue_full, "1 message is in it" },
	{ "a POSIX queue that tells of messages", posix_queue_tells, "mq_notify" },
	{ "a POSIX queue that another has open", posix_queue_of_two, "is used by process" },
	{ "a POSIX queue of another user", posix_queue_of_root, "it belongs to uid 0" },
	{ "a descriptor that signals another's thread", foreign_owner, "its signals go to" },
	{ "a place without a path", place_of_a_socket, "only a place (O_PATH)" },
	{ "a detached mount", detached_mount, "in another mount" },
	{ "a file about another process", others_status, "is about process 1," },
	{ "a place in another process", others_place, "is about process 1," },
	{ "a cgroup namespace", cgroup, "cgroup namespace" },
	{ "a thread in another cgroup namespace", thread_cgroup, "cgroup namespace" },
	{ "a thread with a directory of its own", thread_fs, "working directory of its own" },
	{ "a thread with descriptors of its own", thread_files, "descriptor table of its own" },
	{ "a thread in another network", thread_network, "net namespace" },
	{ "a thread with such a filter", thread_filter, "seccomp filter of thread" },
	{ "more signals than it may have", more_signals, "3 real-time signals wait" },
	{ "memory bound to a NUMA node", bound_memory, "NUMA policy of its own" },
	{ "a vfork child", shared_memory, "shares its memory" },
};

/* ---- the child ---- */

static void answer(int ask, int say, bool ok)
{
	char c = ok ? 'y' : 'n';

	if (write(say, &c, 1) != 1)
		_exit(1);
	while (read(ask, &c, 1) == 1)
		if (write(say, &c, 1) != 1)
			_exit(1);
	_exit(0);
}

/* Both ends outside of the process would be a blocker of their own: it talks through a file. */
struct talk {
	int ask[2], say[2];
};

static pid_t start(const struct row *row, struct talk *t)
{
	pid_t pid;

	assert_int_equal(pipe2(t->ask, O_CLOEXEC), 0);
	assert_int_equal(pipe2(t->say, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid > 0)
		return pid;
	setsid();
	if (row->state == shared_memory) {
		pid = vfork();
		if (pid > 0)
			_exit(0);
	}
	answer(t->ask[0], t->say[1], row->state());
	_exit(1);
}

/* Blockers but for those pipes of ours, and the output that we have in common. */
static size_t count_blockers(const struct notes *n, const char *want, bool *found)
{
	size_t count = 0;

	*found = false;
	for (size_t i = 0; i < n->n_blockers; i++) {
		char *line = err_line(n->blockers[i]);

		if (!strstr(line, "descriptor") && !strstr(line, "is also open by process")) {
			count++;
			if (want && strstr(line, want))
				*found = true;
			else
				print_message("also: %s\n", line);
		} else if (want && strstr(line, want)) {
			count++;
			*found = true;
		}
		free(line);
	}
	return count;
}

static pid_t only_child(pid_t pid)
{
	char path[64];
	int child_pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &child_pid), 1);
	fclose(f);
	return child_pid;
}

static void check_row(const struct row *row)
{
	struct engine_io io = { .interrupt_fd = -1 };
	struct send_options opt = { .id = "test", .dry_run = true };
	struct engine_outcome out = { 0 };
	struct talk t;
	bool found;
	size_t n;
	char c;

	opt.pid = start(row, &t);
	assert_int_equal(read(t.say[0], &c, 1), 1);
	if (c != 'y') {
		print_message("%s: not possible here\n", row->what);
	} else {
		if (row->state == shared_memory)
			opt.pid = only_child(opt.pid);
		engine_send(&io, &opt, &out);
		n = count_blockers(&out.notes, row->blocker, &found);
		if (n != (row->blocker ? 1 : 0) || found != (row->blocker != NULL))
			fail_msg("%s: %zu blockers, %s", row->what, n,
				found ? "the right one among them" : "the right one is missing");
		engine_outcome_fini(&out);
		assert_int_equal(write(t.ask[1], "?", 1), 1);
		assert_int_equal(read(t.say[0], &c, 1), 1);
		assert_int_equal(c, '?');
	}
	kill_one(opt.pid, SIGKILL);
	for (int i = 0; i < 2; i++) {
		close(t.ask[i]);
		close(t.say[i]);
	}
}

static void table(void **state unused_arg)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check_row(&rows[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(table) };

	ns_enter();
	alarm(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
