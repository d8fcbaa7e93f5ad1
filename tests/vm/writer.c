// SPDX-License-Identifier: Apache-2.0
/*
 * Writes all the time, on all pages of its memory, and knows what must be in each; gives pages back
 * (MADV_DONTNEED), maps some anew. Holds no file: whoever wants to know connects to 127.0.0.1:PORT
 * and reads "ROUNDS checks CHECKS wrong WRONG". Usage: vm-writer PORT MIB
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGE 4096

static char *memory;
static size_t pages;
static uint64_t *stamps; /* 0: zeroes */
static _Atomic uint64_t rounds, checks, wrong;

static uint64_t *words(size_t page)
{
	return (uint64_t *)(void *)(memory + page * PAGE);
}

static void check(size_t page)
{
	checks++;
	if (words(page)[0] != stamps[page] || words(page)[PAGE / 8 - 1] != stamps[page])
		wrong++;
}

static void *work(void *unused)
{
	unsigned seed = 1;

	(void)unused;
	for (uint64_t n = 1;; n++) {
		size_t page = (size_t)rand_r(&seed) % pages, some;

		check(page);
		check((size_t)rand_r(&seed) % pages);
		words(page)[0] = words(page)[PAGE / 8 - 1] = stamps[page] = n;
		if (n % 64 == 0) {
			some = (size_t)rand_r(&seed) % (pages - 4);
			if (n % 128)
				madvise(words(some), 4 * PAGE, MADV_DONTNEED);
			else
				mmap(words(some), 4 * PAGE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			memset(stamps + some, 0, 4 * sizeof(*stamps));
		}
		rounds++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t t;

	if (argc != 3)
		return 2;
	pages = strtoul(argv[2], NULL, 10) * 256;
	memory = mmap(
		NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stamps = calloc(pages, sizeof(*stamps));
	sa.sin_port = htons((uint16_t)atoi(argv[1]));
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (memory == MAP_FAILED || !stamps ||
		bind(listener, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(listener, 4) < 0 ||
		pthread_create(&t, NULL, work, NULL) != 0)
		return 1;
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		dprintf(fd, "%lu checks %lu wrong %lu\n", (unsigned long)rounds,
			(unsigned long)checks, (unsigned long)wrong);
		close(fd);
	}
}
