/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `level tag key=value ...`: one line per state change, per round, per error. Only roles log
 * errors; the layers below return them. The sink is the one mutable global of the daemon.
 */
#pragma once

#include "base/base.h"

enum log_level { LOG_DEBUG_, LOG_INFO_, LOG_WARN_, LOG_ERROR_ };

/* Lines go to stderr; under the journal (JOURNAL_STREAM) with a syslog prefix instead of the
 * level's name. `tag` is the role and must outlive the process's logging. */
void log_open(const char *tag, enum log_level least);
void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_debug(...) log_line(LOG_DEBUG_, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO_, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN_, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR_, __VA_ARGS__)
