/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of sockdiag. */
#pragma once

#include <libmnl/libmnl.h>

#include "base/err.h"

/* A request of this size at least can be put into buf. */
struct nlmsghdr *diag_head(void *buf, unsigned flags);
/* Sends one request and gives every answer to cb (NULL: the kernel's word is enough), to the end.
 */
struct err *diag_ask(struct nlmsghdr *req, mnl_cb_t cb, void *arg) must_check;
