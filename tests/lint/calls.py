#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""In files that confined processes run, every use of a function that is a system call has that call in
a tag of the same file (@calls, daemon/kernel/confine.h): for a list, or for `none` where no confined
process comes by. And every list is written down where SECURITY.md says what it is for."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "daemon/kernel"))
import calls  # noqa: E402

# What control, net, its helper and page threads are made of. Whole folders: a new file is in.
FOLDERS = ("session", "wire", "pages")
FILES = ("base/io.c", "roles/ipc.c", "roles/control.c", "roles/net.c", "roles/connection.c",
         "roles/names.c", "roles/refuse.c", "roles/doors.c", "roles/rates.c", "roles/audit.c", "roles/seen.c",
         "roles/migrations.c", "engine/crew.c", "engine/lanes.c", "engine/outgoing.c",
         "kernel/pump.c")
# function: system call
WRAPPERS = {
    "accept4": "accept4", "alarm": "alarm", "bind": "bind", "connect": "connect", "dup": "dup",
    "dup2": "dup2", "dup3": "dup3", "fallocate": "fallocate", "lstat": "newfstatat", "stat": "newfstatat",
    "prctl": "prctl", "madvise": "madvise", "openat": "openat", "ppoll": "ppoll", "mkdir": "mkdir",
    "unlink": "unlink", "rename": "rename", "execv": "execve", "execve": "execve", "ptrace": "ptrace",
    "sendfile": "sendfile", "pipe": "pipe2", "sigaction": "rt_sigaction", "signal": "rt_sigaction",
    "eventfd": "eventfd2", "fcntl": "fcntl", "fstat": "newfstatat", "fork": "clone", "ftruncate": "ftruncate",
    "getpeername": "getpeername", "getsockname": "getsockname", "getsockopt": "getsockopt",
    "ioctl": "ioctl", "kill": "kill", "listen": "listen", "lseek": "lseek",
    "memfd_create": "memfd_create", "open": "openat", "pipe2": "pipe2", "poll": "poll",
    "pread": "pread64", "process_vm_readv": "process_vm_readv",
    "process_vm_writev": "process_vm_writev", "pwrite": "pwrite64", "read": "read",
    "recv": "recvfrom", "recvmsg": "recvmsg", "send": "sendto", "sendmsg": "sendmsg",
    "setsockopt": "setsockopt", "shutdown": "shutdown", "socket": "socket",
    "socketpair": "socketpair", "splice": "splice", "tee": "tee", "vmsplice": "vmsplice",
    "waitpid": "wait4", "write": "write", "writev": "writev", "readv": "readv",
}
DIRECT = re.compile(r"\bsyscall\(\s*SYS_(\w+)")
USE = re.compile(r"(?<![\w.>])(%s)\(" % "|".join(sorted(WRAPPERS, key=len, reverse=True)))


def strip(text):
    """Without comments and strings, line numbers kept."""
    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\""
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)


def files():
    for folder in FOLDERS:
        for name in sorted(os.listdir(os.path.join(ROOT, "daemon", folder))):
            if name.endswith(".c"):
                yield "%s/%s" % (folder, name)
    yield from FILES


def check(own):
    with open(os.path.join(ROOT, "daemon", own)) as f:
        text = f.read()
    named = {word.split("[")[0] for _, word in calls.tags(text, own)}
    code = strip(text)
    local = set(re.findall(r"^static [^;=\n]*?(\w+)\([^;]*?\)\n\{", code, re.M))
    for number, line in enumerate(code.split("\n"), 1):
        uses = [(m.group(1), WRAPPERS[m.group(1)]) for m in USE.finditer(line)
                if m.group(1) not in local]
        uses += [("syscall", m.group(1)) for m in DIRECT.finditer(line)]
        for function, call in uses:
            if call not in named:
                yield "%s:%d: %s() without a tag for %s" % (own, number, function, call)


def main():
    problems = [p for own in files() for p in check(own)]
    found = calls.collect(os.path.join(ROOT, "daemon"))
    for name in calls.LISTS:
        if not calls.whole(found, name):
            problems.append("the list %s is empty" % name)
    with open(os.path.join(ROOT, "SECURITY.md")) as f:
        security = f.read()
    problems += ["SECURITY.md does not say what the list %s is for" % n for n in calls.LISTS
                 if "`%s`" % n not in security]
    print("\n".join(problems) or "calls: ok, " + ", ".join(
        "%s %d" % (n, len(calls.whole(found, n))) for n in calls.LISTS))
    return 1 if problems else 0


sys.exit(main())
