# SPDX-License-Identifier: Apache-2.0
"""Executes a program under a filter as those of container engines: what is not known there, and what it
need not do, fails with EPERM. Of that, migrated itself calls in it what it must. With "kill" it is ended for
such calls, as a systemd unit without SystemCallErrorNumber= is.

  contained.py allow|kill PROGRAM ARGS...
"""
import os
import sys

import seccomp

CALLS = 500
REFUSED = ("acct", "bpf", "clock_settime", "delete_module", "fanotify_init", "finit_module", "get_mempolicy",
           "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "kcmp", "kexec_load",
           "lookup_dcookie", "mbind", "modify_ldt", "mount", "move_pages", "open_by_handle_at", "perf_event_open",
           "personality", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot",
           "set_mempolicy", "setns", "swapon", "umount2", "unshare", "userfaultfd", "vmsplice")


def name_of(nr):
    try:
        return seccomp.resolve_syscall(seccomp.Arch(), nr).decode()
    except ValueError:
        return None


def main():
    action = {"allow": seccomp.ERRNO(1), "kill": seccomp.KILL_PROCESS}[sys.argv[1]]
    f = seccomp.SyscallFilter(action)
    for name in filter(None, map(name_of, range(CALLS))):
        if name not in REFUSED:
            f.add_rule(seccomp.ALLOW, name)
    f.load()
    os.execvp(sys.argv[2], sys.argv[2:])


main()
