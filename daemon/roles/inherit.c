// SPDX-License-Identifier: Apache-2.0
/*
 * Each of these is best effort: inside a container some cannot be changed, and then they are not
 * ours, but of all processes there. What must not be wrong is looked at again by the kinds, which
 * refuse (kinds/creds.c).
 */
#include "roles/inherit.h"

#include <linux/ioprio.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "kernel/proc.h"

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* Linux 6.4 */
#endif

#define TIMER_SLACK_NS 50000 /* as process 1 has; 0 would mean that of whoever started us */
#define CPUS_BYTES     1024

static const struct {
	const char *path, *text;
} files[] = {
	{ "/proc/self/oom_score_adj", "0\n" }, { "/proc/self/coredump_filter", "0x33\n" },
	{ "/proc/self/loginuid", "4294967295\n" }, /* of nobody: it must not be who started us */
};

static const struct {
	int option;
	unsigned long value;
} options[] = {
	{ PR_SET_TIMERSLACK, TIMER_SLACK_NS },
	{ PR_SET_SECUREBITS, 0 },
	{ PR_SET_THP_DISABLE, 0 },
	{ PR_SET_MEMORY_MERGE, 0 },
	{ PR_SET_IO_FLUSHER, 0 },
	{ PR_SET_TSC, PR_TSC_ENABLE },
	{ PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL },
};

static void be_scheduled_as_usual(void)
{
	const struct sched_param none = { .sched_priority = 0 };
	uint8_t all[CPUS_BYTES];

	memset(all, 0xff, sizeof(all));
	(void)sched_setscheduler(0, SCHED_OTHER, &none);
	(void)setpriority(PRIO_PROCESS, 0, 0);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
	(void)syscall(SYS_sched_setaffinity, 0, sizeof(all), all);
	(void)syscall(SYS_set_mempolicy, 0 /* MPOL_DEFAULT */, NULL, 0);
}

void inherit_nothing(void)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		err_free(io_write_file(files[i].path, files[i].text));
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		(void)prctl(options[i].option, options[i].value, 0, 0, 0);
	(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0);
	(void)personality(PER_LINUX);
	be_scheduled_as_usual();
	(void)clearenv();
	umask(022);
}

/* A subreaper would become the parent of all that comes here, and does not wait for them. */
void inherit_begin(void)
{
	autoarena struct arena *a = arena_new();
	struct proc_status own;
	autoerr struct err *e = proc_status(a, getpid(), 0, &own);

	(void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	if (!e && (own.no_new_privs || own.seccomp))
		log_warn("inherit no_new_privs=%u seccomp=%u: a process that comes here would have "
			 "it for ever, so none can; see migrated(8)",
			own.no_new_privs, own.seccomp);
}
