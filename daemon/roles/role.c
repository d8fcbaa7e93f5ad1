// SPDX-License-Identifier: Apache-2.0
#include "roles/role.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "roles/ipc.h"

#define USERS_MAX 3

static const struct role {
	const char *name, *process;
	int (*main)(void);
	bool confined;
	const char *users[USERS_MAX]; /* the first that exists */
} roles[ROLE_COUNT] = {
	[ROLE_CONTROL] = { "control", "migrated-ctl", control_main, true,
		{ "migrated", "nobody" } },
	[ROLE_NET] = { "net", "migrated-net", net_main, true,
		{ "migrated-net", "migrated", "nobody" } },
	[ROLE_WORKER] = { "worker", "migrated-worker", worker_main, false, { NULL } },
	[ROLE_HOOKS] = { "hooks", "migrated-hooks", hooks_main, false, { NULL } },
};

const char *role_name(enum role_kind kind)
{
	return roles[kind].name;
}

static struct err *drop_ids(const struct role *r)
{
	const struct passwd *pw = NULL;

	for (size_t i = 0; i < USERS_MAX && r->users[i] && !pw; i++)
		pw = getpwnam(r->users[i]);
	if (!pw)
		return err_hint(err_new(ERR_KERNEL, "no user nobody on this host"),
			"add a system user migrated");
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		return err_new(ERR_INVALID, "user %s is root", pw->pw_name);
	if (setgroups(0, NULL) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
		setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
		return err_errno(errno, "become user %s", pw->pw_name);
	return NULL;
}

static struct err *drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

	memset(none, 0, sizeof(none));
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
		syscall(SYS_capset, &head, none) < 0)
		return err_errno(errno, "give up all capabilities");
	return NULL;
}

/* Not dumpable: the two may have one user, and net holds the private key. */
static struct err *confine(const struct role *r)
{
	struct rlimit no_core = { 0, 0 };

	TRY(drop_ids(r));
	TRY(drop_capabilities());
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
		setrlimit(RLIMIT_CORE, &no_core) < 0)
		return err_errno(errno, "confine the role");
	return NULL;
}

/* What the service manager gave to us must not stay with moved processes for ever. Each one is best
 * effort: inside a container some cannot be changed, and then they are not ours. */
static void shed_inheritance(void)
{
	struct err *ignored = io_write_file("/proc/self/oom_score_adj", "0\n");

	err_free(ignored);
	(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0);
	(void)setpriority(PRIO_PROCESS, 0, 0);
	(void)prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0);
	(void)syscall(SYS_set_mempolicy, 0 /* MPOL_DEFAULT */, NULL, 0);
	(void)clearenv();
	umask(022);
}

/* The order is the same for all: place, descriptors, log, signals, rights. */
static struct err *role_begin(const struct role *r, bool debug)
{
	sigset_t none;

	if (chdir("/") < 0)
		return err_errno(errno, "change to /");
	if (syscall(SYS_close_range, IPC_FD + 1, ~0U, 0) < 0)
		return err_errno(errno, "close all other descriptors");
	if (fcntl(IPC_FD, F_SETFD, FD_CLOEXEC) < 0)
		return err_hint(err_errno(errno, "descriptor %d", IPC_FD),
			"--role is for migrated's own use");
	(void)prctl(PR_SET_NAME, r->process, 0, 0, 0); /* it would be called "exe" */
	log_open(r->name, debug ? LOG_DEBUG_ : LOG_INFO_);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* Ctrl-C in the daemon's terminal is for the monitor */
	if (r->confined)
		return confine(r);
	shed_inheritance();
	return NULL;
}

int role_main(const char *name, bool debug)
{
	for (size_t i = 0; i < ROLE_COUNT; i++) {
		autoerr struct err *e = NULL;

		if (strcmp(roles[i].name, name) != 0)
			continue;
		e = role_begin(&roles[i], debug);
		if (e) {
			autofree char *line = err_line(e);

			log_error("start error=\"%s\"", line);
			return 1;
		}
		return roles[i].main();
	}
	fprintf(stderr, "migrated: no role %s\n", name);
	return 2;
}

/* In the child, between fork and exec: only calls that are safe there. */
static void exec_role(const struct role *r, bool debug, int fd)
{
	const char *argv[] = { "migrated", "--role", r->name, debug ? "--debug" : NULL, NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		_exit(1);
	/* dup2 onto itself would leave close-on-exec set. */
	if (fd == IPC_FD ? fcntl(fd, F_SETFD, 0) < 0 : dup2(fd, IPC_FD) < 0)
		_exit(1);
	execv("/proc/self/exe", (char **)(uintptr_t)argv);
	_exit(1);
}

struct err *role_spawn(enum role_kind kind, bool debug, pid_t *pid, int *fd)
{
	autoclose int ours = -1, theirs = -1;
	int pair[2];
	pid_t child;

	TRY(ipc_pair(pair));
	ours = pair[0];
	theirs = pair[1];
	child = fork();
	if (child < 0)
		return err_errno(errno, "start the role %s", roles[kind].name);
	if (child == 0)
		exec_role(&roles[kind], debug, theirs);
	*pid = child;
	*fd = take_fd(&ours);
	return NULL;
}
