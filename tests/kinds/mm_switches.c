// SPDX-License-Identifier: Apache-2.0
/* What prctl(2) and membarrier(2) keep for a whole address space. */
#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "subject_memory.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE         65
#define PR_GET_MDWE         66
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif

/* A fence that was registered works, another one is EPERM. */
static const int registered[] = { MEMBARRIER_CMD_PRIVATE_EXPEDITED,
	MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ };
#define GET_REGISTRATIONS (1 << 9) /* Linux 6.3 */

static int barrier(int command)
{
	return (int)syscall(SYS_membarrier, command, 0, 0);
}

int main(void)
{
	int mdwe = prctl(PR_SET_MDWE, 1, 0, 0, 0) == 0;
	int merge = prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;
	/* With a flag since Linux 6.18: but where it was asked for. */
	int thp = prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0) == 0   ? 3
		  : prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 ? 1
							       : 0;
	int fences[2], global, known;

	for (int i = 0; i < 2; i++) /* the registration is the next bit */
		fences[i] = barrier(registered[i] << 1) == 0;
	global = barrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
	known = barrier(GET_REGISTRATIONS);
	subject_wait_moved();
	for (int i = 0; i < 2; i++)
		CHECK(!fences[i] || barrier(registered[i]) == 0);
	CHECK(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE) < 0);
	CHECK(barrier(GET_REGISTRATIONS) == known);
	CHECK(!mdwe || prctl(PR_GET_MDWE, 0, 0, 0, 0) == 1);
	CHECK(!merge || prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1);
	CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == thp);
	dprintf(1, "mdwe %d, merge %d, no huge pages %d, fences %d %d %d\n", mdwe, merge, thp,
		fences[0], fences[1], global);
	return subject_ok();
}
