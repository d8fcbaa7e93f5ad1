// SPDX-License-Identifier: Apache-2.0
/* Capability names in the order of linux/capability.h (6.18: 41 of them). */
#include "kernel/capability.h"

#include <unistd.h>

#include "kernel/proc.h"

static const char *const names[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

const char *capability_name(struct arena *a, unsigned cap)
{
	if (cap < ARRAY_LEN(names))
		return names[cap];
	return arena_printf(a, "capability %u", cap);
}

struct err *capability_have(struct arena *a, unsigned cap, bool *ret)
{
	struct proc_status own;

	if (cap >= CAPABILITIES_MAX)
		return err_new(ERR_BUG, "there is no capability %u", cap);
	TRY(proc_status(a, getpid(), 0, &own));
	*ret = own.cap_eff >> cap & 1;
	return NULL;
}
