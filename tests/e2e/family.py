# SPDX-License-Identifier: Apache-2.0
"""A tree of processes that check themselves: each knows who its relatives are, counts, and talks with its
parent over a pipe, a socketpair and shared memory. Says what it finds in the file of its name.
"""
import mmap
import os
import signal
import socket
import struct
import sys
import time

OUT = sys.argv[1]
CHILDREN = int(sys.argv[2]) if len(sys.argv) > 2 else 4
PAUSE = float(sys.argv[3]) if len(sys.argv) > 3 else 0
SHARED = mmap.mmap(-1, 1 << 20)  # a word for each


def place():
    return "%d %d %d %d" % (os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0))


def stop(text):
    with open(OUT + ".failed", "a") as f:
        f.write("%d: %s\n" % (os.getpid(), text))
    os._exit(1)


def child(n, sock, want):
    """Answers what it is asked, and counts in the shared word."""
    private = bytearray(1 << 20)
    count = 0
    while True:
        value = struct.unpack("q", sock.recv(8))[0]
        if value < 0:
            os._exit(0)
        if value != count:
            stop("asked for %d, expected %d" % (value, count))
        if place() != want:
            stop("is %s and was %s" % (place(), want))
        at = (count * 4096) % len(private)
        if private[at:at + 8] != b"\0" * 8 and struct.unpack("q", private[at:at + 8])[0] != count - 256:
            stop("private memory is wrong")
        private[at:at + 8] = struct.pack("q", count)
        SHARED[n * 4096:n * 4096 + 8] = struct.pack("q", count)
        count += 1
        sock.send(struct.pack("q", count))


def make(n):
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        if n % 3 == 1:
            os.setsid()
        elif n % 3 == 2:
            os.setpgid(0, 0)
        if n % 2 and os.fork() == 0:
            theirs.close()
            while True:  # ends with its parent
                time.sleep(0.01)
                if os.getppid() == 1:
                    os._exit(0)
        child(n, theirs, place())
    theirs.close()
    return pid, ours


def main():
    zombie = os.fork()
    if zombie == 0:
        os._exit(42)
    family = [make(n) for n in range(CHILDREN)]
    want = place()
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    count = 0
    with open(OUT, "w") as f:
        f.write("%d\n" % os.getpid())
    going = []
    signal.signal(signal.SIGTERM, lambda *a: going.append(1))
    while not going:
        for n, (pid, sock) in enumerate(family):
            sock.send(struct.pack("q", count))
        for n, (pid, sock) in enumerate(family):
            answer = struct.unpack("q", sock.recv(8))[0]
            if answer != count + 1:
                stop("child %d answers %d, not %d" % (n, answer, count + 1))
            if struct.unpack("q", SHARED[n * 4096:n * 4096 + 8])[0] != count:
                stop("the shared word of %d is wrong" % n)
        count += 1
        os.pwrite(1, b"%d\n" % count, 0)
        time.sleep(PAUSE)
    if place().split()[0] != want.split()[0]:
        stop("is %s and was %s" % (place(), want))
    pid, status = os.waitpid(zombie, 0)
    if os.waitstatus_to_exitcode(status) != 42:
        stop("the zombie's status is %#x" % status)
    for pid, sock in family:
        sock.send(struct.pack("q", -1))
        _, status = os.waitpid(pid, 0)
        if status:
            stop("child %d ended with %#x" % (pid, status))
    try:
        os.waitpid(-1, os.WNOHANG)
        stop("there is a child too many")
    except ChildProcessError:
        pass
    with open(OUT, "w") as f:
        f.write("ended after %d\n" % count)


main()
