/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name service for net, which has no files: a process that net starts before it is confined
 * itself, and before it is told anything. It runs as net's user, without capabilities, opens files
 * only to read, and makes a process for each question; what libraries of the name service want
 * besides fails there. It ends when nobody can ask any more.
 */
#pragma once

#include "base/clock.h"
#include "session/address.h"

#define NAMES_FD 4 /* where net and its children find it */

/* Leaves the helper's socket at NAMES_FD. `lower` makes the helper who it is to be. */
struct err *names_start(struct err *(*lower)(const void *who), const void *who) must_check;
/* What a.host stands for: TIMEOUT, or what the name service said. */
struct err *names_look_up(
	const struct address *a, struct deadline d, struct address_places *ret) must_check;
