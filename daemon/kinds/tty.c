// SPDX-License-Identifier: Apache-2.0
/*
 * Terminals that have been hung up: slaves of a pty whose master is closed, as a program has them
 * that outlived the window or the ssh(1) it was started from. Nothing is left of such a terminal
 * but that reading finds the end of the file, and all else fails by EIO. The kernel makes one when
 * a master is closed, so that is how it is made there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "base/io.h"
#include "kinds/kind.h"
#include "tty.pb-c.h"

/* Slaves of /dev/pts: Documentation/admin-guide/devices.txt. */
#define PTY_MAJOR_FIRST 136
#define PTY_MAJOR_LAST  143
#define STATUS_FLAGS    SETFL_FLAGS

/* Closing the master takes away the name. */
static bool tty_claims(const struct file *f)
{
	static const char dir[] = "/dev/pts/", gone[] = " (deleted)";
	unsigned type = major(f->st.st_rdev);
	size_t n = strlen(f->link);

	return S_ISCHR(f->st.st_mode) && type >= PTY_MAJOR_FIRST && type <= PTY_MAJOR_LAST &&
	       !(f->flags & O_PATH) && strncmp(f->link, dir, strlen(dir)) == 0 &&
	       n > strlen(gone) && strcmp(f->link + n - strlen(gone), gone) == 0;
}

static bool hung_up(int fd)
{
	struct termios t;

	return tcgetattr(fd, &t) < 0 && errno == EIO;
}

static struct err *tty_capture(struct capture *c)
{
	Migrate__Kind__Tty m = MIGRATE__KIND__TTY__INIT;
	const struct file *f = c->file;
	int home;

	TRY(capture_home(c, &home));
	if (!hung_up(home))
		return err_new(ERR_UNSUPPORTED, "a terminal without a name, which is not hung up");
	m.flags = f->flags;
	m.uid = f->st.st_uid;
	m.gid = f->st.st_gid;
	m.mode = f->st.st_mode & 07777;
	capture_emit(c, f->id, &m.base);
	return NULL;
}

static struct err *tty_check(
	struct rebuild *r unused_arg, const struct object *o unused_arg, const void *msg)
{
	const Migrate__Kind__Tty *m = msg;

	return m->mode > 07777 ? err_new(ERR_PEER, "a terminal of mode %o", m->mode) : NULL;
}

/* Opened by its name, or by its master (openpty(3)): only the former has O_LARGEFILE. O_CLOEXEC
 * would stay in the description of the latter. */
static struct err *open_slave(int master, uint64_t flags, int *ret)
{
	int how = (int)(flags & O_ACCMODE) | O_NOCTTY | O_NONBLOCK;
	autoclose int peer = ioctl(master, TIOCGPTPEER, how);
	char path[64];

	if (peer < 0)
		return err_errno(errno, "open a terminal");
	if (!(flags & KERNEL_O_LARGEFILE)) {
		*ret = take_fd(&peer);
		return NULL;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", peer);
	return io_open(path, how | O_CLOEXEC, ret);
}

static struct err *tty_rebuild(struct rebuild *r, const struct object *o, const void *msg, int *fd)
{
	const Migrate__Kind__Tty *m = msg;
	autoclose int master = -1, made = -1;
	int unlock = 0;

	TRY(tty_check(r, o, msg));
	TRY(io_open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, &master));
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return err_errno(errno, "make a terminal");
	TRY(open_slave(master, m->flags, &made));
	if (fcntl(made, F_SETFD, FD_CLOEXEC) < 0 || fchown(made, m->uid, m->gid) < 0 ||
		fchmod(made, m->mode) < 0)
		return err_errno(errno, "set the owner of a terminal");
	if (fcntl(made, F_SETFL, (int)(m->flags & STATUS_FLAGS)) < 0)
		return err_errno(errno, "set the flags of a terminal");
	fd_closep(&master);
	if (!hung_up(made))
		return err_new(ERR_KERNEL, "a terminal without a master is not hung up");
	*fd = take_fd(&made);
	return NULL;
}

const struct kind kind_tty = {
	.id = 32,
	.name = "hung-up terminal",
	.scope = KIND_FILE,
	.stage = STAGE_FILE,
	.msg = &migrate__kind__tty__descriptor,
	.claims = tty_claims,
	.capture = tty_capture,
	.check = tty_check,
	.rebuild = tty_rebuild,
};
