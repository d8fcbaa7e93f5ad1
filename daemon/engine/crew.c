// SPDX-License-Identifier: Apache-2.0
/* One lock for everything: it is taken per job, per question and per failure, never per page. */
#include "engine/crew.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Page work keeps its buffers on the heap. */
#define STACK_BYTES (256u << 10)

struct question {
	struct err *(*fn)(void *arg);
	void *arg;
	struct err *result;
	bool answered;
	struct question *next;
};

struct member {
	struct crew *crew;
	unsigned number;
	pthread_t thread;
};

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t begin;    /* a job, or the end */
	pthread_cond_t answered; /* a question */
	int bell;                /* for the engine's thread: look again */
	int stop;
	struct member members[CREW_MAX];
	unsigned n;
	struct err *(*first)(void); /* in each member; NULL: nothing */
	/* under the lock */
	unsigned begun;
	struct crew_job *job;
	uint64_t jobs; /* begun so far */
	unsigned at_work;
	bool failed, ending;
	struct err *error; /* the first, until crew_run returns it */
	struct question *questions, **last;
};

/* An eventfd takes 2^64 - 2 rings before it would block. @calls pages: write */
static void ring(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		abort();
}

/* Takes e, with the lock. */
static void fail(struct crew *c, struct err *e)
{
	if (!c->failed)
		c->error = e;
	else
		err_free(e);
	c->failed = true;
	ring(c->stop);
}

/* ---- members ---- */

/* With the lock. False: it is over. */
static bool next_job(struct crew *c, uint64_t *seen)
{
	while (!c->ending && c->jobs == *seen)
		pthread_cond_wait(&c->begin, &c->lock);
	*seen = c->jobs;
	return !c->ending;
}

/* @calls pages: +base */
static void *live(void *arg)
{
	struct member *m = arg;
	struct crew *c = m->crew;
	struct err *e = c->first ? c->first() : NULL;
	uint64_t seen = 0;

	pthread_mutex_lock(&c->lock);
	if (e)
		fail(c, e);
	c->begun++;
	pthread_cond_broadcast(&c->answered);
	while (next_job(c, &seen)) {
		const struct crew_job *job = c->job;

		pthread_mutex_unlock(&c->lock);
		e = job->work(job->arg, m->number);
		pthread_mutex_lock(&c->lock);
		if (e)
			fail(c, e);
		c->at_work--;
		ring(c->bell);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

struct err *crew_ask(struct crew *c, struct err *(*fn)(void *arg), void *arg)
{
	struct question q = { .fn = fn, .arg = arg };

	pthread_mutex_lock(&c->lock);
	*c->last = &q;
	c->last = &q.next;
	ring(c->bell);
	/* As long as a member is at work, the engine's thread answers. */
	while (!q.answered)
		pthread_cond_wait(&c->answered, &c->lock);
	pthread_mutex_unlock(&c->lock);
	return q.result;
}

static struct err *start(struct crew *c, pthread_attr_t *attr)
{
	struct member *m = &c->members[c->n];
	char name[16];
	int no;

	*m = (struct member){ .crew = c, .number = c->n };
	no = pthread_create(&m->thread, attr, live, m);
	if (no)
		return err_errno(no, "start a thread for pages");
	snprintf(name, sizeof(name), "pages-%u", c->n + 1);
	(void)pthread_setname_np(m->thread, name);
	c->n++;
	return NULL;
}

static struct err *start_all(struct crew *c, unsigned members)
{
	struct err *e = NULL;
	pthread_attr_t attr;
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	while (c->n < members && !e)
		e = start(c, &attr);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_mutex_lock(&c->lock);
	while (c->begun < c->n)
		pthread_cond_wait(&c->answered, &c->lock);
	if (!e && c->failed)
		e = take(&c->error);
	pthread_mutex_unlock(&c->lock);
	return e;
}

struct err *crew_new(unsigned members, struct err *(*begin)(void), struct crew **ret)
{
	struct crew *c = xcalloc(1, sizeof(*c));
	struct err *e = NULL;

	c->first = begin;

	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->begin, NULL);
	pthread_cond_init(&c->answered, NULL);
	c->last = &c->questions;
	c->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (members > CREW_MAX)
		e = err_new(ERR_BUG, "%u threads for pages", members);
	else if (c->bell < 0 || c->stop < 0)
		e = err_errno(errno, "make an eventfd");
	if (!e)
		e = start_all(c, members);
	if (e)
		crew_free(c);
	else
		*ret = c;
	return e;
}

void crew_free(struct crew *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->ending = true;
	pthread_cond_broadcast(&c->begin);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < c->n; i++)
		pthread_join(c->members[i].thread, NULL);
	fd_closep(&c->bell);
	fd_closep(&c->stop);
	pthread_cond_destroy(&c->answered);
	pthread_cond_destroy(&c->begin);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int crew_stop_fd(const struct crew *c)
{
	return c->stop;
}

/* ---- the engine's thread ---- */

/* All that have come, in order; with the lock, which is let go for each answer. */
static void answer(struct crew *c)
{
	while (c->questions) {
		struct question *q = c->questions;
		struct err *e;

		c->questions = q->next;
		if (!c->questions)
			c->last = &c->questions;
		if (c->failed) {
			e = err_new(ERR_CANCELLED, "cancelled");
		} else {
			pthread_mutex_unlock(&c->lock);
			e = q->fn(q->arg);
			pthread_mutex_lock(&c->lock);
		}
		q->result = e;
		q->answered = true;
		pthread_cond_broadcast(&c->answered);
	}
}

/* Until something happens. Returns what that means for the job. By the engine's thread, as what
 * makes a crew. @calls none: poll read eventfd2 */
static struct err *wait_bell(const struct crew *c, struct crew_job *job, bool failed)
{
	struct pollfd p[] = { { c->bell, POLLIN, 0 },
		{ failed ? -1 : job->interrupt_fd, POLLIN, 0 }, job->also };
	uint64_t rings;

	if (failed)
		p[2].fd = -1; /* nobody looks at it any more */
	if (poll(p, ARRAY_LEN(p), failed ? -1 : CREW_TICK_MS) < 0 && errno != EINTR)
		return err_errno(errno, "wait for the page streams");
	if (read(c->bell, &rings, sizeof(rings)) < 0 && errno != EAGAIN)
		return err_errno(errno, "wait for the page streams");
	if (failed)
		return NULL;
	if (p[1].revents)
		return err_new(ERR_CANCELLED, "cancelled");
	return job->meanwhile ? job->meanwhile(job->arg, &job->also) : NULL;
}

struct err *crew_run(struct crew *c, struct crew_job *job)
{
	struct err *e;

	pthread_mutex_lock(&c->lock);
	if (c->failed) {
		pthread_mutex_unlock(&c->lock);
		return err_new(ERR_BUG, "another job for a crew that has failed");
	}
	c->job = job;
	c->at_work = c->n;
	c->jobs++;
	pthread_cond_broadcast(&c->begin);
	for (;;) {
		bool failed;

		answer(c);
		if (!c->at_work)
			break;
		failed = c->failed;
		pthread_mutex_unlock(&c->lock);
		e = wait_bell(c, job, failed);
		pthread_mutex_lock(&c->lock);
		if (e)
			fail(c, e);
	}
	c->job = NULL;
	e = take(&c->error);
	pthread_mutex_unlock(&c->lock);
	return e;
}
