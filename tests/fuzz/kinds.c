// SPDX-License-Identifier: Apache-2.0
/*
 * One object of any kind through its whole life at a destination: check, rebuild, link, finish,
 * publish, or discard. The input: kind (first byte, an index), what becomes of it (second), its id
 * (16 bits), then its message.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "site.h"

const char *(*const fuzz_prepare)(void) = fuzz_jail;

static struct err *send_object(
	struct site *s, const struct kind *k, uint8_t how, const struct feed *f)
{
	autoarena struct arena *a = arena_new();
	Migrate__Objects m = MIGRATE__OBJECTS__INIT;
	Migrate__Object o = MIGRATE__OBJECT__INIT, *changed[] = { &o };
	Migrate__FdSlot slot = MIGRATE__FD_SLOT__INIT, *slots[] = { &slot };
	Migrate__Owner owner = MIGRATE__OWNER__INIT;
	struct feed rest = *f;
	const uint8_t *body;
	size_t len;

	o.kind = k->id;
	o.id = feed_u16(&rest);
	o.group = how & 2 ? 1 : how & 4 ? (uint64_t)k->id << 56 | 1 : 0;
	slot.number = (uint32_t)MAX(o.id, (uint64_t)1) - 1;
	o.slots = slots;
	o.n_slots = k->scope == KIND_FILE;
	owner.pid = SITE_PID;
	owner.signal = 10;
	o.owner = how & 8 ? &owner : NULL;
	o.body = (ProtobufCBinaryData){ rest.n, (uint8_t *)(uintptr_t)rest.p };
	m.changed = changed;
	m.n_changed = 1;
	kind_pack(a, &m.base, &body, &len);
	return site_objects(s, body, len);
}

static struct err *live(struct site *s, const struct kind *k, uint8_t how, const struct feed *f)
{
	TRY(send_object(s, k, how, f));
	TRY(fuzz_site_layout(s));
	TRY(site_check(s));
	TRY(site_build(s));
	if (how & 16) /* it changes when the process stands still */
		TRY(send_object(s, k, how, f));
	TRY(site_settle(s));
	TRY(site_finish(s, 1000));
	if (how & 32)
		return NULL; /* given up */
	TRY(site_hold(s));
	TRY(site_start(s));
	site_publish(s);
	return NULL;
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct feed f = { data, n };
	struct notes notes = { 0 };
	size_t n_kinds;
	const struct kind *const *all = kinds_all(&n_kinds);
	const struct kind *k = all[feed_u8(&f) % n_kinds];
	uint8_t how = feed_u8(&f);
	struct site *s;

	MUST(mkdir(SITE_SCRATCH, 0700) == 0);
	s = fuzz_site(&notes);
	fuzz_forget(live(s, k, how, &f));
	site_free(s);
	fuzz_notes(&notes);
	MUST(access(SITE_SCRATCH, F_OK) < 0);
	return 0;
}
