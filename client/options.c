// SPDX-License-Identifier: Apache-2.0
/* Options may stand anywhere, as --name VALUE or --name=VALUE; "--" ends them. */
#include "client/options.h"

#include <arpa/inet.h>
#include <limits.h>
#include <string.h>

#include "base/text.h"

static const struct {
	const char *name, *args, *help;
	int least, most;
} verbs[VERBS] = {
	[VERB_SEND] = { "send", "PID HOST[:PORT]", "move a running process to another host", 2, 2 },
	[VERB_CHECK] = { "check", "PID [HOST[:PORT]]", "say what would hinder that, and predict it",
		1, 2 },
	[VERB_LIST] = { "list", "", "migrations that go on or have ended", 0, 0 },
	[VERB_STATUS] = { "status", "[ID]", "everything about one migration", 0, 1 },
	[VERB_WATCH] = { "watch", "[ID]", "follow migrations until they end", 0, 1 },
	[VERB_CANCEL] = { "cancel", "ID", "end a migration; the process stays here", 1, 1 },
	[VERB_RESOLVE] = { "resolve", "ID [here|there]", "settle a migration that is in doubt", 1,
		2 },
	[VERB_IDENTITY] = { "identity", "", "fingerprint of this host's key", 0, 0 },
	[VERB_IDENTITY_ROTATE] = { "identity rotate", "", "make the key that will follow it", 0,
		0 },
	[VERB_IDENTITY_RETIRE] = { "identity retire", "", "destroy the old key", 0, 0 },
	[VERB_PEER_ADD] = { "peer add", "NAME HOST[:PORT] FINGERPRINT", "trust another host", 3,
		3 },
	[VERB_PEER_LIST] = { "peer list", "", "hosts that are trusted", 0, 0 },
	[VERB_PEER_REMOVE] = { "peer remove", "NAME", "trust a host no longer", 1, 1 },
};

/* So many were tried; the protocol carries more. */
/* As the daemon has it. */
#define TAKE_MAX    16
#define STREAMS_MAX 4

#define FOR(v)    (1u << (v))
#define FOR_EVERY UINT_MAX

struct option {
	const char *name, *arg, *help;
	unsigned verbs;
	struct err *(*set)(const struct option *o, const char *value, struct options *ret);
	/* For an option with a closed list of values: those that work by now, each between bars. */
	const char *landed;
};

const char *verb_name(enum verb v)
{
	return v < VERBS ? verbs[v].name : "";
}

static struct err *number(const char *value, const char *what, uint64_t most, uint64_t *ret)
{
	uint64_t n = 0;

	TRY(text_u64(value, 10, what, &n));
	if (n < 1 || n > most)
		return err_new(
			ERR_INVALID, "%s must be 1 to %ju, not %s", what, (uintmax_t)most, value);
	*ret = n;
	return NULL;
}

static struct err *set_control(
	const struct option *o unused_arg, const char *value, struct options *ret)
{
	ret->control = value;
	return NULL;
}

static struct err *set_json(
	const struct option *o unused_arg, const char *value unused_arg, struct options *ret)
{
	ret->json = true;
	return NULL;
}

static struct err *set_help(
	const struct option *o unused_arg, const char *value unused_arg, struct options *ret)
{
	ret->help = true;
	return NULL;
}

static struct err *set_version(
	const struct option *o unused_arg, const char *value unused_arg, struct options *ret)
{
	ret->version = true;
	return NULL;
}

static struct err *set_downtime(const struct option *o, const char *value, struct options *ret)
{
	TRY(number(value, o->name, 3600000, &ret->downtime_us));
	ret->downtime_us *= 1000;
	return NULL;
}

static struct err *set_timeout(const struct option *o, const char *value, struct options *ret)
{
	TRY(number(value, o->name, 86400 * 365, &ret->timeout_us));
	ret->timeout_us *= 1000000;
	return NULL;
}

static struct err *set_rounds(const struct option *o, const char *value, struct options *ret)
{
	uint64_t n = 0;

	TRY(number(value, o->name, 10000, &n));
	ret->max_rounds = (uint32_t)n;
	return NULL;
}

static struct err *set_bandwidth(const struct option *o, const char *value, struct options *ret)
{
	uint64_t n = 0;

	TRY(text_size(value, o->name, &n));
	if (n == 0)
		return err_new(ERR_INVALID, "%s must be more than 0", o->name);
	ret->bandwidth = n;
	return NULL;
}

static struct err *set_force(
	const struct option *o unused_arg, const char *value unused_arg, struct options *ret)
{
	ret->force_switch = true;
	return NULL;
}

static struct err *set_anyway(
	const struct option *o unused_arg, const char *value unused_arg, struct options *ret)
{
	ret->force = true;
	return NULL;
}

static struct err *set_key(
	const struct option *o unused_arg, const char *value, struct options *ret)
{
	ret->key = value;
	return NULL;
}

static struct err *set_dry_run(
	const struct option *o unused_arg, const char *value unused_arg, struct options *ret)
{
	ret->dry_run = true;
	return NULL;
}

static struct err *to_come(const struct option *o, const char *value)
{
	return err_hint(err_new(ERR_UNSUPPORTED, "%s %s has not landed yet", o->name, value),
		"leave it out");
}

static struct err *set_streams(const struct option *o, const char *value, struct options *ret)
{
	uint64_t n = 0;

	TRY(number(value, o->name, STREAMS_MAX, &n));
	ret->streams = (uint32_t)n;
	return NULL;
}

/* `list` is words between bars. */
static bool listed(const char *list, const char *word)
{
	size_t n = strlen(word);
	const char *p = list;

	while (n && p) {
		if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0'))
			return true;
		p = strchr(p, '|');
		if (p)
			p++;
	}
	return false;
}

static struct err *set_choice(const struct option *o, const char *value, struct options *ret)
{
	if (!listed(o->arg, value))
		return err_new(ERR_INVALID, "%s is one of %s, not %s", o->name, o->arg, value);
	if (!listed(o->landed, value))
		return to_come(o, value);
	if (strcmp(o->name, "--unit") == 0)
		ret->unit = value;
	if (strcmp(o->name, "--accept-queue") == 0)
		ret->accept_queue = value;
	return NULL;
}

static bool is_address(const char *s, size_t len)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr unused;

	if (len >= sizeof(text))
		return false;
	memcpy(text, s, len);
	text[len] = '\0';
	return inet_pton(AF_INET, text, &unused) == 1 || inet_pton(AF_INET6, text, &unused) == 1;
}

static struct err *set_take(const struct option *o, const char *value, struct options *ret)
{
	size_t n = 0;

	ret->take_address = value;
	if (strcmp(value, "auto") == 0 || strcmp(value, "none") == 0)
		return NULL;
	for (const char *p = value; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
		int len = (int)strcspn(p, ",");

		if (!is_address(p, (size_t)len))
			return err_new(ERR_INVALID, "%s: %.*s is no IP address", o->name, len, p);
		if (++n > TAKE_MAX)
			return err_new(
				ERR_INVALID, "%s: more than %d addresses", o->name, TAKE_MAX);
	}
	return NULL;
}

static const struct option options[] = {
	{ "--control", "PATH", "socket of the daemon (" CONTROL_DEFAULT ")", FOR_EVERY, set_control,
		NULL },
	{ "--json", NULL, "one JSON object per line", FOR_EVERY, set_json, NULL },
	{ "--help", NULL, "this text, or that of a verb", FOR_EVERY, set_help, NULL },
	{ "--version", NULL, "the version", FOR_EVERY, set_version, NULL },
	{ "--downtime", "MS", "stop the process when no more than this is left to do (50)",
		FOR(VERB_SEND), set_downtime, NULL },
	{ "--force-switch", NULL, "stop it even so when rounds bring nothing more", FOR(VERB_SEND),
		set_force, NULL },
	{ "--max-rounds", "N", "copy rounds before giving up, or before --force-switch (30)",
		FOR(VERB_SEND), set_rounds, NULL },
	{ "--streams", "N", "connections for pages, 1 to 4 (what suits both hosts)", FOR(VERB_SEND),
		set_streams, NULL },
	{ "--bandwidth", "RATE", "bytes per second, with K, M, G (no limit)", FOR(VERB_SEND),
		set_bandwidth, NULL },
	{ "--timeout", "S", "give up when it was not stopped by then (never)", FOR(VERB_SEND),
		set_timeout, NULL },
	{ "--pid", "keep|new|auto", "which process number it gets there (auto)", FOR(VERB_SEND),
		set_choice, "keep|auto" },
	{ "--files", "verify|carry", "files must be the same there, or come along (verify)",
		FOR(VERB_SEND), set_choice, "verify" },
	{ "--unix-external", "refuse|reconnect|close",
		"unix sockets whose other end is outside (refuse)", FOR(VERB_SEND), set_choice,
		"refuse" },
	{ "--unit", "stop|refuse", "a systemd unit that would restart it here (refuse)",
		FOR(VERB_SEND), set_choice, "stop|refuse" },
	{ "--tty", "detach|refuse", "a terminal (refuse)", FOR(VERB_SEND), set_choice, "refuse" },
	{ "--take-address", "auto|none|ADDR,...",
		"addresses that connections stand on come along (auto)",
		FOR(VERB_SEND) | FOR(VERB_CHECK), set_take, NULL },
	{ "--accept-queue", "refuse|reset",
		"connections that nobody accepts, or has read to the end (refuse)", FOR(VERB_SEND),
		set_choice, "refuse|reset" },
	{ "--key", "FINGERPRINT", "this key of the peer, not the peer", FOR(VERB_PEER_REMOVE),
		set_key, NULL },
	{ "--force", NULL, "though peers have not been seen to know the new one",
		FOR(VERB_IDENTITY_RETIRE), set_anyway, NULL },
	{ "--dry-run", NULL, "everything but the move: the same as check", FOR(VERB_SEND),
		set_dry_run, NULL },
};

/* Finds the option that `arg` names, and its value behind '=' if there is one. */
static const struct option *find_option(const char *arg, const char **value)
{
	size_t n = strcspn(arg, "=");

	*value = arg[n] == '=' ? arg + n + 1 : NULL;
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if (strlen(options[i].name) == n && strncmp(options[i].name, arg, n) == 0)
			return &options[i];
	return NULL;
}

/* Verbs may be two words: then the next argument is the second. */
static enum verb find_verb(const char *word, const char *next, int *used)
{
	enum verb found = VERBS;
	size_t n = strlen(word);

	for (int v = 0; v < VERBS; v++) {
		if (strncmp(verbs[v].name, word, n) != 0)
			continue;
		*used = 2;
		if (verbs[v].name[n] == ' ' && next && strcmp(verbs[v].name + n + 1, next) == 0)
			return (enum verb)v;
		if (verbs[v].name[n] == '\0')
			found = (enum verb)v; /* unless one of two words follows */
	}
	*used = 1;
	return found;
}

static struct err *no_such_verb(const char *word)
{
	autotext struct text seconds = { 0 };
	size_t n = strlen(word);

	for (int v = 0; v < VERBS; v++)
		if (strncmp(verbs[v].name, word, n) == 0 && verbs[v].name[n] == ' ')
			text_addf(&seconds, "%s%s", seconds.len ? "|" : "", verbs[v].name + n + 1);
	if (seconds.len)
		return err_new(ERR_INVALID, "%s needs one of %s", word, text_str(&seconds));
	return err_new(ERR_INVALID, "there is no verb %s", word);
}

struct parse {
	int argc, at;
	char **argv;
	unsigned used; /* bit per entry of options[] */
	bool ended;    /* "--" was seen */
};

static struct err *parse_option(struct parse *p, struct options *ret)
{
	const char *arg = p->argv[p->at++], *value;
	const struct option *o = find_option(arg, &value);

	if (!o)
		return err_new(ERR_INVALID, "there is no option %s", arg);
	if (!o->arg && value)
		return err_new(ERR_INVALID, "%s takes no value", o->name);
	if (o->arg && !value) {
		if (p->at >= p->argc)
			return err_new(ERR_INVALID, "%s needs a value (%s)", o->name, o->arg);
		value = p->argv[p->at++];
	}
	p->used |= 1u << (o - options);
	return o->set(o, value, ret);
}

static struct err *parse_word(struct parse *p, struct options *ret)
{
	const char *word = p->argv[p->at++];
	const char *next = p->at < p->argc ? p->argv[p->at] : NULL;
	int used = 0;

	if (ret->verb == VERBS) {
		ret->verb = find_verb(word, next, &used);
		p->at += used - 1;
		return ret->verb < VERBS ? NULL : no_such_verb(word);
	}
	if (ret->n_args == verbs[ret->verb].most)
		return err_new(
			ERR_INVALID, "%s: too many arguments (%s)", verb_name(ret->verb), word);
	ret->args[ret->n_args++] = word;
	return NULL;
}

static struct err *check_verb(const struct parse *p, struct options *ret)
{
	uint64_t pid = 0;

	if (ret->help || ret->version)
		return NULL;
	if (ret->verb == VERBS)
		return err_new(ERR_INVALID, "no verb");
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if ((p->used >> i & 1) && !(options[i].verbs & FOR(ret->verb)))
			return err_new(ERR_INVALID, "%s does not go with %s", options[i].name,
				verb_name(ret->verb));
	if (ret->n_args < verbs[ret->verb].least)
		return err_new(
			ERR_INVALID, "%s needs %s", verb_name(ret->verb), verbs[ret->verb].args);
	if (ret->verb == VERB_SEND || ret->verb == VERB_CHECK) {
		TRY(number(ret->args[0], "PID", INT32_MAX, &pid));
		ret->pid = (int32_t)pid;
	}
	return NULL;
}

struct err *options_parse(int argc, char **argv, struct options *ret)
{
	struct parse p = { .argc = argc, .argv = argv, .at = 1 };
	struct options o = { .control = CONTROL_DEFAULT, .verb = VERBS, .unit = "refuse" };

	while (p.at < argc) {
		const char *arg = argv[p.at];

		if (!p.ended && strcmp(arg, "--") == 0) {
			p.ended = true;
			p.at++;
		} else if (!p.ended && arg[0] == '-' && arg[1] != '\0') {
			TRY(parse_option(&p, &o));
		} else {
			TRY(parse_word(&p, &o));
		}
	}
	TRY(check_verb(&p, &o));
	*ret = o;
	return NULL;
}

static void help_options(unsigned mask, bool common, struct text *out)
{
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		const struct option *o = &options[i];
		autotext struct text left = { 0 };

		if ((o->verbs == FOR_EVERY) != common || !(o->verbs & mask))
			continue;
		text_addf(&left, "%s %s", o->name, o->arg ? o->arg : "");
		text_addf(out, "  %-28s%s%s\n", text_str(&left),
			left.len >= 28 ? "\n                              " : "", o->help);
	}
}

void options_help(enum verb verb, struct text *out)
{
	if (verb < VERBS) {
		text_addf(out, "migratectl %s %s\n  %s\n", verbs[verb].name, verbs[verb].args,
			verbs[verb].help);
		help_options(FOR(verb), false, out);
		return;
	}
	text_addf(out, "migratectl [--control PATH] [--json] VERB ...\n");
	for (int v = 0; v < VERBS; v++) {
		autotext struct text left = { 0 };

		text_addf(&left, "%s %s", verbs[v].name, verbs[v].args);
		text_addf(out, "  %-28s%s%s\n", text_str(&left),
			left.len >= 28 ? "\n                              " : "", verbs[v].help);
	}
	help_options(FOR_EVERY, true, out);
	text_addf(out, "exit status: 0 done, it runs there; 1 it runs here still; 2 usage; "
		       "3 in doubt\n");
}
