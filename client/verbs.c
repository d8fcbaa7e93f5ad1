// SPDX-License-Identifier: Apache-2.0
/* What all verbs share: how a result and an error get out. */
#include "client/verbs.h"

#include <stdio.h>

#include "client/json.h"
#include "client/render.h"

void verb_print_json(json_t *j)
{
	autofree char *line = json_line(j);

	printf("%s\n", line);
	fflush(stdout);
}

enum exit_status verb_failed(const struct options *o, struct err *err)
{
	autoerr struct err *e = err;
	autotext struct text t = { 0 };

	if (o->json)
		verb_print_json(json_error(e));
	text_addf(&t, "%s: not done\n", verb_name(o->verb));
	render_error(&t, e);
	fputs(text_str(&t), stderr);
	return err_code(e) == ERR_INVALID ? EXIT_USAGE : EXIT_KEPT;
}
