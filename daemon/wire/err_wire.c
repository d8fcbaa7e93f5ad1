// SPDX-License-Identifier: Apache-2.0
#include "wire/err_wire.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* More sentences than this from a peer are dropped: the chain of ours is not longer either. */
#define TEXTS_MAX 16

Migrate__Error *err_to_wire(
	struct arena *a, const struct err *e, const char *side, const char *state)
{
	Migrate__Error *m = arena_alloc(a, sizeof(*m));

	migrate__error__init(m);
	m->code = err_code(e);
	m->sysno = err_sysno(e);
	m->texts = arena_array(a, TEXTS_MAX, sizeof(*m->texts));
	for (const char *t; m->n_texts < TEXTS_MAX && (t = err_text(e, m->n_texts));)
		m->texts[m->n_texts++] = arena_strdup(a, t);
	if (err_hint_text(e))
		m->hint = arena_strdup(a, err_hint_text(e));
	if (side)
		m->side = arena_strdup(a, side);
	if (state)
		m->state = arena_strdup(a, state);
	return m;
}

/* What a peer says is shown on a terminal, and stands in quotes in the log. */
static void clean(char out[ERR_WIRE_TEXT_MAX], const char *text)
{
	snprintf(out, ERR_WIRE_TEXT_MAX, "%s", text);
	text_plain(out);
	for (char *c = out; *c; c++)
		if (*c == '"')
			*c = '\'';
}

struct err *err_from_wire(const Migrate__Error *m)
{
	enum err_code code = m->code >= ERR_UNSUPPORTED && m->code <= ERR_INVALID
				     ? (enum err_code)m->code
				     : ERR_PEER;
	size_t n = MIN(m->n_texts, (size_t)TEXTS_MAX);
	char text[ERR_WIRE_TEXT_MAX];
	struct err *e;

	clean(text, n ? m->texts[n - 1] : "no reason given");
	e = err_new(code, "%s", text);
	for (size_t i = n; i-- > 1;) {
		clean(text, m->texts[i - 1]);
		e = err_in(e, "%s", text);
	}
	if (m->hint && m->hint[0]) {
		clean(text, m->hint);
		e = err_hint(e, "%s", text);
	}
	return e;
}
