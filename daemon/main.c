// SPDX-License-Identifier: Apache-2.0
/* Arguments of `migrated`; then the monitor, or (executed again by it) another role. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "roles/monitor.h"
#include "roles/role.h"

#define CONTROL_PATH "/run/migrated/control.sock"
#define STATE_DIR    "/var/lib/migrated"

static const char usage[] =
	"migrated [OPTION]... - moves running processes between hosts\n"
	"\n"
	"  --listen [ADDR][:PORT]  where other hosts connect (default: any address, port 7420);\n"
	"                          may be given several times; \"none\": nowhere\n"
	"  --config FILE           (default " CONFIG_PATH ")\n"
	"  --control PATH          socket of migratectl (default " CONTROL_PATH ")\n"
	"  --state-dir DIR         key and peers (default " STATE_DIR ")\n"
	"  --debug                 more lines in the log\n"
	"  --help, --version\n"
	"\n"
	"It stays in the foreground and logs to stderr. See migrated(8), migratectl(1).\n";

enum option_id {
	OPT_LISTEN = 256,
	OPT_CONFIG,
	OPT_CONTROL,
	OPT_STATE,
	OPT_DEBUG,
	OPT_HELP,
	OPT_VERSION
};

static const struct option options[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "state-dir", required_argument, NULL, OPT_STATE },
	{ "debug", no_argument, NULL, OPT_DEBUG },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

/* Descriptors 0 to 2 must be something, or a socket of ours would become stderr. */
static void open_stdio(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
			_exit(1);
}

/* What a shell or a supervisor forgot to close would stay open in every role, and with the ends of
 * a user's pipes in our hands that user's processes could not be moved. Sockets of systemd begin
 * at 3. */
static void close_inherited(void)
{
	const char *n = getenv("LISTEN_FDS");
	int kept = n ? atoi(n) : 0;

	if (kept < 0 || kept > 1000)
		kept = 0;
	(void)syscall(SYS_close_range, STDERR_FILENO + 1 + (unsigned)kept, ~0U, 0);
}

static int bad_usage(const char *what, const char *arg)
{
	fprintf(stderr, "migrated: %s%s\ntry: migrated --help\n", what, arg);
	return 2;
}

/* A relative path would mean another file after the change to /. */
static char *absolute(const char *path)
{
	char *cwd, *whole;

	if (path[0] == '/')
		return xstrdup(path);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&whole, "%s/%s", cwd, path) < 0)
		abort();
	free(cwd);
	return whole;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct monitor_options *o)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case OPT_LISTEN:
			if (o->n_listen == CONFIG_LISTEN_MAX)
				return bad_usage("too many --listen", "");
			o->listen[o->n_listen++] = optarg;
			break;
		case OPT_CONFIG:
			o->config_path = absolute(optarg);
			o->config_required = true;
			break;
		case OPT_CONTROL:
			o->control_path = absolute(optarg);
			break;
		case OPT_STATE:
			o->state_dir = absolute(optarg);
			break;
		case OPT_DEBUG:
			o->debug = true;
			break;
		case OPT_HELP:
			fputs(usage, stdout);
			return 0;
		case OPT_VERSION:
			puts("migrated " MIGRATED_VERSION);
			return 0;
		default: /* getopt has said what */
			fputs("try: migrated --help\n", stderr);
			return 2;
		}
	}
	if (optind < argc)
		return bad_usage("unexpected argument ", argv[optind]);
	return -1;
}

int main(int argc, char **argv)
{
	struct monitor_options o = {
		.control_path = CONTROL_PATH, .state_dir = STATE_DIR, .config_path = CONFIG_PATH
	};
	int status;

	open_stdio();
	if (argc >= 3 && strcmp(argv[1], "--role") == 0)
		return role_main(argv[2], argc > 3 && strcmp(argv[3], "--debug") == 0);
	close_inherited();
	status = parse(argc, argv, &o);
	return status >= 0 ? status : monitor_main(&o);
}
