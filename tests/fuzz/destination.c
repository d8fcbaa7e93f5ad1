// SPDX-License-Identifier: Apache-2.0
/*
 * A whole migration, as its source says it: every frame after HELLO, into the engine's destination
 * with a process that is none. Whatever comes, it ends, in a state that is one, and leaves nothing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "fake_task.h"
#include "mem_stream.h"

const char *(*const fuzz_prepare)(void) = fuzz_jail;
const size_t fuzz_frames_at = 0;

#define STATE_DIR FUZZ_DIR "/state"

static void must_be_empty(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;

	MUST(d);
	while (readdir(d))
		n++;
	closedir(d);
	MUST(n == 2); /* . and .. */
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct mem_stream mem = { .in = { data, n } };
	struct stream s;
	struct engine_io io = { .stream = &s, .interrupt_fd = -1 };
	struct receive_options opt = { .state_dir = STATE_DIR, .sink = "copy" };
	struct engine_outcome out;

	mem_stream(&mem, &s);
	engine_receive(&io, &opt, &out);
	MUST(out.result == RESULT_MOVED || out.error);
	fuzz_forget(take(&out.error));
	engine_outcome_fini(&out);
	must_be_empty(STATE_DIR);
	return 0;
}
