// SPDX-License-Identifier: Apache-2.0
#include "fake_task.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/facts.h"
#include "fuzz.h"
#include "kernel/proc.h"
#include "kernel/restart.h"

/* Descriptors that the process has made: sockets, under these numbers. */
#define FIRST_MADE 1000
#define MADE_MAX   64
/* And those that it was given, under their own. */
#define INSTALLED_MAX 256

/* Not in linux/magic.h. */
#define MQUEUE_MAGIC 0x19800202

/* As root has them (Linux 5.9 and later). */
#define CAPABILITIES 0x1ffffffffffULL

static struct {
	struct task task;
	struct thread leader;
	uint8_t scratch[REMOTE_SCRATCH_BYTES];
	int made[MADE_MAX];
	size_t n_made;
	int installed[INSTALLED_MAX]; /* + 1 */
} fake;

static void install(int number, int fd);

struct task *fake_task(pid_t leader)
{
	fake.task = (struct task){ .pid = FAKE_PID, .pidfd = -1, .mem_fd = -1, .held = true };
	fake.leader = (struct thread){ .tid = leader, .fresh = true };
	fake.task.threads = xcalloc(1, sizeof(struct thread *));
	fake.task.threads[0] = &fake.leader;
	fake.task.n_threads = 1;
	memset(fake.scratch, 0, sizeof(fake.scratch));
	return &fake.task;
}

#define WRAPPED(type, name, args) \
	type __wrap_##name args; \
	type __wrap_##name args

WRAPPED(struct err *, seedling_make, (const struct seedling_spec *spec, struct task **ret))
{
	*ret = fake_task(spec->pid);
	return NULL;
}

WRAPPED(void, task_free, (struct task * t))
{
	if (!t)
		return;
	for (size_t i = 0; i < fake.n_made; i++)
		fd_closep(&fake.made[i]);
	fake.n_made = 0;
	for (int i = 0; i < INSTALLED_MAX; i++)
		install(i, -1);
	for (size_t i = 1; i < t->n_threads; i++)
		free(t->threads[i]);
	free(t->threads);
}

/* ---- threads ---- */

WRAPPED(struct err *, seedling_thread, (struct task * t, pid_t tid, struct thread **ret))
{
	struct thread *th;

	MUST(tid > 1 && !task_thread(t, tid));
	th = xcalloc(1, sizeof(*th));
	th->tid = tid;
	t->threads = xrealloc_array(t->threads, t->n_threads + 1, sizeof(*t->threads));
	t->threads[t->n_threads++] = th;
	*ret = th;
	return NULL;
}

WRAPPED(struct err *, seedling_thread_end, (struct task * t, pid_t tid))
{
	for (size_t i = 1; i < t->n_threads; i++) {
		if (t->threads[i]->tid != tid)
			continue;
		free(t->threads[i]);
		t->threads[i] = t->threads[--t->n_threads];
		return NULL;
	}
	return err_new(ERR_BUG, "no thread %d", tid);
}

/* ---- calls ---- */

static int64_t keep_made(int fd)
{
	if (fd < 0)
		return -errno;
	if (fake.n_made == MADE_MAX) {
		close(fd);
		return -EMFILE;
	}
	fake.made[fake.n_made++] = fd;
	return (int64_t)(FIRST_MADE + fake.n_made - 1);
}

static int64_t make_pair(const uint64_t *args)
{
	int ends[2], numbers[2];

	if (socketpair((int)args[0], (int)args[1], (int)args[2], ends) < 0)
		return -errno;
	numbers[0] = (int)keep_made(ends[0]);
	numbers[1] = (int)keep_made(ends[1]);
	memcpy(fake.scratch, numbers, sizeof(numbers));
	return numbers[1] < 0 ? -EMFILE : 0;
}

static void run(struct call *c)
{
	c->ret = 0;
	if (c->nr == SYS_mmap)
		c->ret = (int64_t)c->args[0];
	else if (c->nr == SYS_socket)
		c->ret = keep_made(socket((int)c->args[0], (int)c->args[1], (int)c->args[2]));
	else if (c->nr == SYS_socketpair)
		c->ret = make_pair(c->args);
	else if (c->nr == SYS_userfaultfd || c->nr == SYS_timer_gettime)
		c->ret = -EINVAL;
	else if (c->nr == SYS_kill || c->nr == SYS_tgkill)
		abort(); /* nobody has a reason to */
}

WRAPPED(struct err *, remote_run,
	(struct task * t, struct thread *th, struct call *calls, size_t n))
{
	MUST(t == &fake.task && th);
	for (size_t i = 0; i < n; i++)
		run(&calls[i]);
	return NULL;
}

WRAPPED(struct err *, remote_call,
	(struct task * t, struct thread *th, const struct call *c, const char *what, int64_t *ret))
{
	struct call copy = *c;

	MUST(t == &fake.task && th);
	run(&copy);
	if (copy.ret < 0)
		return err_errno((int)-copy.ret, "%s", what);
	if (ret)
		*ret = copy.ret;
	return NULL;
}

WRAPPED(struct err *, remote_start,
	(struct task * t unused_arg, struct thread *th unused_arg,
		const struct call *calls unused_arg, size_t n unused_arg))
{
	return err_new(ERR_UNSUPPORTED, "no process reads");
}

WRAPPED(raddr, remote_scratch, (const struct task *t unused_arg))
{
	return (raddr){ 0x10000 };
}

WRAPPED(struct err *, remote_put,
	(struct task * t unused_arg, size_t offset, const void *buf, size_t n))
{
	MUST(offset <= sizeof(fake.scratch) && n <= sizeof(fake.scratch) - offset);
	if (n)
		memcpy(fake.scratch + offset, buf, n);
	return NULL;
}

WRAPPED(struct err *, remote_get, (struct task * t unused_arg, size_t offset, void *buf, size_t n))
{
	MUST(offset <= sizeof(fake.scratch) && n <= sizeof(fake.scratch) - offset);
	memcpy(buf, fake.scratch + offset, n);
	return NULL;
}

/* ---- descriptors ---- */

WRAPPED(struct err *, remote_fd_home, (struct task * t unused_arg, int number, int *fd))
{
	size_t i = (size_t)number - FIRST_MADE;

	if (number >= FIRST_MADE && i < fake.n_made)
		*fd = fcntl(fake.made[i], F_DUPFD_CLOEXEC, 0);
	else if (number >= 0 && number < INSTALLED_MAX && fake.installed[number])
		*fd = fcntl(fake.installed[number] - 1, F_DUPFD_CLOEXEC, 0);
	else
		*fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return *fd < 0 ? err_errno(errno, "no descriptor %d", number) : NULL;
}

/* What no peer may be given: in the jail nothing that has a name has an identity that could be
 * known, so nothing of it may be open for writing, nor a pipe, nor a device but those that do
 * nothing. */
static void must_be_harmless(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	struct statfs fs;
	struct stat st;

	MUST(fstat(fd, &st) == 0 && fstatfs(fd, &fs) == 0);
	if (flags & O_PATH)
		return;
	MUST(!S_ISBLK(st.st_mode) && (!S_ISFIFO(st.st_mode) || fs.f_type == PIPEFS_MAGIC));
	MUST(!S_ISCHR(st.st_mode) || major(st.st_rdev) == 1);
	if (!S_ISREG(st.st_mode))
		return;
	/* A message queue that was made for it nobody else can use yet. */
	MUST(!writes || st.st_nlink == 0 ||
		(fs.f_type == MQUEUE_MAGIC && !st.st_uid && !(st.st_mode & 0777)));
	MUST(fs.f_type != PROC_SUPER_MAGIC || st.st_mode & S_IROTH);
}

/* Low numbers can be had back. */
static void install(int number, int fd)
{
	if (number >= INSTALLED_MAX)
		return;
	if (fake.installed[number])
		close(fake.installed[number] - 1);
	fake.installed[number] = fd < 0 ? 0 : 1 + fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

WRAPPED(struct err *, seedling_install,
	(struct task * t unused_arg, const int *fds, const int *numbers,
		const bool *cloexec unused_arg, size_t n))
{
	for (size_t i = 0; i < n; i++) {
		MUST(fcntl(fds[i], F_GETFD) >= 0 && numbers[i] >= 0 && numbers[i] < PROC_FDS_MAX &&
			(!i || numbers[i] >= numbers[i - 1]));
		must_be_harmless(fds[i]);
		install(numbers[i], fds[i]);
	}
	return NULL;
}

WRAPPED(struct err *, seedling_close, (struct task * t, const int *numbers, size_t n))
{
	MUST(t);
	for (size_t i = 0; i < n; i++) {
		MUST(numbers[i] >= 0 && numbers[i] < PROC_FDS_MAX);
		install(numbers[i], -1);
	}
	return NULL;
}

WRAPPED(struct err *, seedling_lend,
	(struct task * t unused_arg, unsigned which unused_arg, int fd unused_arg))
{
	return NULL;
}

WRAPPED(int, seedling_lent, (const struct task *t unused_arg, unsigned which))
{
	return 2000 + (int)which;
}

/* ---- what does nothing ---- */

#define NOTHING(name, ...) \
	WRAPPED(struct err *, name, (struct task * t unused_arg, ##__VA_ARGS__)) \
	{ \
		return NULL; \
	}
NOTHING(seedling_move_area, uint64_t at unused_arg)
NOTHING(seedling_clear, const struct seedling_vdso *v unused_arg)
NOTHING(seedling_reserve, int above unused_arg)
NOTHING(seedling_take_back)
NOTHING(seedling_seal)
NOTHING(seedling_release)
NOTHING(task_let_go)
NOTHING(task_kill)
NOTHING(task_wait_end, struct deadline d unused_arg)

WRAPPED(struct err *, task_check_alive, (const struct task *t unused_arg))
{
	return NULL;
}

WRAPPED(struct err *, task_read,
	(const struct task *t unused_arg, uint64_t at unused_arg, void *buf, size_t n))
{
	memset(buf, 0, n);
	return NULL;
}

WRAPPED(struct err *, task_write,
	(const struct task *t unused_arg, uint64_t at unused_arg, const void *buf unused_arg,
		size_t n unused_arg))
{
	return NULL;
}

WRAPPED(ssize_t, process_vm_writev,
	(pid_t pid, const struct iovec *local, unsigned long n,
		const struct iovec *remote unused_arg, unsigned long n_remote unused_arg,
		unsigned long flags unused_arg))
{
	volatile uint8_t sum = 0;
	size_t all = 0;

	MUST(pid == FAKE_PID);
	for (unsigned long i = 0; i < n; i++) {
		const uint8_t *p = local[i].iov_base;

		for (size_t j = 0; j < local[i].iov_len; j += 512)
			sum = (uint8_t)(sum + p[j]); /* it must be there */
		all += local[i].iov_len;
	}
	return (ssize_t)all;
}

WRAPPED(struct err *, arch_set_state, (pid_t tid unused_arg, const struct arch_state *s))
{
	MUST(s->regs_len <= ARCH_REGS_MAX && s->xstate_len <= ARCH_XSTATE_MAX);
	return NULL;
}

WRAPPED(struct err *, restart_block_make,
	(pid_t tid unused_arg, struct arch_state *s unused_arg, const struct call *c unused_arg,
		int64_t *ret))
{
	*ret = 0;
	return NULL;
}

/* ---- /proc of the process that is none ---- */

WRAPPED(struct err *, proc_fds, (struct arena * a, pid_t pid unused_arg, int **fds, size_t *n))
{
	*fds = arena_array(a, 1, sizeof(**fds));
	*n = 0;
	return NULL;
}

WRAPPED(struct err *, proc_timers,
	(struct arena * a, pid_t pid unused_arg, struct proc_timer **ret, size_t *n))
{
	*ret = arena_array(a, 1, sizeof(**ret));
	*n = 0;
	return NULL;
}

struct err *__real_proc_status(struct arena *a, pid_t pid, pid_t tid, struct proc_status *ret);

/* We can give any right, and it has them all. */
WRAPPED(struct err *, proc_status,
	(struct arena * a, pid_t pid, pid_t tid, struct proc_status *ret))
{
	bool is_fake = pid == FAKE_PID;

	TRY(__real_proc_status(a, is_fake ? getpid() : pid, is_fake ? 0 : tid, ret));
	ret->cap_prm = ret->cap_eff = ret->cap_bnd = CAPABILITIES;
	return NULL;
}

WRAPPED(int, prlimit64,
	(pid_t pid, int resource unused_arg, const void *new unused_arg, void *old unused_arg))
{
	MUST(pid == FAKE_PID);
	return 0;
}

WRAPPED(int, setpriority, (int which unused_arg, id_t who unused_arg, int nice unused_arg))
{
	return 0;
}

WRAPPED(int, getpriority, (int which unused_arg, id_t who unused_arg))
{
	return 0;
}

#define OWN_DIR "/proc/2147483632/" /* of FAKE_PID */
_Static_assert(FAKE_PID == 2147483632, "its directory has another name");

struct err *__real_io_read_file(
	struct arena *a, const char *path, size_t limit, char **text, size_t *len);

/* Numbers that can be set; all of them are 0. */
WRAPPED(struct err *, io_read_file,
	(struct arena * a, const char *path, size_t limit, char **text, size_t *len))
{
	if (strncmp(path, OWN_DIR, strlen(OWN_DIR)) != 0)
		return __real_io_read_file(a, path, limit, text, len);
	*text = arena_strdup(a, "0\n");
	if (len)
		*len = 2;
	return NULL;
}

WRAPPED(struct err *, io_write_file, (const char *path, const char *text unused_arg))
{
	MUST(!strncmp(path, OWN_DIR, strlen(OWN_DIR)));
	return NULL;
}

/* Its threads are scheduled in any way one likes. */
static const long scheduling[] = { SYS_sched_setattr, SYS_sched_getattr, SYS_sched_setaffinity,
	SYS_sched_getaffinity, SYS_ioprio_get, SYS_ioprio_set };

long __real_syscall(long number, ...);

long __wrap_syscall(long number, ...);

/* It may read more arguments than there are. */
__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...)
{
	long args[6];
	va_list ap;

	for (size_t i = 0; i < ARRAY_LEN(scheduling); i++)
		if (number == scheduling[i])
			return 0;
	va_start(ap, number);
	for (size_t i = 0; i < ARRAY_LEN(args); i++)
		args[i] = va_arg(ap, long);
	va_end(ap);
	return __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

/* The host's facts are read anew for every BEGIN. */
WRAPPED(void, facts_fill, (struct arena * a unused_arg, Migrate__Facts *m unused_arg))
{
}
