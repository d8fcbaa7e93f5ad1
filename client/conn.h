/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to the daemon: a Request goes out, Replies come in until one is the last. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "control.pb-c.h"

#define CONN_MESSAGE_MAX (1u << 20)

struct err *conn_open(const char *path, int *fd) must_check;
struct err *conn_send(int fd, const Migrate__Request *req) must_check;
/* Blocks; the reply lives in the arena. */
struct err *conn_recv(int fd, struct arena *a, Migrate__Reply **ret) must_check;
/* A message without its length, into the arena. */
struct err *conn_unpack(
	struct arena *a, const uint8_t *buf, size_t n, Migrate__Reply **ret) must_check;
/* A whole exchange with one reply; a reply that is an error becomes one. */
struct err *conn_ask(const char *path, const Migrate__Request *req, struct arena *a,
	Migrate__Reply **ret) must_check;
/* The error as the daemon sent it, without side and state. */
struct err *conn_error(const Migrate__Error *e) must_check;
