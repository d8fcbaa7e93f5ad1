// SPDX-License-Identifier: Apache-2.0
/* Heap that grows and shrinks, arguments, environment, auxiliary vector, executable, THP switch. */
#include <elf.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include "vmas.h"

struct text {
	char s[65536];
	ssize_t n;
};

static struct text cmdline[2], environ_text[2], auxv[2];
static char exe[2][4096];

static void read_file(const char *name, struct text *t)
{
	int fd = open(name, O_RDONLY);

	CHECK(fd >= 0);
	t->n = read(fd, t->s, sizeof(t->s));
	CHECK(t->n >= 0);
	close(fd);
}

static void look(int i)
{
	read_file("/proc/self/cmdline", &cmdline[i]);
	read_file("/proc/self/environ", &environ_text[i]);
	read_file("/proc/self/auxv", &auxv[i]);
	CHECK(readlink("/proc/self/exe", exe[i], sizeof(exe[i]) - 1) > 0);
}

static void same(const struct text *a, const struct text *b)
{
	CHECK(a->n == b->n && !memcmp(a->s, b->s, (size_t)a->n));
}

int main(int argc, char **argv)
{
	char *grown, *end;

	if (argc == 1) {
		char *const args[] = { argv[0], (char[]){ "one" }, (char[]){ "two words" }, NULL };

		setenv("SUBJECT", "was here", 1);
		execv("/proc/self/exe", args);
		CHECK(0);
	}
	vmas_early();
	grown = sbrk(40 * (intptr_t)PAGE);
	CHECK(grown != (char *)-1);
	fill(grown + 8, 39 * PAGE, 3);
	CHECK(sbrk(-3) != (void *)-1);
	end = sbrk(0);
	look(0);
	subject_wait_moved();
	look(1);
	same(&cmdline[0], &cmdline[1]);
	same(&environ_text[0], &environ_text[1]);
	same(&auxv[0], &auxv[1]);
	CHECK(!strcmp(exe[0], exe[1]));
	CHECK(argc == 3 && !strcmp(argv[2], "two words") && !strcmp(getenv("SUBJECT"), "was here"));
	CHECK(getauxval(AT_PAGESZ) == PAGE);
	check_filled(grown + 8, 39 * PAGE, 3);
	CHECK(sbrk(0) == end);
	CHECK(sbrk(300 * (intptr_t)PAGE) == end);
	fill(end + 8, 200 * PAGE, 4);
	CHECK(sbrk(-330 * (intptr_t)PAGE) != (void *)-1);
	check_filled(grown + 8, 5 * PAGE, 3);
	return subject_ok();
}
