// SPDX-License-Identifier: Apache-2.0
/* What prctl(2) keeps for a whole address space. */
#include <sys/prctl.h>

#include "subject_memory.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE         65
#define PR_GET_MDWE         66
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif

int main(void)
{
	int mdwe = prctl(PR_SET_MDWE, 1, 0, 0, 0) == 0;
	int merge = prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;
	/* With a flag since Linux 6.18: but where it was asked for. */
	int thp = prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0) == 0   ? 3
		  : prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 ? 1
							       : 0;

	subject_wait_moved();
	CHECK(!mdwe || prctl(PR_GET_MDWE, 0, 0, 0, 0) == 1);
	CHECK(!merge || prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1);
	CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == thp);
	dprintf(1, "mdwe %d, merge %d, no huge pages %d\n", mdwe, merge, thp);
	return subject_ok();
}
