# SPDX-License-Identifier: Apache-2.0
"""odd_start.py PROGRAM ARGS...: executes it with an odd value of everything that is inherited."""
import ctypes
import os
import resource
import signal
import sys

libc = ctypes.CDLL(None, use_errno=True)

PR_SET_TIMERSLACK, PR_SET_THP_DISABLE, PR_CAP_AMBIENT, PR_SET_MEMORY_MERGE = 29, 41, 47, 67
PR_SET_SECUREBITS, PR_SET_SPECULATION_CTRL, PR_SET_CHILD_SUBREAPER, PR_SET_TSC = 28, 53, 36, 26
CAP_NET_RAW, CAP_SYS_TIME, CAP_SYS_RESOURCE = 13, 25, 24
SYS_CAPGET, SYS_CAPSET, SYS_KEYCTL, SYS_IOPRIO_SET, SYS_SET_MEMPOLICY = 125, 126, 250, 251, 238


def must(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), "%s: %s" % (what, os.strerror(ctypes.get_errno())))
    return result


def prctl(option, *args, optional=False):
    result = libc.prctl(option, *[ctypes.c_ulong(a) for a in (args + (0,) * 4)[:4]])
    return result if optional else must(result, "prctl %d" % option)


def write(path, text, optional=False):
    try:
        with open(path, "w") as f:
            f.write(text)
    except OSError:
        if not optional:
            raise


def ambient():
    """Inheritable first, then ambient."""
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    must(libc.syscall(SYS_CAPGET, head, data), "capget")
    data[2] |= 1 << CAP_NET_RAW | 1 << CAP_SYS_TIME
    must(libc.syscall(SYS_CAPSET, head, data), "capset")
    for cap in (CAP_NET_RAW, CAP_SYS_TIME):
        prctl(PR_CAP_AMBIENT, 2, cap)


def may_raise_limits():
    with open("/proc/self/status") as f:
        return int(next(l for l in f if l.startswith("CapEff")).split()[1], 16) >> CAP_SYS_RESOURCE & 1


def limits():
    """Hard limits only where a daemon can raise them again: elsewhere it refuses, by name."""
    raises = may_raise_limits()
    for which, soft, hard in (
            (resource.RLIMIT_NOFILE, 700, 3000), (resource.RLIMIT_CORE, 4096, 8192),
            (resource.RLIMIT_STACK, 4 << 20, resource.RLIM_INFINITY),
            (resource.RLIMIT_SIGPENDING, 777, 7777), (resource.RLIMIT_MSGQUEUE, 111111, 222222),
            (resource.RLIMIT_CPU, 500000, 600000)):
        if not raises:
            hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(which, (soft, hard))


def main():
    os.setgroups([5, 55, 555])
    os.umask(0o137)
    os.environ["ODD_SECRET"] = "must-not-travel"
    limits()
    write("/proc/self/oom_score_adj", "321")
    write("/proc/self/coredump_filter", "0x7f")
    write("/proc/self/autogroup", "7", optional=True)  # of the session that we are in
    write("/proc/self/loginuid", "4321", optional=True)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 3)
    must(libc.syscall(SYS_IOPRIO_SET, 1, 0, 3 << 13), "ioprio_set")  # idle
    mask = (ctypes.c_ulong * 1)(1)
    must(libc.syscall(SYS_SET_MEMPOLICY, 1, mask, ctypes.c_ulong(64)), "set_mempolicy")  # preferred
    prctl(PR_SET_TIMERSLACK, 12345678)
    prctl(PR_SET_THP_DISABLE, 1)
    prctl(PR_SET_MEMORY_MERGE, 1, optional=True)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    must(libc.personality(0x0040000 | 0x0100000 | 0x4000000), "personality")  # no randomisation, ...
    must(libc.syscall(SYS_KEYCTL, 1, b"odd-session"), "keyctl")
    prctl(PR_SET_SECUREBITS, 1 << 4)  # SECBIT_KEEP_CAPS, the one that needs no other care
    ambient()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN + 3})
    os.execvp(sys.argv[1], sys.argv[1:])


main()
