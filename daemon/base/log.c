// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"

static struct {
	const char *tag;
	enum log_level least;
	bool journal;
} sink = { "migrated", LOG_INFO_, false };

static const char *const names[] = { "debug", "info", "warn", "error" };
static const char *const journal_prefixes[] = { "<7>", "<6>", "<4>", "<3>" };

void log_open(const char *tag, enum log_level least)
{
	sink.tag = tag;
	sink.least = least;
	sink.journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	autofree char *text = NULL;
	va_list ap;

	if (level < sink.least)
		return;
	va_start(ap, fmt);
	text = xvprintf(fmt, ap);
	va_end(ap);
	text_plain(text); /* whoever wrote parts of it */
	/* One write, so that lines of several processes do not mix. */
	if (sink.journal)
		dprintf(STDERR_FILENO, "%s%s: %s\n", journal_prefixes[level], sink.tag, text);
	else
		dprintf(STDERR_FILENO, "%s %s %s\n", names[level], sink.tag, text);
}
