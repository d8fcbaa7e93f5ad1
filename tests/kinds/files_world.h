/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors of a child, captured and made again in the test program, which is what kinds call
 * (capture_*, rebuild_*) instead of an engine. What needs remote calls is left to the subjects.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kinds/cache.h"
#include "kinds/files.h"
#include "kinds/kind.h"

#define FILES_OBJECTS_MAX 32

struct capture_priv {
	const struct kind *kind;
	struct object objects[FILES_OBJECTS_MAX];
	size_t n;
	int home;
	struct err *refused;
};

struct rebuild_priv {
	uint64_t group[8];
	int stash[8][4];
	size_t n;
	int space;
};

struct fixture {
	struct arena *arena;
	struct kind_cache *cache;
	struct task task;
	struct file_table files;
	struct capture_priv cp;
	struct rebuild_priv rp;
	struct capture c;
	struct pids inside;
	struct rebuild r;
	char dir[64];
};

/* Fails the test with the error's text. */
void ok(struct err *e);
/* The error must contain `text`; takes e. */
void refused(struct err *e, const char *text);
/* Reads the child's descriptor table again. */
void look(struct fixture *f);
/* `make` runs in the child, which then sleeps until child_end. */
void child_start(struct fixture *f, void (*make)(const char *dir));
/* Ends the child and frees everything. */
void child_end(struct fixture *f);
/* What its kind captures of a descriptor; *ret is NULL when it emitted nothing. */
struct err *capture_number(struct fixture *f, int number, struct object **ret);
/* Checks and makes it, as a descriptor of ours. */
struct err *rebuild_object(struct fixture *f, const struct object *o, int *fd);
/* The kernel's text, but for what cannot be equal. Lives in the arena. */
char *stable_fdinfo(struct fixture *f, pid_t pid, int fd);
/* Captures, makes again, compares the text; a descriptor of ours. */
int round_trip(struct fixture *f, int number);
