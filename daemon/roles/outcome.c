// SPDX-License-Identifier: Apache-2.0
#include "roles/outcome.h"

#include <string.h>

#include "wire/err_wire.h"

#define NOTES_BYTES (160 << 10) /* of blockers and warnings in Done: it must fit one message */

void outcome_notes(struct arena *a, const struct notes *n, const char *where, Migrate__Done *d)
{
	size_t room = NOTES_BYTES, left = 0;

	d->blockers = arena_array(a, n->n_blockers + 1, sizeof(*d->blockers));
	d->warnings = arena_array(a, n->n_warnings + 1, sizeof(*d->warnings));
	for (size_t i = 0; i < n->n_blockers; i++) {
		Migrate__Error *e = err_to_wire(a, n->blockers[i], where, NULL);
		size_t size = migrate__error__get_packed_size(e) + 8;

		if (size > room) {
			left++;
			continue;
		}
		room -= size;
		d->blockers[d->n_blockers++] = e;
	}
	for (size_t i = 0; i < n->n_warnings; i++) {
		size_t size = strlen(n->warnings[i]) + 8;

		if (size > room) {
			left++;
			continue;
		}
		room -= size;
		d->warnings[d->n_warnings++] = n->warnings[i];
	}
	if (left)
		d->warnings[d->n_warnings < n->n_warnings ? d->n_warnings++ : d->n_warnings - 1] =
			arena_printf(a, "and %zu more that are not shown", left);
}
