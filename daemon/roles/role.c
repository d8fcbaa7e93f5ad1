// SPDX-License-Identifier: Apache-2.0
#include "roles/role.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "kernel/confine.h"
#include "roles/inherit.h"
#include "roles/ipc.h"
#include "roles/names.h"
#include "session/ossl.h"

#define USERS_MAX 3

struct ids {
	char name[64];
	uid_t uid;
	gid_t gid;
};

static struct err *prepare_net(const struct ids *who);

static const struct role {
	const char *name, *process;
	int (*main)(void);
	const char *users[USERS_MAX]; /* the first that exists; none: it stays root, unconfined */
	enum confine_list calls;
	int spaces;                                    /* that are its own, besides an empty root */
	struct err *(*prepare)(const struct ids *who); /* what needs files */
} roles[ROLE_COUNT] = {
	[ROLE_CONTROL] = { "control", "migrated-ctl", control_main, { "migrated", "nobody" },
		CONFINE_CONTROL, CLONE_NEWNET, NULL },
	[ROLE_NET] = { "net", "migrated-net", net_main, { "migrated-net", "migrated", "nobody" },
		CONFINE_NET, 0, prepare_net },
	[ROLE_WORKER] = { .name = "worker", .process = "migrated-worker", .main = worker_main },
	[ROLE_HOOKS] = { .name = "hooks", .process = "migrated-hooks", .main = hooks_main },
};

const char *role_name(enum role_kind kind)
{
	return roles[kind].name;
}

static struct err *find_user(const struct role *r, struct ids *ret)
{
	const struct passwd *pw = NULL;

	for (size_t i = 0; i < USERS_MAX && r->users[i] && !pw; i++)
		pw = getpwnam(r->users[i]);
	if (!pw)
		return err_hint(
			err_new(ERR_KERNEL, "no user %s on this host, nor nobody", r->users[0]),
			"add a system user %s", r->users[0]);
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		return err_new(ERR_INVALID, "user %s is root", pw->pw_name);
	if (strcmp(pw->pw_name, r->users[0]) != 0)
		log_warn("user=%s missing=%s try=\"adduser --system --group %s\"", pw->pw_name,
			r->users[0], r->users[0]);
	*ret = (struct ids){ .uid = pw->pw_uid, .gid = pw->pw_gid };
	snprintf(ret->name, sizeof(ret->name), "%s", pw->pw_name);
	return NULL;
}

/* Capabilities stay when the user changes: giving them up takes some. Not dumpable: two roles may
 * have one user, and net holds the private key. */
static struct err *lower(const struct ids *who)
{
	const struct rlimit no_core = { 0, 0 };

	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0 ||
		setgroups(0, NULL) < 0 || setresgid(who->gid, who->gid, who->gid) < 0 ||
		setresuid(who->uid, who->uid, who->uid) < 0)
		return err_errno(errno, "become user %s", who->name);
	TRY(confine_capabilities(0));
	TRY(confine_memory());
	if (setrlimit(RLIMIT_CORE, &no_core) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(errno, "confine the role");
	return NULL;
}

static struct err *lower_names(const void *who)
{
	return lower(who);
}

static struct err *prepare_net(const struct ids *who)
{
	TRY(names_start(lower_names, who));
	return ossl_prepare();
}

/* Users are looked up while there are files; the root goes while there are capabilities. Without a
 * zone that it has seen, libc looks for the host's in a file whenever a time is converted, as
 * OpenSSL has it do for certificates. */
static struct err *confine(const struct role *r)
{
	struct ids who;

	TRY(find_user(r, &who));
	(void)setenv("TZ", "UTC0", 1);
	tzset();
	if (r->prepare)
		TRY(r->prepare(&who));
	TRY(confine_root(r->spaces));
	TRY(lower(&who));
	return confine_calls(r->calls);
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
	if (r->users[0])
		return confine(r);
	inherit_nothing();
	return confine_memory();
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
