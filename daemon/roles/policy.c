// SPDX-License-Identifier: Apache-2.0
#include "roles/policy.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

void uid_set_fini(struct uid_set *s)
{
	free(s->v);
	*s = (struct uid_set){ NULL, 0 };
}

static struct err *parse_range(const char *text, struct uid_range *ret)
{
	autofree char *copy = xstrdup(text);
	char *dash = strchr(copy, '-');
	uint64_t first, last;

	if (dash)
		*dash++ = 0;
	TRY(text_u64(copy, 10, "uid", &first));
	last = first;
	if (dash)
		TRY(text_u64(dash, 10, "uid", &last));
	/* (uid_t)-1 means "unchanged" to the kernel and is nobody's. */
	if (first > last || last >= UINT32_MAX)
		return err_new(ERR_INVALID, "%s is no range of uids", text);
	*ret = (struct uid_range){ (uint32_t)first, (uint32_t)last };
	return NULL;
}

struct err *uid_set_parse(struct uid_set *s, const char *text)
{
	autofree char *copy = xstrdup(text);
	AUTO(uid_set_fini) struct uid_set new = { NULL, 0 };
	char *save = NULL;

	if (strcmp(text, "any") != 0) {
		for (char *w = strtok_r(copy, ", \t", &save); w;
			w = strtok_r(NULL, ", \t", &save)) {
			struct uid_range r;

			TRY(parse_range(w, &r));
			new.v = xrealloc_array(new.v, new.n + 1, sizeof(*new.v));
			new.v[new.n++] = r;
		}
		if (!new.n)
			return err_new(ERR_INVALID, "\"%s\" names no uid", text);
	}
	uid_set_fini(s);
	*s = new;
	new = (struct uid_set){ NULL, 0 };
	return NULL;
}

void uid_set_copy(struct uid_set *s, const struct uid_set *from)
{
	struct uid_range *v = from->n ? xrealloc_array(NULL, from->n, sizeof(*v)) : NULL;

	if (from->n)
		memcpy(v, from->v, from->n * sizeof(*v));
	uid_set_fini(s);
	*s = (struct uid_set){ v, from->n };
}

bool uid_set_has(const struct uid_set *s, uint32_t uid)
{
	for (size_t i = 0; i < s->n; i++)
		if (uid >= s->v[i].first && uid <= s->v[i].last)
			return true;
	return s->n == 0;
}

char *uid_set_text(const struct uid_set *s)
{
	struct text t = { NULL, 0, 0 };

	if (!s->n)
		text_addf(&t, "any");
	for (size_t i = 0; i < s->n; i++)
		text_addf(&t, "%s%u-%u", i ? "," : "", s->v[i].first, s->v[i].last);
	return t.s;
}

/* What nobody may move. */
static struct err *movable_at_all(const struct subject *s)
{
	if (s->kernel_thread)
		return err_hint(err_new(ERR_UNSUPPORTED, "%d (%s) is a thread of the kernel",
					s->pid, s->comm),
			"only processes of user space can be moved");
	if (s->ours)
		return err_hint(
			err_new(ERR_UNSUPPORTED, "%d is a process of migrated itself", s->pid),
			"name the process that you want to move");
	if (s->pid == 1)
		return err_new(ERR_UNSUPPORTED, "1 (%s) is this host's init", s->comm);
	if (s->zombie)
		return err_new(ERR_GONE, "%d (%s) has ended; its parent has not waited for it yet",
			s->pid, s->comm);
	return NULL;
}

void asker_fini(struct asker *a)
{
	free(a->groups);
	*a = (struct asker){ .uid = UINT32_MAX };
}

struct asker asker_copy(const struct asker *a)
{
	struct asker copy = *a;

	copy.groups = xrealloc_array(NULL, a->n_groups + 1, sizeof(*copy.groups));
	if (a->n_groups)
		memcpy(copy.groups, a->groups, a->n_groups * sizeof(*copy.groups));
	return copy;
}

void rights_fini(struct rights *r)
{
	free(r->uids);
	free(r->gids);
	*r = (struct rights){ NULL, 0, NULL, 0, 0, 0 };
}

void subject_fini(struct subject *s)
{
	rights_fini(&s->rights);
}

/* ---- local users ---- */

enum who { EVERYBODY, OWNER, ROOT };

static const struct {
	enum who who; /* and root in any case */
	const char *denied, *hint;
} may[MAY_VERBS] = {
	[MAY_LIST] = { EVERYBODY, NULL, NULL },
	[MAY_IDENTITY] = { EVERYBODY, NULL, NULL },
	[MAY_PEERS] = { EVERYBODY, NULL, NULL },
	[MAY_SEND] = { OWNER, "that process is not yours", "ask root of this host" },
	[MAY_DETAILS] = { OWNER, "reasons are shown to root and to who began the migration",
		"ask them" },
	[MAY_CANCEL] = { OWNER, "that migration is not yours", "ask root, or who began it" },
	[MAY_RESOLVE] = { OWNER, "that migration is not yours", "ask root, or who began it" },
	[MAY_CHANGE_PEERS] = { ROOT, "only root may change the peers", "run it with sudo" },
	[MAY_CHANGE_KEY] = { ROOT, "only root may change this host's key", "run it with sudo" },
};

struct err *policy_may(enum policy_verb verb, uint32_t who, uint32_t owner)
{
	if (who == 0 || may[verb].who == EVERYBODY || (may[verb].who == OWNER && who == owner))
		return NULL;
	return err_hint(err_new(ERR_DENIED, "%s (you are uid %u)", may[verb].denied, who), "%s",
		may[verb].hint);
}

static bool has_group(const struct asker *who, uint32_t gid)
{
	bool has = gid == who->gid;

	for (size_t i = 0; i < who->n_groups; i++)
		has = has || who->groups[i] == gid;
	return has;
}

/* Nobody moves what they could not have made: every id of every thread is the asker's, and none has
 * a capability. That is what the kernel asks of a tracer, and groups besides. */
static struct err *own(const struct asker *who, const struct subject *s)
{
	const struct rights *r = &s->rights;

	for (size_t i = 0; i < r->n_uids; i++)
		if (r->uids[i] != who->uid)
			return policy_may(MAY_SEND, who->uid, r->uids[i]);
	for (size_t i = 0; i < r->n_gids; i++)
		if (!has_group(who, r->gids[i]))
			return err_new(ERR_DENIED,
				"%d (%s) has the group %u, and you have not: it is not yours alone",
				s->pid, s->comm, r->gids[i]);
	if (r->capabilities)
		return err_new(ERR_DENIED, "%d (%s) has capabilities (%#jx): it is not yours alone",
			s->pid, s->comm, (uintmax_t)r->capabilities);
	if (s->owner != who->uid)
		return err_new(ERR_DENIED,
			"%d (%s) is not dumpable: it has secrets that are not yours", s->pid,
			s->comm);
	return NULL;
}

struct err *policy_send(const struct asker *who, bool users_own, const struct subject *s)
{
	TRY(movable_at_all(s));
	if (who->uid == 0)
		return NULL;
	TRY_IN(err_hint(own(who, s), "ask root of this host"), "%d (%s) may not be moved by you",
		s->pid, s->comm);
	if (!users_own)
		return err_hint(err_new(ERR_DENIED, "this host lets only root move processes"),
			"root can set allow_users = own in migrated.conf");
	return NULL;
}

/* ---- peers ---- */

struct err *policy_receive(const struct receive_policy *p, uint32_t uid, uint64_t bytes)
{
	if (!p->allow)
		return err_hint(err_new(ERR_DENIED, "no process may come here from your host"),
			"see allow_receive in migrated.conf of the destination");
	if (!uid_set_has(&p->uids, uid))
		return err_hint(err_new(ERR_DENIED, "a process of uid %u may not come here", uid),
			"see allow_uids in migrated.conf of the destination");
	if (p->max_memory && bytes > p->max_memory)
		return err_hint(
			err_new(ERR_DENIED,
				"it needs %ju MiB, processes of up to %ju MiB may come here",
				(uintmax_t)(bytes >> 20), (uintmax_t)(p->max_memory >> 20)),
			"see max_memory in migrated.conf of the destination");
	return NULL;
}

struct err *policy_count(const struct receive_policy *p, size_t n)
{
	if (!p->max_processes || n <= p->max_processes)
		return NULL;
	return err_hint(
		err_new(ERR_DENIED,
			"it is %zu processes with its descendants, %ju may come here at once", n,
			(uintmax_t)p->max_processes),
		"see max_processes in migrated.conf of the destination");
}

struct err *policy_rebuilt(const struct receive_policy *p, const struct rights *r)
{
	for (size_t i = 0; i < r->n_uids; i++)
		TRY(policy_receive(p, r->uids[i], r->memory_bytes));
	if (p->allow_capabilities || !r->capabilities)
		return NULL;
	return err_hint(err_new(ERR_DENIED, "a process with capabilities (%#jx) may not come here",
				(uintmax_t)r->capabilities),
		"see allow_capabilities in migrated.conf of the destination");
}
