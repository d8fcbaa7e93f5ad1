// SPDX-License-Identifier: Apache-2.0
#include "roles/take.h"

#include <stdlib.h>
#include <string.h>

/* A word that is empty is no address: "10.0.0.1," is a list that was cut. */
static struct err *parse_list(char *list, struct taking *ret)
{
	for (char *word; (word = strsep(&list, ","));) {
		if (ret->n == TAKE_ADDRESSES_MAX)
			return err_new(
				ERR_INVALID, "more than %d addresses to take", TAKE_ADDRESSES_MAX);
		if (!net_ip_parse(word, &ret->v[ret->n]))
			return err_new(ERR_INVALID, "\"%s\" is no address to take", word);
		ret->n++;
	}
	return NULL;
}

struct err *taking_parse(const char *text, struct taking *ret)
{
	struct taking t = { .take = TAKE_GIVEN };
	autofree char *copy = xstrdup(text);

	if (!text[0] || strcmp(text, "auto") == 0)
		t.take = TAKE_AUTO;
	else if (strcmp(text, "none") == 0)
		t.take = TAKE_NONE;
	else
		TRY(parse_list(copy, &t));
	*ret = t;
	return NULL;
}
