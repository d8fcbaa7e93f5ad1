/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine asks of the process's kind beyond the kinds interface. */
#pragma once

#include "kinds/kind.h"

/* With c->thread NULL its capture only looks for what can be seen without remote calls (children,
 * namespaces, terminal ...) and emits nothing. */
extern const struct kind kind_process;
