// SPDX-License-Identifier: Apache-2.0
/*
 * A target without libFuzzer: every file of the folders (or single files) that are named is one
 * input. An input that takes longer than SECONDS ends the run, as a crash does; the last name on
 * standard error is the guilty one.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "fuzz.h"

#define SECONDS     60
#define INPUT_BYTES (1u << 20)

struct input {
	const char *name;
	char *bytes;
	size_t n;
};

struct inputs {
	struct arena *a;
	struct input *v;
	size_t n, cap;
};

static void add_file(struct inputs *in, const char *path)
{
	struct input i = { .name = arena_strdup(in->a, path) };
	struct err *e = io_read_file(in->a, path, INPUT_BYTES, &i.bytes, &i.n);

	if (e) {
		fprintf(stderr, "%s: %s\n", path, err_line(e));
		exit(1);
	}
	in->v = arena_grow(in->a, in->v, &in->cap, in->n + 1, sizeof(*in->v));
	in->v[in->n++] = i;
}

static void add(struct inputs *in, const char *path)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);

	if (n < 0 && errno == ENOTDIR) {
		add_file(in, path);
		return;
	}
	if (n < 0) {
		perror(path);
		exit(1);
	}
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.')
			add_file(in, arena_printf(in->a, "%s/%s", path, names[i]->d_name));
		free(names[i]);
	}
	free(names);
}

static void run(const struct input *i)
{
	/* A copy of exactly this size: a sanitizer sees what is read behind it. */
	uint8_t *copy = xcalloc(1, MAX(i->n, (size_t)1));

	memcpy(copy, i->bytes, i->n);
	alarm(SECONDS);
	(void)fuzz_one(copy, i->n);
	alarm(0);
	free(copy);
}

int main(int argc, char **argv)
{
	struct inputs in = { .a = arena_new() };
	const char *why;

	signal(SIGPIPE, SIG_IGN);
	for (int i = 1; i < argc; i++)
		add(&in, argv[i]);
	if (!in.n) {
		fprintf(stderr, "no input\n");
		return 1;
	}
	why = fuzz_prepare();
	if (why) {
		puts(why);
		return 77;
	}
	for (size_t i = 0; i < in.n; i++) {
		fprintf(stderr, "%s\n", in.v[i].name);
		run(&in.v[i]);
	}
	printf("%zu inputs\n", in.n);
	arena_free(in.a);
	return 0;
}
