// SPDX-License-Identifier: Apache-2.0
#include "base/forked.h"

#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

void fork_leaks(void)
{
#ifdef __SANITIZE_ADDRESS__
	__lsan_do_leak_check();
#endif
}

void fork_exit(int status)
{
	fork_leaks();
	_exit(status);
}
