/* SPDX-License-Identifier: Apache-2.0 */
/* What unit.c and place.c share: systemd over D-Bus, every call under a time limit. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/err.h"

#define SYSTEMD_NAME    "org.freedesktop.systemd1"
#define SYSTEMD_PATH    "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"

/* Is it the init of our own pid namespace? Numbers of processes mean the same to both only then. */
bool systemd_here(void);
/* A connection, to be closed by sd_bus_flush_close_unrefp. */
struct err *systemd_open(sd_bus **ret) must_check;
/* From a negative errno and what systemd said. Frees *error's content. */
struct err *systemd_err(int rc, sd_bus_error *error, const char *doing) must_check;
