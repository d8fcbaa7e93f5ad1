/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that have come to this host are told the link again, some times: a frame may be lost,
 * and who was not there hears it later. */
#pragma once

#include "ipc.pb-c.h"
#include "roles/monitor.h"

void tell_begin(struct monitor *m, const Migrate__Tell *t);
void tell_fini(struct monitor *m);
