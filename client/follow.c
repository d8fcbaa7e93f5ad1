// SPDX-License-Identifier: Apache-2.0
#include "client/follow.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/conn.h"
#include "client/json.h"
#include "client/render.h"
#include "client/verbs.h"

struct screen {
	bool terminal;
	bool live; /* a line is on the screen that the next one overwrites */
	unsigned columns;
};

static struct screen screen_open(void)
{
	struct screen s = { .terminal = isatty(STDOUT_FILENO), .columns = 80 };
	struct winsize w;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
		s.columns = w.ws_col - 1u;
	return s;
}

static void screen_close(struct screen *s)
{
	if (s->live)
		printf("\r\033[K");
	s->live = false;
	fflush(stdout);
}

static void show(const struct follow *f, struct screen *s, const Migrate__Progress *p)
{
	autotext struct text t = { 0 };

	if (f->opt->json) {
		verb_print_json(json_progress(p));
		return;
	}
	if (s->terminal) {
		render_progress(&t, p, s->columns);
		printf("\r%s\033[K", text_str(&t));
		s->live = true;
	} else if (p->round_end) {
		render_round(&t, p);
		fputs(text_str(&t), stdout);
	}
	fflush(stdout);
}

/* A descriptor that is readable after Ctrl-C or SIGTERM; those are blocked from here on. */
static struct err *open_signals(int *ret)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_errno(errno, "block signals");
	*ret = signalfd(-1, &set, SFD_CLOEXEC);
	return *ret < 0 ? err_errno(errno, "make a signal descriptor") : NULL;
}

/* Asks the daemon to cancel. Without an id yet, the end of our side of the stream says the same. */
static struct err *ask_cancel(const struct follow *f, int fd)
{
	Migrate__CancelRequest cancel = MIGRATE__CANCEL_REQUEST__INIT;
	Migrate__Request req = MIGRATE__REQUEST__INIT;
	autoarena struct arena *a = arena_new();
	Migrate__Reply *reply;

	if (!f->id[0])
		return shutdown(fd, SHUT_WR) < 0 ? err_errno(errno, "cancel") : NULL;
	cancel.id = (char *)f->id;
	req.verb_case = MIGRATE__REQUEST__VERB_CANCEL;
	req.cancel = &cancel;
	return conn_ask(f->opt->control, &req, a, &reply);
}

static struct err *on_signal(struct follow *f, int signals, int fd, bool *asked)
{
	struct signalfd_siginfo si;

	if (read(signals, &si, sizeof(si)) != sizeof(si))
		return NULL;
	if (!f->cancels || *asked) {
		f->abandoned = true;
		return NULL;
	}
	*asked = true;
	fprintf(stderr, "\ncancelling; waiting for the outcome (Ctrl-C again: not to wait)\n");
	TRY_IN(ask_cancel(f, fd), "cancel the migration");
	return NULL;
}

/* Waits for the daemon or the user. *ready: a reply can be read. */
static struct err *wait_reply(struct follow *f, int fd, int signals, bool *asked, bool *ready)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
		{ .fd = signals, .events = POLLIN } };

	*ready = false;
	if (poll(p, 2, -1) < 0)
		return errno == EINTR ? NULL : err_errno(errno, "wait for the daemon");
	if (p[1].revents) {
		autoerr struct err *e = on_signal(f, signals, fd, asked);

		/* it may just have ended by itself: the outcome is still to be read */
		if (e)
			fprintf(stderr, "%s\n", err_text(e, 0));
	}
	*ready = p[0].revents != 0;
	return NULL;
}

static void note(struct follow *f, const Migrate__Progress *p)
{
	snprintf(f->owner, sizeof(f->owner), "%s", p->owner);
	if (!f->id[0])
		snprintf(f->id, sizeof(f->id), "%s", p->id);
}

/* The last reply outlives the arena of its reading: it is copied into the caller's. */
static struct err *keep(const Migrate__Reply *r, struct arena *a, Migrate__Reply **ret)
{
	size_t n = migrate__reply__get_packed_size(r);
	uint8_t *buf = arena_alloc(a, n + 1);

	migrate__reply__pack(r, buf);
	return conn_unpack(a, buf, n, ret);
}

static void take_in(struct follow *f, struct screen *s, const Migrate__Reply *r)
{
	if (r->progress) {
		note(f, r->progress);
		show(f, s, r->progress);
	}
	if (r->done && !r->last && f->on_done) {
		screen_close(s);
		f->on_done(f, r->done);
	}
}

struct err *follow(struct follow *f, int fd, struct arena *a, Migrate__Reply **ret)
{
	struct screen s AUTO(screen_close) = screen_open();
	bool asked = false, ready;
	autoclose int signals = -1;

	TRY(open_signals(&signals));
	while (!f->abandoned) {
		autoarena struct arena *one = arena_new();
		Migrate__Reply *r;

		TRY(wait_reply(f, fd, signals, &asked, &ready));
		if (!ready)
			continue;
		TRY(conn_recv(fd, one, &r));
		take_in(f, &s, r);
		if (r->last)
			return keep(r, a, ret);
	}
	*ret = NULL;
	return NULL;
}
