// SPDX-License-Identifier: Apache-2.0
#include "roles/state.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "roles/aside.h"
#include "session/identity.h"

#define KEY_FILE   "identity.key"
#define NEXT_FILE  "identity.next"
#define PEERS_FILE "peers"
#define SEEN_FILE  "seen"
#define LOCK_FILE  "lock"
#define KEY_MAX    (4 << 10)

static char *join(struct arena *a, const char *dir, const char *name)
{
	return arena_printf(a, "%s/%s", dir, name);
}

static struct err *sync_parent(const char *path)
{
	autoarena struct arena *a = arena_new();
	autoclose int dir = -1;

	TRY(io_open(dirname(arena_strdup(a, path)), O_RDONLY | O_DIRECTORY, &dir));
	if (fsync(dir) < 0)
		return err_errno(errno, "write %s", path);
	return NULL;
}

static struct err *replace(const char *path, const char *text, mode_t mode, bool sync)
{
	autoarena struct arena *a = arena_new();
	const char *temp = arena_printf(a, "%s.new", path);
	autoclose int fd = -1;
	struct err *e;

	/* A left-over of a crash may have another mode. */
	if (unlink(temp) < 0 && errno != ENOENT)
		return err_errno(errno, "remove %s", temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return err_errno(errno, "create %s", temp);
	e = io_write_full(fd, text, strlen(text), temp);
	if (!e && ((sync && fsync(fd) < 0) || rename(temp, path) < 0))
		e = err_errno(errno, "write %s", path);
	if (e) {
		(void)unlink(temp);
		return e;
	}
	return sync ? sync_parent(path) : NULL;
}

struct err *state_write_file(const char *path, const char *text, mode_t mode)
{
	return replace(path, text, mode, true);
}

static struct err *lock(struct state *s, struct arena *a)
{
	const char *path = join(a, s->dir, LOCK_FILE);

	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return err_errno(errno, "open %s", path);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return NULL;
	if (errno == EWOULDBLOCK)
		return err_hint(err_new(ERR_LIMIT, "another migrated uses %s", s->dir),
			"give this one its own --state-dir and --control");
	return err_errno(errno, "lock %s", path);
}

/* ---- keys, each looked at or made by a process that ends: they leave copies in the heap ---- */

static struct err *read_key(void *path, void *fingerprint)
{
	autoarena struct arena *a = arena_new();
	autoidentity struct identity *id = NULL;
	char *pem;
	size_t len;

	TRY(io_read_file(a, path, KEY_MAX, &pem, &len));
	TRY_IN(identity_from_pem(pem, len, &id), "%s", (const char *)path);
	memcpy(fingerprint, id->fingerprint, FINGERPRINT_BYTES);
	return NULL;
}

static struct err *write_key(void *path, void *fingerprint)
{
	autoidentity struct identity *id = NULL;
	autofree char *pem = NULL;

	TRY(identity_new(&id));
	TRY(identity_to_pem(id, &pem));
	TRY(state_write_file(path, pem, 0600));
	memcpy(fingerprint, id->fingerprint, FINGERPRINT_BYTES);
	return NULL;
}

/* The fingerprint stays empty if there is no such file. */
static struct err *load_key(char *path, char fingerprint[FINGERPRINT_BYTES])
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOENT ? NULL : err_errno(errno, "stat %s", path);
	if (st.st_mode & 077)
		return err_hint(err_new(ERR_DENIED, "%s can be read by others", path),
			"chmod 600 it, or remove it to get a new key");
	return aside_run(read_key, path, fingerprint, FINGERPRINT_BYTES);
}

static struct err *make_key(char *path, char fingerprint[FINGERPRINT_BYTES])
{
	TRY(aside_run(write_key, path, fingerprint, FINGERPRINT_BYTES));
	log_info("identity made key=%s file=%s", fingerprint, path);
	return NULL;
}

static struct err *load_identity(struct state *s, struct arena *a)
{
	TRY(load_key(join(a, s->dir, KEY_FILE), s->fingerprint));
	TRY(load_key(join(a, s->dir, NEXT_FILE), s->next_fingerprint));
	if (s->fingerprint[0])
		return NULL;
	return make_key(join(a, s->dir, KEY_FILE), s->fingerprint);
}

struct err *state_key_fds(const struct state *s, int *key, int *next)
{
	autoarena struct arena *a = arena_new();

	TRY(io_open(join(a, s->dir, KEY_FILE), O_RDONLY | O_NOFOLLOW, key));
	if (!s->next_fingerprint[0])
		return NULL;
	return io_open(join(a, s->dir, NEXT_FILE), O_RDONLY | O_NOFOLLOW, next);
}

/* ---- our own key changes ---- */

struct err *state_rotate(struct state *s)
{
	autoarena struct arena *a = arena_new();

	if (s->next_fingerprint[0])
		return err_hint(err_new(ERR_INVALID, "the next key is there already: %s",
					s->next_fingerprint),
			"when all peers know it: migratectl identity retire");
	return make_key(join(a, s->dir, NEXT_FILE), s->next_fingerprint);
}

/* Whoever was last served under the next key has it in its list. */
static struct err *all_know_next(const struct state *s)
{
	autotext struct text left = { NULL, 0, 0 };

	for (size_t i = 0; i < s->peers.n; i++) {
		const struct seen_peer *p = seen_find(&s->seen, s->peers.v[i].name);

		if (!p || strcmp(p->own, s->next_fingerprint) != 0)
			text_addf(&left, "%s%s", left.len ? ", " : "", s->peers.v[i].name);
	}
	if (!left.len)
		return NULL;
	return err_hint(
		err_new(ERR_DENIED, "not seen to know the new key yet: %s", text_str(&left)),
		"on each of them: migratectl peer add NAME HOST %s; a check of any process by "
		"either "
		"side shows that it is known; --force if you are sure",
		s->next_fingerprint);
}

struct err *state_retire(struct state *s, bool force)
{
	autoarena struct arena *a = arena_new();
	const char *path = join(a, s->dir, KEY_FILE);

	if (!s->next_fingerprint[0])
		return err_hint(err_new(ERR_INVALID, "there is no next key"),
			"migratectl identity rotate makes one");
	if (!force)
		TRY(all_know_next(s));
	if (rename(join(a, s->dir, NEXT_FILE), path) < 0)
		return err_errno(errno, "write %s", path);
	log_info("identity retired key=%s now=%s", s->fingerprint, s->next_fingerprint);
	memcpy(s->fingerprint, s->next_fingerprint, FINGERPRINT_BYTES);
	s->next_fingerprint[0] = '\0';
	return sync_parent(path);
}

/* ---- who was seen ---- */

static void load_seen(struct state *s, struct arena *a)
{
	const char *path = join(a, s->dir, SEEN_FILE);
	autoerr struct err *e = NULL;
	char *text;

	if (access(path, F_OK) < 0)
		return;
	e = io_read_file(a, path, SEEN_TEXT_MAX, &text, NULL);
	if (!e) {
		seen_parse(&s->seen, text);
	} else {
		autofree char *line = err_line(e);

		log_warn("seen error=\"%s\"", line);
	}
}

struct err *state_save_seen(struct state *s)
{
	autoarena struct arena *a = arena_new();
	autofree char *text = NULL;

	seen_tidy(&s->seen, &s->peers);
	text = seen_text(&s->seen);
	return replace(join(a, s->dir, SEEN_FILE), text, 0600, false);
}

/* ---- peers ---- */

struct err *state_reload(struct state *s)
{
	autoarena struct arena *a = arena_new();
	const char *path = join(a, s->dir, PEERS_FILE);
	char *text;

	if (access(path, F_OK) < 0 && errno == ENOENT)
		return NULL;
	TRY(io_read_file(a, path, PEERS_TEXT_MAX, &text, NULL));
	TRY_IN(peers_parse(&s->peers, text), "%s", path);
	return NULL;
}

struct err *state_open(struct state *s, const char *dir)
{
	autoarena struct arena *a = arena_new();

	*s = (struct state){ .dir = xstrdup(dir), .lock_fd = -1 };
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_errno(errno, "make the state directory %s", dir);
	TRY(lock(s, a));
	TRY(load_identity(s, a));
	load_seen(s, a);
	return state_reload(s);
}

void state_fini(struct state *s)
{
	free(s->dir);
	fd_closep(&s->lock_fd);
	peers_fini(&s->peers);
	seen_fini(&s->seen);
}

/* Puts `next` in force once it is on disk. */
static struct err *commit(struct state *s, struct peers *next)
{
	autoarena struct arena *a = arena_new();
	autofree char *text = peers_text(next);

	TRY(state_write_file(join(a, s->dir, PEERS_FILE), text, 0644));
	peers_fini(&s->peers);
	s->peers = *next;
	*next = (struct peers){ NULL, 0 };
	return NULL;
}

static struct err *copy_peers(const struct state *s, struct peers *copy)
{
	autofree char *text = peers_text(&s->peers);

	return peers_parse(copy, text);
}

struct err *state_peer_add(
	struct state *s, const char *name, const char *host, const char *fingerprint)
{
	autopeers struct peers next = { NULL, 0 };

	TRY(copy_peers(s, &next));
	TRY(peers_add(&next, name, host, fingerprint));
	return commit(s, &next);
}

struct err *state_peer_remove(struct state *s, const char *name, const char *fingerprint)
{
	autopeers struct peers next = { NULL, 0 };

	TRY(copy_peers(s, &next));
	TRY(peers_remove(&next, name, fingerprint));
	return commit(s, &next);
}

static struct err *text_fd(const char *text, int *fd)
{
	autoclose int mem = memfd_create("peers", MFD_CLOEXEC);

	if (mem < 0)
		return err_errno(errno, "make an anonymous file");
	TRY(io_write_full(mem, text, strlen(text), "anonymous file"));
	if (lseek(mem, 0, SEEK_SET) < 0)
		return err_errno(errno, "rewind an anonymous file");
	*fd = take_fd(&mem);
	return NULL;
}

struct err *state_peers_fd(const struct state *s, int *fd)
{
	autofree char *text = peers_text(&s->peers);

	return text_fd(text, fd);
}

struct err *state_seen_fd(const struct state *s, int *fd)
{
	autofree char *text = seen_text(&s->seen);

	return text_fd(text, fd);
}
