/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TLS connection that OpenSSL has set up goes on in the kernel.
 *
 * OpenSSL 3.0 offers the kernel only the sending half of a TLS 1.3 connection, and later versions
 * offer both but while the handshake runs, before HELLO. So the keys are derived here, from the
 * traffic secrets, and both halves start where OpenSSL stands: at its count of records.
 * Linux cannot take new keys for such a socket (6.1, 6.12: EBUSY): the peer must not send
 * KeyUpdate, so HELLO tells it that this side's connection may be the kernel's.
 */
#pragma once

#include <linux/tls.h>

#include "session/tls.h"

struct ktls_keys {
	struct tls12_crypto_info_aes_gcm_128 tx, rx;
};
/* Both halves as the kernel wants them. UNSUPPORTED says why OpenSSL must keep the connection:
 * another cipher, bytes of the peer that it has read already, keys that are not the first ones. */
struct err *ktls_keys(const struct tls *t, struct ktls_keys *ret) must_check;
void ktls_keys_wipe(struct ktls_keys *k);

/* Whether this kernel has it at all, and which reason it gives if not. Its module is loaded where
 * the caller may (CAP_NET_ADMIN): those who have the connections may not. Needs a loopback device.
 */
struct err *ktls_load(void) must_check;

/* Whether the kernel could do it for this connected socket; nothing changes for those who read and
 * write it. Before the handshake: HELLO carries the answer. errno says why not. */
bool ktls_possible(int tcp_fd);

/* Hands both halves to the kernel. On success the SSL is freed without a word to the peer, and the
 * socket, which reads and writes plain text now, is the caller's. On error the connection is either
 * as it was, and OpenSSL can go on, or, where *ruined is set, at its end. */
struct err *ktls_take_over(struct tls **t, int *tcp_fd, bool *ruined) must_check;
