/* SPDX-License-Identifier: Apache-2.0 */
/* What anybody can see of a process: is it there, and more than a remnant? */
#pragma once

#include "client/render.h"

enum whereabouts look(int32_t pid);
