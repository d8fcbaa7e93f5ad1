/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the targets share with processes that stay behind: tables (memory, descriptors, directories,
 * signal actions), and open file descriptions: a position that two of them move, an eventfd between
 * two of them. (Pipes and sockets are looked at by their kinds.)
 */
#pragma once

#include "kinds/kind.h"

/* Looks through all processes for what those that move share with them: for the rehearsal. A shared
 * table or kernel object is refused, a shared position in a file is a warning. */
struct err *shared_outside(struct capture *c) must_check;
/* Tables that those that move share with each other are refused. While they are held: a vfork(2) on
 * its way is none. */
void shared_inside(struct capture *c);
