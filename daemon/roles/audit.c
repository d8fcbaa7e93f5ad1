// SPDX-License-Identifier: Apache-2.0
#include "roles/audit.h"

#include "base/log.h"
#include "base/text.h"

static void add(struct text *t, const char *key, const char *value)
{
	if (!value || !value[0])
		return;
	text_addf(t, " %s=", key);
	text_value(t, value);
}

char *audit_text(const struct audit *a)
{
	struct text t = { NULL, 0, 0 };
	autofree char *reason = a->denied ? err_line(a->denied) : NULL;

	text_addf(&t, "audit what=%s decision=%s", a->what, a->denied ? "denied" : "allowed");
	if (a->who)
		text_addf(&t, " uid=%u client=%d", a->who->uid, a->who->pid);
	add(&t, "from", a->from);
	add(&t, "peer", a->peer);
	add(&t, "key", a->key);
	add(&t, "id", a->id);
	if (a->pid)
		text_addf(&t, " pid=%d", a->pid);
	add(&t, "comm", a->comm);
	if (a->has_uid)
		text_addf(&t, " process-uid=%u", a->uid);
	add(&t, "argument", a->other);
	if (a->denied)
		text_addf(&t, " code=%s", err_code_name(err_code(a->denied)));
	add(&t, "reason", reason);
	return t.s;
}

void audit(const struct audit *a)
{
	autofree char *line = audit_text(a);

	if (a->denied)
		log_warn("%s", line);
	else
		log_info("%s", line);
}
