/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs read: the names here are stable. One object per line. Times are in milliseconds,
 * sizes in bytes. Each function returns a new reference.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "control.pb-c.h"

/* {"event":"round"} when it closes one, else {"event":"progress"}. */
json_t *json_progress(const Migrate__Progress *p) must_check;
/* {"event":"done"}; for check {"event":"check"}. `host` as the user gave it. */
json_t *json_done(const Migrate__Done *d, const char *host) must_check;
/* {"event":"done","outcome":"kept"}: the request itself failed. */
/* The daemon went away; what became of the migration is not known. */
json_t *json_lost(const char *id, int32_t pid, const char *host, const struct err *e) must_check;
json_t *json_not_begun(int32_t pid, const char *host, const struct err *e) must_check;
/* {"event":"error"}: any other verb failed. */
json_t *json_error(const struct err *e) must_check;
json_t *json_list(const Migrate__Reply *r) must_check;
json_t *json_peer(const Migrate__Peer *p) must_check;
/* The object as one line; the caller frees it. Takes the reference. */
char *json_line(json_t *j) must_check;
