/* SPDX-License-Identifier: Apache-2.0 */
/* What reached the original after its capture. */
#pragma once

#include "engine/source.h"

/* Warns by name. The original stands still, held; its copy runs already, so this costs no
 * downtime. */
void late_look(struct source *s);
