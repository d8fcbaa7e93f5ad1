# SPDX-License-Identifier: Apache-2.0
"""A tree that changes when it is told to, in the middle of a move. The root counts, and says what it sees of
the others; each of them holds a record lock. `do.X` in the directory has X done, `done.X` says that it is.
"""
import ctypes
import fcntl
import os
import sys
import time

DIR = sys.argv[1]
KEPT = {}


def path(name):
    return os.path.join(DIR, name)


def wait_told(what):
    """Removes what told it."""
    while not os.path.exists(path("do." + what)):
        time.sleep(0.002)
    os.unlink(path("do." + what))


def say(what):
    open(path("done." + what), "w").close()


def lock(name):
    KEPT[name] = open(path(name), "w")
    fcntl.lockf(KEPT[name], fcntl.LOCK_EX)


def fill():
    """Memory that nobody else has, with the process's number in each page."""
    KEPT["memory"] = bytearray(b"".join(b"%16d" % os.getpid() + bytes(4080) for _ in range(512)))


def check():
    m = KEPT["memory"]
    return all(int(m[i:i + 16]) == os.getpid() for i in range(0, len(m), 4096))


def live(name, until=None):
    """Writes down its number, its parent's and whether its memory is right, again and again."""
    lock("lock." + name)
    fill()
    out = os.open(path("live." + name + ".new"), os.O_WRONLY | os.O_CREAT)
    first = True
    while not (until and os.path.exists(path("do." + until))):
        os.pwrite(out, b"%-60s\n" % (b"%d %d %d %f" % (os.getpid(), os.getppid(), check(), time.monotonic())), 0)
        if first:  # from now on it is complete, and its name stays
            os.rename(path("live." + name + ".new"), path("live." + name))
        first = False
        time.sleep(0.005)


def parent():
    """Ends when it is told, and leaves a child behind: to the root, a subreaper."""
    if os.fork() == 0:
        live("orphan")
    lock("lock.parent")
    wait_told("leave")
    say("leave")
    os._exit(0)


def executor():
    if len(sys.argv) == 2:
        lock("lock.executor")
        fill()
        wait_told("exec")
        KEPT.clear()
        os.execv("/usr/bin/python3", ["python3", __file__, DIR, "again"])


def main():
    if len(sys.argv) > 2:
        say("exec")
        live("again")
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    for body in (parent, executor):
        if os.fork() == 0:
            body()
    live("root")


main()
