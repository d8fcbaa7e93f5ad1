// SPDX-License-Identifier: Apache-2.0
/* migratectl: argv -> verb. */
#include <stdio.h>

#include "client/render.h"
#include "client/verbs.h"

static enum exit_status (*const run[VERBS])(const struct options *) = {
	[VERB_SEND] = verb_send,
	[VERB_CHECK] = verb_check,
	[VERB_LIST] = verb_ask,
	[VERB_STATUS] = verb_ask,
	[VERB_WATCH] = verb_ask,
	[VERB_CANCEL] = verb_ask,
	[VERB_RESOLVE] = verb_ask,
	[VERB_IDENTITY] = verb_ask,
	[VERB_IDENTITY_ROTATE] = verb_ask,
	[VERB_IDENTITY_RETIRE] = verb_ask,
	[VERB_PEER_ADD] = verb_ask,
	[VERB_PEER_LIST] = verb_ask,
	[VERB_PEER_REMOVE] = verb_ask,
};

int main(int argc, char **argv)
{
	autotext struct text t = { 0 };
	struct options o;
	autoerr struct err *e = options_parse(argc, argv, &o);

	if (e) {
		text_addf(&t, "migratectl: nothing was done\n");
		render_error(&t, e);
		if (err_code(e) == ERR_INVALID)
			text_addf(&t, "try: migratectl --help\n");
		fputs(text_str(&t), stderr);
		return EXIT_USAGE;
	}
	if (o.version) {
		printf("migratectl " MIGRATED_VERSION "\n");
		return EXIT_DONE;
	}
	if (o.help) {
		options_help(o.verb, &t);
		fputs(text_str(&t), stdout);
		return EXIT_DONE;
	}
	return run[o.verb](&o);
}
