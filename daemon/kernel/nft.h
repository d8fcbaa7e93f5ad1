/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nf_tables transactions over libmnl: messages of one batch, all in force when it returns, or none.
 * Only what the network lock needs. Source: <linux/netfilter/nf_tables.h>.
 */
#pragma once

#include <linux/netlink.h>

#include "base/err.h"

struct nft;

struct nft *nft_new(void);
void nft_free(struct nft *n);
void nft_freep(struct nft **n);

/* A table, by its name. */
struct nft_table {
	uint8_t family; /* NFPROTO_INET, NFPROTO_ARP */
	const char *name;
};
void nft_table_made(struct nft *n, const struct nft_table *t, bool must_be_new);
void nft_table_gone(struct nft *n, const struct nft_table *t);
/* A base chain of type filter. */
void nft_chain(struct nft *n, const struct nft_table *t, const char *chain, uint32_t hook,
	int32_t priority);
/* id: any number that is this set's alone in the batch. key_bytes: of its elements. */
void nft_set(
	struct nft *n, const struct nft_table *t, const char *set, uint32_t id, uint32_t key_bytes);
/* `count` elements of `bytes` each, one behind the other. */
struct nft_keys {
	const void *v;
	size_t bytes, count;
};
/* Those that are there already stay. */
void nft_elements(
	struct nft *n, const struct nft_table *t, const char *set, const struct nft_keys *keys);

/* A rule: begun, its expressions in order, ended by its verdict (NF_DROP, NF_ACCEPT). Registers
 * count 4 bytes each, from 0. */
void nft_rule(struct nft *n, const struct nft_table *t, const char *chain);
/* Before all others of its chain. */
void nft_rule_first(struct nft *n, const struct nft_table *t, const char *chain);
/* base: NFT_PAYLOAD_*. */
void nft_load(struct nft *n, uint32_t reg, uint32_t base, uint32_t offset, uint32_t len);
void nft_load_meta(struct nft *n, uint32_t reg, uint32_t key);
void nft_mask(struct nft *n, uint32_t reg, const void *mask, size_t len);
/* op: NFT_CMP_*. */
void nft_compare(struct nft *n, uint32_t reg, uint32_t op, const void *value, size_t len);
/* set_id: as in nft_set if it is of this batch. */
void nft_lookup(struct nft *n, uint32_t reg, const char *set, uint32_t set_id);
void nft_verdict(struct nft *n, uint32_t verdict);

/* Sends it and waits for the answer. The errno is the kernel's of the first message that it did not
 * take; a text of its own is in the error. */
struct err *nft_commit(struct nft *n) must_check;

/* Calls fn for each table of that family. An error of EINTR: rules were changed meanwhile, by
 * whomever; what fn has been told counts for nothing, to be asked again. */
struct err *nft_tables(
	uint8_t family, void (*fn)(void *arg, const char *table), void *arg) must_check;
