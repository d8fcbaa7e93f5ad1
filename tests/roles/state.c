// SPDX-License-Identifier: Apache-2.0
/* The state directory: made once, kept over restarts, one daemon at a time; facts about processes.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "roles/migrations.h"
#include "roles/state.h"
#include "roles/subject.h"
#include "tests/tmp.h"

#define KEY_A "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define KEY_B "SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"
#define KEY   "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"

static char dir[64], sub[80];

static int setup(void **state unused_arg)
{
	if (!mkdtemp(tmp_template(dir, "state")))
		return -1;
	snprintf(sub, sizeof(sub), "%s/s", dir);
	return 0;
}

static int teardown(void **state unused_arg)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

static void assert_code(struct err *e, enum err_code code)
{
	assert_non_null(e);
	assert_int_equal(err_code(e), code);
	err_free(e);
}

static void kept(void **state unused_arg)
{
	char fingerprint[FINGERPRINT_BYTES], path[120];
	struct state s, second;
	struct stat st;

	assert_null(state_open(&s, sub));
	snprintf(fingerprint, sizeof(fingerprint), "%s", s.fingerprint);
	snprintf(path, sizeof(path), "%s/identity.key", sub);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_code(state_open(&second, sub), ERR_LIMIT);
	state_fini(&second);
	assert_null(state_peer_add(&s, "b", "10.0.0.1", KEY));
	assert_code(state_peer_add(&s, "b!", "10.0.0.1", KEY), ERR_INVALID);
	assert_code(state_peer_remove(&s, "c", NULL), ERR_INVALID);
	state_fini(&s);

	assert_null(state_open(&s, sub));
	assert_string_equal(s.fingerprint, fingerprint);
	assert_int_equal(s.peers.n, 1);
	assert_string_equal(s.peers.v[0].name, "b");
	assert_null(state_peer_remove(&s, "b", NULL));
	state_fini(&s);
	assert_null(state_open(&s, sub));
	assert_int_equal(s.peers.n, 0);
	state_fini(&s);

	assert_int_equal(chmod(path, 0644), 0);
	assert_code(state_open(&s, sub), ERR_DENIED);
	state_fini(&s);
	assert_int_equal(chmod(path, 0600), 0);
}

static void edited(void **state unused_arg)
{
	autoclose int fd = -1;
	autoarena struct arena *a = arena_new();
	char path[120], *text;
	struct state s;

	assert_null(state_open(&s, sub));
	assert_null(state_peer_add(&s, "b", "10.0.0.1", KEY));
	snprintf(path, sizeof(path), "%s/peers", sub);
	assert_null(state_write_file(path, "c h " KEY "\nd h2 " KEY_A " " KEY_B "\n", 0644));
	assert_null(state_reload(&s));
	assert_int_equal(s.peers.n, 2);
	assert_null(state_write_file(path, "nonsense\n", 0644));
	assert_code(state_reload(&s), ERR_INVALID);
	assert_int_equal(s.peers.n, 2);
	assert_null(state_peers_fd(&s, &fd));
	assert_null(io_read_fd(a, fd, 1 << 20, "peers", &text));
	assert_non_null(strstr(text, "\nd h2 " KEY_A " " KEY_B "\n"));
	state_fini(&s);
	assert_int_equal(unlink(path), 0);
}

/* A new key: both are there until the old one is destroyed, and that waits for the peers. */
static void rotated(void **state unused_arg)
{
	char old[FINGERPRINT_BYTES], new[FINGERPRINT_BYTES];
	struct state s;

	assert_null(state_open(&s, sub));
	snprintf(old, sizeof(old), "%s", s.fingerprint);
	assert_code(state_retire(&s, false), ERR_INVALID);
	assert_code(state_retire(&s, true), ERR_INVALID);
	assert_null(state_rotate(&s));
	snprintf(new, sizeof(new), "%s", s.next_fingerprint);
	assert_string_not_equal(old, new);
	assert_code(state_rotate(&s), ERR_INVALID);
	assert_null(state_peer_add(&s, "b", "10.0.0.1", KEY));
	assert_code(state_retire(&s, false), ERR_DENIED); /* never seen */
	seen_note(&s.seen, "b", 1, KEY, old);
	assert_code(state_retire(&s, false), ERR_DENIED); /* knew the old one */
	seen_note(&s.seen, "b", 2, KEY, new);
	seen_note(&s.seen, "gone", 2, KEY, new);
	assert_null(state_save_seen(&s));
	state_fini(&s);
	assert_null(state_open(&s, sub));
	assert_string_equal(s.fingerprint, old);
	assert_string_equal(s.next_fingerprint, new);
	assert_int_equal(seen_find(&s.seen, "b")->when_s, 2);
	assert_null(seen_find(&s.seen, "gone"));
	assert_null(state_retire(&s, false));
	assert_string_equal(s.next_fingerprint, "");
	assert_string_equal(s.fingerprint, new);
	state_fini(&s);
	assert_null(state_open(&s, sub));
	assert_string_equal(s.next_fingerprint, "");
	assert_string_equal(s.fingerprint, new);
	assert_null(state_rotate(&s));
	assert_null(state_peer_add(&s, "c", "10.0.0.2", KEY_B));
	assert_code(state_retire(&s, false), ERR_DENIED);
	assert_null(state_retire(&s, true));
	assert_null(state_peer_remove(&s, "c", NULL));
	assert_null(state_peer_remove(&s, "b", NULL));
	state_fini(&s);
}

static void seen_lines(void **state unused_arg)
{
	struct seen s = { NULL, 0 };
	autofree char *text = NULL;

	seen_parse(&s,
		"a 5 " KEY_A " " KEY_B "\n\nhalf 7 " KEY_A "\nx y " KEY_A " " KEY_B "\nz 1 k o\n"
		"b 6 " KEY_B " " KEY_A);
	assert_int_equal(s.n, 2);
	assert_string_equal(seen_find(&s, "b")->own, KEY_A);
	text = seen_text(&s);
	assert_string_equal(text, "a 5 " KEY_A " " KEY_B "\nb 6 " KEY_B " " KEY_A "\n");
	seen_fini(&s);
}

static void processes(void **state unused_arg)
{
	AUTO(subject_fini) struct subject s = { .pid = 0 };
	pid_t pid;

	assert_null(subject_read(getpid(), &s));
	assert_true(s.ours); /* the same executable */
	assert_false(s.kernel_thread);
	assert_true(s.rights.n_uids == 4 && s.rights.n_gids >= 4);
	assert_int_equal(s.rights.uids[1], geteuid());
	assert_int_equal(s.rights.gids[1], getegid());
	subject_fini(&s);
	assert_code(subject_read(0, &s), ERR_INVALID);
	assert_code(subject_read(-5, &s), ERR_INVALID);
	assert_code(subject_read(INT32_MAX, &s), ERR_GONE);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)pid, NULL, WEXITED | WNOWAIT), 0);
	assert_null(subject_read(pid, &s));
	assert_true(s.zombie);
	subject_fini(&s);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_code(subject_read(pid, &s), ERR_GONE);
}

static void who_asks(void **state unused_arg)
{
	AUTO(asker_fini) struct asker who = { .uid = 1 };
	gid_t groups[1000];
	int fds[2], n = getgroups(ARRAY_LEN(groups), groups);

	assert_true(n >= 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_null(asker_read(fds[0], &who));
	assert_int_equal(who.uid, geteuid());
	assert_int_equal(who.gid, getegid());
	assert_int_equal(who.pid, getpid());
	assert_int_equal(who.n_groups, n);
	for (int i = 0; i < n; i++)
		assert_int_equal(who.groups[i], groups[i]);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(pipe(fds), 0);
	assert_code(asker_read(fds[0], &who), ERR_KERNEL);
	close(fds[0]);
	close(fds[1]);
}

static Migrate__Progress *progress(const char *id, const char *side)
{
	Migrate__Progress *p = calloc(1, sizeof(*p));

	migrate__progress__init(p);
	p->id = strdup(id);
	p->side = strdup(side);
	return p;
}

static Migrate__Done *done(const char *id, const char *side, const char *outcome)
{
	Migrate__Done *d = calloc(1, sizeof(*d));

	migrate__done__init(d);
	d->last = progress(id, side);
	d->outcome = strdup(outcome);
	return d;
}

static void listing(void **state unused_arg)
{
	struct migrations ms = { NULL, 0, 0 };
	char id[16];

	migrations_progress(&ms, progress("a", "source"));
	migrations_progress(&ms, progress("a", "destination"));
	migrations_progress(&ms, progress("a", "source"));
	assert_int_equal(ms.n, 2);
	assert_string_equal(migrations_find(&ms, "a", "source")->side, "source");
	migrations_done(&ms, done("a", "source", "moved"));
	assert_non_null(migrations_find(&ms, "a", "source")->done);
	assert_null(migrations_find(&ms, "a", "destination")->done);
	migrations_done(&ms, done("check", "source", "movable"));
	assert_null(migrations_find(&ms, "check", NULL));
	for (int i = 0; i < 200; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		migrations_progress(&ms, progress(id, "source"));
		migrations_done(&ms, done(id, "source", "kept"));
	}
	assert_int_equal(ms.n_ended, MIGRATIONS_ENDED_MAX);
	assert_int_equal(ms.n, MIGRATIONS_ENDED_MAX + 1);
	assert_string_equal(migrations_latest(&ms)->id, "m199");
	assert_null(migrations_find(&ms, "a", "source"));
	assert_non_null(migrations_find(&ms, "a", "destination"));
	migrations_fini(&ms);
	assert_int_equal(ms.n, 0);
	assert_code(migrations_unknown(""), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kept),
		cmocka_unit_test(edited),
		cmocka_unit_test(rotated),
		cmocka_unit_test(seen_lines),
		cmocka_unit_test(processes),
		cmocka_unit_test(who_asks),
		cmocka_unit_test(listing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
