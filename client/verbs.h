/* SPDX-License-Identifier: Apache-2.0 */
/* What each verb does. Results go to stdout, errors to stderr (with --json to stdout too). */
#pragma once

#include <jansson.h>

#include "client/options.h"
#include "control.pb-c.h"

enum exit_status verb_send(const struct options *o);
enum exit_status verb_check(const struct options *o);
/* Every other verb. */
enum exit_status verb_ask(const struct options *o);

/* Shows an error and says which exit status it is. Takes e. */
enum exit_status verb_failed(const struct options *o, struct err *e);
/* Prints one JSON line. Takes the reference. */
void verb_print_json(json_t *j);
