// SPDX-License-Identifier: Apache-2.0
#include "roles/why.h"

struct err *why_err(char why, const char *peer, const char *side)
{
	switch (why) {
	case WHY_ENDING:
		return err_new(ERR_CANCELLED, "migrated is ending at the %s", side);
	case WHY_REVOKED:
		return err_hint(
			err_new(ERR_DENIED, "%s, or its key, was removed from the peers of the %s",
				peer, side),
			"migratectl peer add there, if that was not meant");
	case WHY_SILENT:
		return err_new(ERR_TIMEOUT, "%s connected, then did not say what it wants", peer);
	case WHY_CROWDED:
		return err_hint(err_new(ERR_LIMIT, "too many connections that do not say what they "
						   "want"),
			"try again later");
	default:
		return err_new(ERR_CANCELLED, "cancelled");
	}
}
