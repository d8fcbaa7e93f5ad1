// SPDX-License-Identifier: Apache-2.0
#include "roles/systemd.h"

#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/io.h"

#define CALL_US 5000000

bool systemd_here(void)
{
	autoarena struct arena *a = arena_new();
	autoerr struct err *e = NULL;
	char *comm;

	/* /run may be the host's while our pids are a container's: look at pid 1 too. */
	if (sd_booted() <= 0)
		return false;
	e = io_read_file(a, "/proc/1/comm", 64, &comm, NULL);
	return !e && strcmp(comm, "systemd\n") == 0;
}

struct err *systemd_err(int rc, sd_bus_error *error, const char *doing)
{
	struct err *e = error && error->message ? err_new(ERR_KERNEL, "%s", error->message)
						: err_errno(-rc, "D-Bus");

	sd_bus_error_free(error);
	return err_in(e, "%s", doing);
}

struct err *systemd_open(sd_bus **ret)
{
	sd_bus *bus = NULL;
	int rc = sd_bus_open_system(&bus);

	if (rc >= 0)
		rc = sd_bus_set_method_call_timeout(bus, CALL_US);
	if (rc < 0) {
		sd_bus_unref(bus);
		return systemd_err(rc, NULL, "connect to systemd");
	}
	*ret = bus;
	return NULL;
}
