# SPDX-License-Identifier: Apache-2.0
"""A program that says, whenever it gets SIGUSR1, what only it can ask the kernel about itself."""
import ctypes
import json
import os
import resource
import signal
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
PRCTLS = {"timer slack": 30, "securebits": 27, "thp": 42, "subreaper": None, "merge": 68, "mdwe": 66,
          "io flusher": 58, "dumpable": 3, "keepcaps": 7, "store bypass": (52, 0), "indirect branch": (52, 1),
          "l1d flush": (52, 2)}


def prctl(what):
    option, arg = what if isinstance(what, tuple) else (what, 0)
    return libc.prctl(option, ctypes.c_ulong(arg), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def facts():
    out = {name: prctl(n) for name, n in PRCTLS.items() if n is not None}
    value = ctypes.c_int(-1)
    libc.prctl(37, ctypes.byref(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    out["subreaper"] = value.value
    out["umask"] = os.umask(0)
    os.umask(out["umask"])
    out["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
    out["scheduler"] = os.sched_getscheduler(0)
    out["affinity"] = sorted(os.sched_getaffinity(0))
    out["ioprio"] = libc.syscall(252, 1, 0)
    out["personality"] = libc.personality(ctypes.c_ulong(0xffffffff))
    out["groups"] = os.getgroups()
    out["limits"] = {n: resource.getrlimit(n) for n in range(16)}
    out["environ"] = dict(os.environ)
    policy = ctypes.c_int(-1)
    libc.syscall(239, ctypes.byref(policy), None, ctypes.c_ulong(0), None, ctypes.c_ulong(0))
    out["mempolicy"] = policy.value
    buf = ctypes.create_string_buffer(256)
    # the description of the session keyring: its name tells whose it is
    n = libc.syscall(250, 6, ctypes.c_int(-3), buf, ctypes.c_ulong(256), 0)
    out["session keyring"] = buf.value.decode().split(";")[-1] if n > 0 else ""
    return out


def child():
    """What a child of it gets from here on: defaults that nothing shows in the parent."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.prctl(29, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
        out = {"default timer slack": prctl(30)}
        os.write(w, json.dumps(out).encode())
        os._exit(0)
    os.close(w)
    said = json.loads(os.read(r, 4096))
    os.close(r)
    os.waitpid(pid, 0)
    return said


def tell(number, frame):
    with open(sys.argv[1] + ".new", "w") as f:
        json.dump(dict(facts(), **child()), f, sort_keys=True)
    os.rename(sys.argv[1] + ".new", sys.argv[1])


signal.signal(signal.SIGUSR1, tell)
print("ready", flush=True)
while True:
    time.sleep(1000)
