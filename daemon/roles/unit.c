// SPDX-License-Identifier: Apache-2.0
#include "roles/unit.h"

#include <stdlib.h>
#include <string.h>

#include "roles/systemd.h"

#define UNIT_IFACE    "org.freedesktop.systemd1.Unit"
#define SERVICE_IFACE "org.freedesktop.systemd1.Service"

void unit_fini(struct unit *u)
{
	free(u->name);
	free(u->path);
	free(u->restart);
	*u = (struct unit){ NULL, NULL, NULL };
}

static bool is_service(const char *name)
{
	size_t len = strlen(name);

	return len > 8 && strcmp(name + len - 8, ".service") == 0;
}

/* Restart= acts on the main process only. */
static struct err *read_service(sd_bus *bus, pid_t pid, struct unit *u)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	uint32_t main_pid = 0;
	int rc = sd_bus_get_property_trivial(
		bus, SYSTEMD_NAME, u->path, SERVICE_IFACE, "MainPID", &error, 'u', &main_pid);

	if (rc >= 0 && main_pid == (uint32_t)pid) {
		free(u->restart);
		u->restart = NULL;
		rc = sd_bus_get_property_string(
			bus, SYSTEMD_NAME, u->path, SERVICE_IFACE, "Restart", &error, &u->restart);
	}
	return rc < 0 ? systemd_err(rc, &error, "ask systemd about the unit") : NULL;
}

static struct err *read_unit(sd_bus *bus, pid_t pid, struct unit *u)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	AUTO(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *path;
	int rc = sd_bus_call_method(bus, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
		"GetUnitByPID", &error, &reply, "u", (uint32_t)pid);

	if (sd_bus_error_has_name(&error, "org.freedesktop.systemd1.NoUnitForPID")) {
		sd_bus_error_free(&error);
		return NULL;
	}
	if (rc >= 0)
		rc = sd_bus_message_read(reply, "o", &path);
	if (rc >= 0) {
		u->path = xstrdup(path);
		u->restart = xstrdup("no");
		rc = sd_bus_get_property_string(
			bus, SYSTEMD_NAME, u->path, UNIT_IFACE, "Id", &error, &u->name);
	}
	if (rc < 0)
		return systemd_err(rc, &error, "ask systemd for the unit");
	return is_service(u->name) ? read_service(bus, pid, u) : NULL;
}

struct err *unit_around(pid_t pid, struct unit *ret)
{
	AUTO(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;

	*ret = (struct unit){ NULL, NULL, NULL };
	if (!systemd_here())
		return NULL;
	TRY(systemd_open(&bus));
	return read_unit(bus, pid, ret);
}

/* The original is ended by SIGKILL, which is neither a clean exit nor the watchdog. */
static bool restarts(const char *policy)
{
	static const char *const quiet[] = { "no", "on-success", "on-watchdog" };

	for (size_t i = 0; i < ARRAY_LEN(quiet); i++)
		if (strcmp(policy, quiet[i]) == 0)
			return false;
	return true;
}

struct err *unit_check(const struct unit *u, bool may_stop)
{
	if (!u->name || may_stop || !restarts(u->restart))
		return NULL;
	return err_hint(err_new(ERR_UNSUPPORTED,
				"systemd would start %s again here (Restart=%s), beside the moved "
				"process",
				u->name, u->restart),
		"--unit stop stops %s after the move", u->name);
}

struct err *unit_stop(const struct unit *u)
{
	AUTO(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int rc;

	TRY(systemd_open(&bus));
	rc = sd_bus_call_method(bus, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "StopUnit",
		&error, NULL, "ss", u->name, "replace");
	if (rc < 0)
		return err_hint(systemd_err(rc, &error, "stop the unit that was left behind"),
			"run: systemctl stop %s", u->name);
	return NULL;
}
