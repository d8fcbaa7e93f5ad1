/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a device writes. A read through a descriptor with O_DIRECT pins the pages of its
 * buffer first and lets the device write them later, past the page tables: pages that were armed in
 * between change without a trace (18 of 20 runs lost some, 6.18). A thread that is stopped waits
 * its read out; so while a process has such a descriptor, it must be looked at stopped.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/* Whether the process has a descriptor with O_DIRECT now. */
struct err *direct_io_any(pid_t pid, bool *ret) must_check;
