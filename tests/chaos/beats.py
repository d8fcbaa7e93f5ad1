# SPDX-License-Identifier: Apache-2.0
"""What a subject (beating.h) has written: every beat exactly once, by one copy after the other."""
import os
import struct

BEAT = struct.Struct("<QQIHBB8x")
WRONG = {1: "a page", 2: "a number from a pipe or socket", 4: "a call", 8: "shared memory", 16: "its parent or group",
         32: "its children", 64: "a lock"}


class Beats:
    """Of one process."""

    def __init__(self, path, threads, name=""):
        self.path, self.name, self.at = path, name, 0
        self.pid = 0                  # as it says itself, always the same
        self.last = [0] * threads     # number
        self.where = [""] * threads   # host
        self.when = 0                 # of the newest, ns
        self.again = ""               # a host on which it goes on from before what was read

    def read(self):
        """What is new: ([host of each beat, in order], [what is wrong])."""
        with open(self.path, "rb") as f:
            f.seek(self.at)
            data = f.read()
        data = data[:len(data) - len(data) % BEAT.size]
        self.at += len(data)
        hosts, wrong = [], []
        for number, when, pid, thread, host, bad in BEAT.iter_unpack(data):
            host = chr(host)
            self.pid = self.pid or pid
            if pid != self.pid:
                wrong.append("%sits number is %d, and was %d" % (self.name, pid, self.pid))
            if host == self.again and self.where[thread] != host and number <= self.last[thread]:
                self.last[thread] = number - 1
            if number != self.last[thread] + 1:
                wrong.append("%sthread %d beats %d on %s after %d on %s" % (
                    self.name, thread, number, host, self.last[thread], self.where[thread] or "-"))
            if bad:
                wrong.append("%sthread %d finds %s wrong at beat %d on %s" % (
                    self.name, thread, " and ".join(t for b, t in WRONG.items() if bad & b), number, host))
            self.last[thread], self.where[thread], self.when = number, host, when
            hosts.append(host)
        if self.again and set(self.where) == {self.again}:
            self.again = ""
        return hosts, wrong

    def forget(self):
        """The file needs no room for what was looked at."""
        fd = os.open(self.path, os.O_RDWR)
        try:
            keep = self.at - self.at % 4096
            if keep:
                punch_hole(fd, keep)
        finally:
            os.close(fd)


def punch_hole(fd, length):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(length))  # PUNCH_HOLE | KEEP_SIZE
