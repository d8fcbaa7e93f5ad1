// SPDX-License-Identifier: Apache-2.0
/* The list of kinds, from kinds.def: adding a kind changes that file and nothing here. */
#include "kinds/kind.h"

#define KIND(symbol) extern const struct kind kind_##symbol;
#include "kinds/kinds.def"
#undef KIND

#define KIND(symbol) &kind_##symbol,
static const struct kind *const kinds[] = {
#include "kinds/kinds.def"
};
#undef KIND

const struct kind *const *kinds_all(size_t *n)
{
	*n = ARRAY_LEN(kinds);
	return kinds;
}

const struct kind *kind_by_id(uint32_t id)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i]->id == id)
			return kinds[i];
	return NULL;
}

const struct kind *kind_for_file(const struct file *f)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i]->scope == KIND_FILE && kinds[i]->claims && kinds[i]->claims(f))
			return kinds[i];
	return NULL;
}
