// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that write to memory that they share, each to pages of its own, and remember in private
 * memory what has to be there: sharers DIR MIB calm|forks.
 *
 * Three workers and the root write all the time. With `forks` the root has children do it that live
 * for a moment only. Each page has a number twice, and a word that is set while it is written.
 * DIR/beats: how often the root wrote; DIR/wrong: what was found wrong. After SIGTERM everything is
 * compared: DIR/ended says that it was right.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS    3
#define PAGE_WORDS 512
#define LAST       (PAGE_WORDS - 1)
#define BUSY       1 /* the word in the middle of a page */
#define PAUSE_US   300
#define FORKS_US   20000 /* most of the time there is no such child */
#define LOOK_EVERY 2000 /* at all pages */

static volatile uint64_t
	*shared; /* one page more than are written: its first word ends the workers */
static uint64_t *expected;
static size_t pages;
static unsigned self; /* whose pages */
static const char *dir;
static volatile sig_atomic_t ended;

static void on_term(int sig)
{
	(void)sig;
	ended = 1;
}

static void say(const char *name, const char *text)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		_exit(3);
	close(fd);
}

static volatile uint64_t *words(size_t page)
{
	return shared + page * PAGE_WORDS;
}

static void check(size_t page)
{
	volatile uint64_t *w = words(page);
	char text[200];

	if (w[0] == expected[page] && w[LAST] == ~expected[page] && !w[BUSY])
		return;
	snprintf(text, sizeof(text), "process %u, page %zu: %jx %jx %jx instead of %jx", self, page,
		(uintmax_t)w[0], (uintmax_t)w[BUSY], (uintmax_t)w[LAST], (uintmax_t)expected[page]);
	say("wrong", text);
	_exit(1);
}

static void check_all(void)
{
	for (size_t i = self; i < pages; i += WORKERS + 1)
		check(i);
}

static void write_page(size_t page, uint64_t value)
{
	volatile uint64_t *w = words(page);

	w[BUSY] = 1;
	w[0] = value;
	w[LAST] = ~value;
	w[BUSY] = 0;
}

static void by_child(size_t page, uint64_t value)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		write_page(page, value);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) != pid)
		;
}

static void work(bool forks, bool root)
{
	uint64_t random = 88172645463325252u + self, n = 0;
	char beats[32];

	while (!(root ? ended : (sig_atomic_t)shared[pages * PAGE_WORDS])) {
		size_t page;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		page = random % (pages / (WORKERS + 1)) * (WORKERS + 1) + self;
		check(page);
		if (forks)
			by_child(page, expected[page] + 1);
		else
			write_page(page, expected[page] + 1);
		expected[page]++;
		check(page);
		if (++n % LOOK_EVERY == 0)
			check_all();
		snprintf(beats, sizeof(beats), "%ju", (uintmax_t)n);
		if (root)
			say("beats", beats);
		usleep(forks ? FORKS_US : PAUSE_US);
	}
	check_all();
}

int main(int argc, char **argv)
{
	size_t mib;
	int status, wrong = 0;

	if (argc != 4)
		return 2;
	dir = argv[1];
	mib = strtoul(argv[2], NULL, 10);
	pages = mib << 8;
	shared = mmap(NULL, (mib << 20) + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		-1, 0);
	expected = calloc(pages, sizeof(*expected));
	if (shared == MAP_FAILED || !expected)
		return 2;
	for (size_t i = 0; i < pages; i++)
		write_page(i, 0);
	signal(SIGTERM, on_term);
	for (self = 0; self < WORKERS; self++)
		if (fork() == 0) {
			work(false, false);
			_exit(0);
		}
	work(strcmp(argv[3], "forks") == 0, true);
	shared[pages * PAGE_WORDS] = 1;
	for (unsigned i = 0; i < WORKERS; i++)
		wrong |= wait(&status) < 0 || status != 0;
	if (!wrong)
		say("ended", "right");
	return wrong;
}
