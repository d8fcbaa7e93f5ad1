// SPDX-License-Identifier: Apache-2.0
/* kernel/sockdiag: answers of the kernel (each behind its length, 16 bits), as an older or newer
 * one could give them. First byte: which question was asked. */
#include "kernel/sockdiag.c" /* NOLINT: what it does is static */

#include "fuzz.h"

const char *(*const fuzz_prepare)(void) = fuzz_nothing;

/* The header is the kernel's own: only what is in it can be new to us. */
static void answer(mnl_cb_t cb, void *arg, const struct feed *body)
{
	size_t n = MNL_NLMSG_HDRLEN + MNL_ALIGN(body->n);
	struct nlmsghdr *h = xcalloc(1, n);

	h->nlmsg_len = (uint32_t)(MNL_NLMSG_HDRLEN + body->n);
	h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	if (body->n)
		memcpy(mnl_nlmsg_get_payload(h), body->p, body->n);
	(void)mnl_cb_run(h, n, 0, 0, cb, arg);
	free(h);
}

int fuzz_one(const uint8_t *data, size_t n)
{
	struct diag_unix u = { 0 };
	struct file_query q = { .inode = 1 };
	struct diag_inet d = { 0 };
	struct inet_search s = { .inode = 0, .d = &d };
	struct feed f = { data, n }, body;
	uint8_t which = feed_u8(&f);

	while (feed_piece(&f, &body)) {
		if (which % 3 == 0)
			answer(unix_answer, &u, &body);
		else if (which % 3 == 1)
			answer(file_answer, &q, &body);
		else
			answer(inet_answer, &s, &body);
	}
	return 0;
}
