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

#define KEY_FILE   "identity.key"
#define PEERS_FILE "peers"
#define LOCK_FILE  "lock"
#define KEY_MAX    (64 << 10)

static char *join(struct arena *a, const char *dir, const char *name)
{
	return arena_printf(a, "%s/%s", dir, name);
}

struct err *state_write_file(const char *path, const char *text, mode_t mode)
{
	autoarena struct arena *a = arena_new();
	const char *temp = arena_printf(a, "%s.new", path);
	autoclose int fd = -1, dir = -1;
	struct err *e;

	/* A left-over of a crash may have another mode. */
	if (unlink(temp) < 0 && errno != ENOENT)
		return err_errno(errno, "remove %s", temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return err_errno(errno, "create %s", temp);
	e = io_write_full(fd, text, strlen(text), temp);
	if (!e && (fsync(fd) < 0 || rename(temp, path) < 0))
		e = err_errno(errno, "write %s", path);
	if (e) {
		(void)unlink(temp);
		return e;
	}
	TRY(io_open(dirname(arena_strdup(a, path)), O_RDONLY | O_DIRECTORY, &dir));
	if (fsync(dir) < 0)
		return err_errno(errno, "write %s", path);
	return NULL;
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

static struct err *load_identity(struct state *s, struct arena *a)
{
	const char *path = join(a, s->dir, KEY_FILE);
	autofree char *fresh = NULL;
	struct stat st;
	char *pem;
	size_t len;

	if (stat(path, &st) == 0) {
		if (st.st_mode & 077)
			return err_hint(err_new(ERR_DENIED, "%s can be read by others", path),
				"chmod 600 it, or remove it to get a new key");
		TRY(io_read_file(a, path, KEY_MAX, &pem, &len));
		TRY_IN(identity_from_pem(pem, len, &s->identity), "%s", path);
		explicit_bzero(pem, len);
		return NULL;
	}
	if (errno != ENOENT)
		return err_errno(errno, "stat %s", path);
	TRY(identity_new(&s->identity));
	TRY(identity_to_pem(s->identity, &fresh));
	TRY(state_write_file(path, fresh, 0600));
	explicit_bzero(fresh, strlen(fresh));
	log_info("identity made key=%s file=%s", s->identity->fingerprint, path);
	return NULL;
}

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
	return state_reload(s);
}

void state_fini(struct state *s)
{
	free(s->dir);
	fd_closep(&s->lock_fd);
	identity_free(s->identity);
	peers_fini(&s->peers);
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

struct err *state_peer_remove(struct state *s, const char *name)
{
	autopeers struct peers next = { NULL, 0 };

	TRY(copy_peers(s, &next));
	TRY(peers_remove(&next, name));
	return commit(s, &next);
}

struct err *state_peers_fd(const struct state *s, int *fd)
{
	autofree char *text = peers_text(&s->peers);
	autoclose int mem = memfd_create("peers", MFD_CLOEXEC);

	if (mem < 0)
		return err_errno(errno, "make an anonymous file");
	TRY(io_write_full(mem, text, strlen(text), "anonymous file"));
	if (lseek(mem, 0, SEEK_SET) < 0)
		return err_errno(errno, "rewind an anonymous file");
	*fd = take_fd(&mem);
	return NULL;
}
