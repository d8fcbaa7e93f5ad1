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

#define KEY "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"

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
	snprintf(fingerprint, sizeof(fingerprint), "%s", s.identity->fingerprint);
	snprintf(path, sizeof(path), "%s/identity.key", sub);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_code(state_open(&second, sub), ERR_LIMIT);
	state_fini(&second);
	assert_null(state_peer_add(&s, "b", "10.0.0.1", KEY));
	assert_code(state_peer_add(&s, "b!", "10.0.0.1", KEY), ERR_INVALID);
	assert_code(state_peer_remove(&s, "c"), ERR_INVALID);
	state_fini(&s);

	assert_null(state_open(&s, sub));
	assert_string_equal(s.identity->fingerprint, fingerprint);
	assert_int_equal(s.peers.n, 1);
	assert_string_equal(s.peers.v[0].name, "b");
	assert_null(state_peer_remove(&s, "b"));
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
	assert_null(state_write_file(path, "c h " KEY "\nd h2 " KEY "\n", 0644));
	assert_null(state_reload(&s));
	assert_int_equal(s.peers.n, 2);
	assert_null(state_write_file(path, "nonsense\n", 0644));
	assert_code(state_reload(&s), ERR_INVALID);
	assert_int_equal(s.peers.n, 2);
	assert_null(state_peers_fd(&s, &fd));
	assert_null(io_read_fd(a, fd, 1 << 20, "peers", &text));
	assert_non_null(strstr(text, "\nd h2 " KEY "\n"));
	state_fini(&s);
	assert_int_equal(unlink(path), 0);
}

static void processes(void **state unused_arg)
{
	struct subject s;
	pid_t pid;

	assert_null(subject_read(getpid(), &s));
	assert_true(s.ours); /* the same executable */
	assert_false(s.kernel_thread);
	assert_int_equal(s.uids[1], geteuid());
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
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_code(subject_read(pid, &s), ERR_GONE);
}

static void who_asks(void **state unused_arg)
{
	uint32_t uid;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_null(asker_uid(fds[0], &uid));
	assert_int_equal(uid, geteuid());
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(pipe(fds), 0);
	assert_code(asker_uid(fds[0], &uid), ERR_KERNEL);
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
		cmocka_unit_test(processes),
		cmocka_unit_test(who_asks),
		cmocka_unit_test(listing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
