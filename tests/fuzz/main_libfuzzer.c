// SPDX-License-Identifier: Apache-2.0
/* A target under libFuzzer. */
#include <signal.h>
#include <stdio.h>

#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerInitialize(int *argc unused_arg, char ***argv unused_arg)
{
	const char *why = fuzz_prepare();

	signal(SIGPIPE, SIG_IGN);
	if (why) {
		fprintf(stderr, "%s\n", why);
		exit(77);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	return fuzz_one(data, n);
}
