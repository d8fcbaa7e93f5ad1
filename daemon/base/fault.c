// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/fault_map.h"

#define NAP_NS     200000
#define WAIT_NAPS  600000 /* two minutes: the test that armed it is gone */
#define LOCK_TRIES 2000   /* longer than anybody holds it: its holder was killed */

static struct {
	struct fault_map *map;
	char role[16];
} here;

struct fault_map *fault_map(void)
{
	return here.map;
}

/* With what fault_calls.c looks at descriptors by. Only builds with fault points allow this.
 * @calls base: nanosleep kill[1=SIGKILL] readlink newfstatat fstat */
static void nap(void)
{
	const struct timespec t = { 0, NAP_NS };

	(void)nanosleep(&t, NULL);
}

/* Whose role this is says the command line: `migrated --role NAME`. */
static void find_role(void)
{
	char buf[256] = "";
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);
	const char *arg = buf;

	snprintf(here.role, sizeof(here.role), "monitor");
	for (; n > 0 && arg < buf + n && strcmp(arg, "--role") != 0; arg += strlen(arg) + 1)
		;
	if (n > 0 && arg + sizeof("--role") < buf + n)
		snprintf(here.role, sizeof(here.role), "%.15s", arg + sizeof("--role"));
	if (fd >= 0)
		close(fd);
}

/* Before main(): later the role may not open files, and has no environment. */
__attribute__((constructor)) static void map_faults(void)
{
	const char *path = getenv("MIGRATED_FAULTS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	struct fault_map *m;

	if (fd < 0)
		return;
	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (m == MAP_FAILED)
		return;
	if (m->magic != FAULT_MAGIC || m->slot_bytes != sizeof(struct fault_slot) ||
		m->seen_bytes != sizeof(struct fault_seen) ||
		m->file_bytes != sizeof(struct fault_file)) {
		fprintf(stderr, "MIGRATED_FAULTS: %s has another layout\n", path);
		abort();
	}
	find_role();
	here.map = m;
}

void fault_lock(struct fault_map *m)
{
	uint32_t none = 0;

	for (int i = 0; i < LOCK_TRIES; i++, none = 0) {
		if (__atomic_compare_exchange_n(
			    &m->lock, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
		nap();
	}
}

void fault_unlock(struct fault_map *m)
{
	__atomic_store_n(&m->lock, 0, __ATOMIC_RELEASE);
}

static struct fault_seen *find_seen(struct fault_map *m, const char *name)
{
	for (size_t i = 0; i < FAULT_SEEN; i++) {
		struct fault_seen *s = &m->seen[i];

		if (__atomic_load_n(&s->used, __ATOMIC_ACQUIRE) && strcmp(s->name, name) == 0 &&
			strcmp(s->role, here.role) == 0)
			return s;
	}
	return NULL;
}

static void note(struct fault_map *m, const char *name)
{
	struct fault_seen *s = find_seen(m, name);

	if (!s) {
		fault_lock(m);
		s = find_seen(m, name);
		for (size_t i = 0; !s && i < FAULT_SEEN; i++) {
			if (m->seen[i].used)
				continue;
			s = &m->seen[i];
			snprintf(s->name, sizeof(s->name), "%s", name);
			snprintf(s->role, sizeof(s->role), "%s", here.role);
			__atomic_store_n(&s->used, 1, __ATOMIC_RELEASE);
		}
		fault_unlock(m);
	}
	if (s)
		__atomic_add_fetch(&s->count, 1, __ATOMIC_RELAXED);
	else
		m->broken = 1;
}

static bool matches(const struct fault_slot *s, const char *name, const char *path)
{
	return strcmp(s->name, name) == 0 && (!s->role[0] || strcmp(s->role, here.role) == 0) &&
	       (!s->path[0] || (path && strstr(path, s->path)));
}

static void wait_here(struct fault_slot *s)
{
	__atomic_store_n(&s->reached, (uint32_t)getpid(), __ATOMIC_RELEASE);
	for (int i = 0; i < WAIT_NAPS && !__atomic_load_n(&s->go, __ATOMIC_ACQUIRE); i++)
		nap();
}

static int act(struct fault_slot *s, uint32_t action)
{
	uint32_t hit = __atomic_fetch_add(&s->hits, 1, __ATOMIC_ACQ_REL);

	if (hit < s->skip || (s->times && hit - s->skip >= s->times))
		return 0;
	if (action == FAULT_FAIL)
		return (int)s->error;
	if (action == FAULT_DIE)
		(void)kill(getpid(), SIGKILL);
	else
		wait_here(s);
	return 0;
}

bool fault_armed(const char *name)
{
	const struct fault_map *m = here.map;

	for (size_t i = 0; m && i < FAULT_SLOTS; i++)
		if (__atomic_load_n(&m->slots[i].action, __ATOMIC_ACQUIRE) != FAULT_NONE &&
			strcmp(m->slots[i].name, name) == 0)
			return true;
	return false;
}

int fault_consult(const char *name, const char *path)
{
	struct fault_map *m = here.map;
	int error = 0;

	for (size_t i = 0; m && !error && i < FAULT_SLOTS; i++) {
		uint32_t action = __atomic_load_n(&m->slots[i].action, __ATOMIC_ACQUIRE);

		if (action != FAULT_NONE && matches(&m->slots[i], name, path))
			error = act(&m->slots[i], action);
	}
	return error;
}

void fault_point(const char *scope, const char *name)
{
	char whole[FAULT_NAME_BYTES];
	int saved = errno;

	if (!here.map)
		return;
	snprintf(whole, sizeof(whole), "%s%s%s", scope ? scope : "", scope ? "." : "", name);
	note(here.map, whole);
	(void)fault_consult(whole, NULL);
	errno = saved;
}
