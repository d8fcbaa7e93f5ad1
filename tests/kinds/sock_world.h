/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of this very process, captured, closed, made again and compared, without an engine: this
 * program is what kinds call (capture_*, rebuild_*), and plays the rebuilt process too, so remote
 * calls are plain ones. In a network and mount namespace of its own; needs root.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kinds/kind.h"

extern const struct kind kind_socket;

#define OBJECTS_MAX 8

struct capture_priv {
	struct object objects[OBJECTS_MAX];
	size_t n;
	int home;
	char text[2000]; /* refusals and warnings */
};

struct rebuild_priv {
	uint64_t group;
	int stash[4];
	char warned[200];
};

struct world {
	struct arena *arena;
	struct task task;
	struct proc_stat stat;
	struct file_table files;
	struct capture_priv cp;
	struct rebuild_priv rp;
	struct capture c;
	struct pids inside;
	struct rebuild r;
	char dir[64], scratch_dir[80];
};

void ok(struct err *e);
void has(const char *text, const char *part);
/* The error must contain `part`; takes e. */
void refused(struct err *e, const char *part);
int setup(void **state);
int teardown(void **state);
struct err *capture_fd(struct world *w, int fd, struct object **ret);
/* check, rebuild, install at its number. */
void rebuild_fd(struct world *w, const struct object *o);
void finish_fd(struct world *w, const struct object *o);
/* Moves n descriptors; captured again, every body must be the same. */
void move(struct world *w, const int *fds, size_t n);
void move1(struct world *w, int fd);
void set_int(int fd, int level, int name, int v);
int get_int(int fd, int level, int name);
/* In namespaces of its own, with lo up and a private /run; the exit status of the program. */
int sock_tests(const struct CMUnitTest *tests, size_t n);
#define SOCK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
