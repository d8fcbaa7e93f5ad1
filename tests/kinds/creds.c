// SPDX-License-Identifier: Apache-2.0
/*
 * Credentials, each thread its own (the kernel has them per thread; libc hides that): ids, groups,
 * capability sets, ambient and bounding, securebits, no_new_privs, and what they reset: dumpable
 * and the death signal. Compared as the kernel's own text.
 */
#include "subject.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define THREADS 3

static atomic_int ready, go;

struct state {
	char text[4096];
	long securebits, death, personality;
};

/* The lines of status that are about credentials. */
static void look(struct state *s)
{
	static const char *const names[] = { "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:",
		"CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:" };
	FILE *f = fopen("/proc/thread-self/status", "re");
	int death = 0;
	char line[2048];

	CHECK(f != NULL);
	memset(s, 0, sizeof(*s));
	while (fgets(line, sizeof(line), f))
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (strncmp(line, names[i], strlen(names[i])) == 0 &&
				strlen(s->text) + strlen(line) < sizeof(s->text))
				strcat(s->text, line);
	fclose(f);
	s->securebits = prctl(PR_GET_SECUREBITS);
	CHECK(prctl(PR_GET_PDEATHSIG, &death) == 0);
	s->death = death;
	s->personality = syscall(SYS_personality, 0xffffffff);
}

static void wait_and_check(void)
{
	struct state before, after;

	look(&before);
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&go))
		subject_sleep_ms(1);
	look(&after);
	if (strcmp(before.text, after.text) != 0)
		dprintf(1, "before:\n%safter:\n%s", before.text, after.text);
	CHECK(strcmp(before.text, after.text) == 0);
	CHECK(before.securebits == after.securebits);
	CHECK(before.death == after.death);
	CHECK(before.personality == after.personality);
}

static void set_caps(uint32_t effective, uint32_t permitted, uint32_t inheritable)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { effective, permitted, inheritable }, { 0 } };

	CHECK(syscall(SYS_capset, &head, data) == 0);
}

static void set_ids(unsigned id)
{
	unsigned groups[] = { 7, 8, id };

	CHECK(syscall(SYS_setgroups, 3, groups) == 0);
	CHECK(syscall(SYS_setresgid, id, id + 1, id + 2) == 0);
	CHECK(syscall(SYS_setresuid, id, id + 1, id + 2) == 0);
}

/* A plain user. */
static void *user(void *arg)
{
	set_ids(12345);
	CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
	wait_and_check();
	return arg;
}

/* Not root, with some capabilities, one of them ambient, and reduced for ever. */
static void *capable(void *arg)
{
	uint32_t chown = 1u << CAP_CHOWN, kill = 1u << CAP_KILL, nice = 1u << CAP_SYS_NICE;
	uint32_t pcap = 1u << CAP_SETPCAP;

	CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0);
	set_ids(2000);
	set_caps(chown | kill | pcap, chown | kill | nice | pcap, kill | nice);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0);
	CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE) == 0);
	CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_NICE) == 0);
	CHECK(prctl(PR_SET_SECUREBITS,
		      SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NOROOT | SECBIT_NOROOT_LOCKED) == 0);
	set_caps(chown, chown | kill, kill | nice);
	CHECK(syscall(SYS_setfsuid, 2002) >= 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	wait_and_check();
	return arg;
}

/* Still root, but for its file system ids. */
static void *server(void *arg)
{
	CHECK(syscall(SYS_setfsgid, 3000) >= 0);
	CHECK(syscall(SYS_setfsuid, 3000) >= 0);
	CHECK(syscall(SYS_personality, 0x0040000) >= 0); /* ADDR_NO_RANDOMIZE */
	wait_and_check();
	return arg;
}

int main(void)
{
	void *(*const bodies[THREADS])(void *) = { user, capable, server };
	struct state before, after;
	pthread_t t[THREADS];
	int reaper = 0;

	if (geteuid() != 0)
		SKIP("needs root");
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, bodies[i], NULL) == 0);
	while (atomic_load(&ready) < THREADS)
		subject_sleep_ms(1);
	CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
	look(&before);
	subject_wait_moved();
	look(&after);
	CHECK(strcmp(before.text, after.text) == 0);
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
	CHECK(prctl(PR_GET_CHILD_SUBREAPER, &reaper) == 0 && reaper == 1);
	CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
	atomic_store(&go, 1);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	return subject_ok();
}
