/* SPDX-License-Identifier: Apache-2.0 */
/* A destination's site for targets: where objects and layouts go, with a process that is none. */
#pragma once

#include <unistd.h>

#include "engine/rebuild.h"
#include "fake_task.h"
#include "fuzz.h"
#include "memory.pb-c.h"
#include "session.pb-c.h"

/* As in tests/kinds/launch.c. */
#define SITE_PID     4000
#define SITE_SCRATCH FUZZ_DIR "/state/s"

static inline struct site *fuzz_site(struct notes *notes)
{
	static const int32_t tids[] = { SITE_PID, SITE_PID + 1 };

	return site_new(&(struct site_spec){ .pid = SITE_PID,
		.tids = tids,
		.n_tids = ARRAY_LEN(tids),
		.fd_max = 100,
		.scratch_dir = SITE_SCRATCH,
		.interrupt_fd = -1,
		.notes = notes });
}

/* Two mappings and a vdso. */
static inline struct err *fuzz_site_layout(struct site *s)
{
	Migrate__Kind__LayoutDelta m = MIGRATE__KIND__LAYOUT_DELTA__INIT;
	Migrate__Kind__LayoutVma v = MIGRATE__KIND__LAYOUT_VMA__INIT, *map[] = { &v };
	Migrate__Kind__LayoutSpecial p = MIGRATE__KIND__LAYOUT_SPECIAL__INIT, *special[] = { &p };
	uint8_t body[256];

	m.first = true;
	v.start = 0x10000000;
	v.bytes = 16 * PAGE_BYTES;
	v.prot = 3;
	p.name = (char *)(uintptr_t) "[vdso]";
	p.start = 0x7fff00000000;
	p.bytes = 2 * PAGE_BYTES;
	m.n_map = m.n_special = 1;
	m.map = map;
	m.special = special;
	return site_layout(s, 0, body, migrate__kind__layout_delta__pack(&m, body));
}

static inline void fuzz_notes(struct notes *n)
{
	while (n->n_blockers)
		fuzz_forget(n->blockers[--n->n_blockers]);
	notes_fini(n);
}
