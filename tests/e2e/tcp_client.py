#!/usr/bin/python3 -SEB
# SPDX-License-Identifier: Apache-2.0
"""Clients on a third host, which notice nothing but a pause. Each prints JSON when it has ended: on a
line of stdin, or by itself; and exits with 1 as soon as anything is not as it should be.

  redis HOST PORT              one connection: writes numbers and reads them back, one after the other
  memcached HOST PORT          the same with a memcached
  stream HOST PORT             both directions at full speed, every byte checked, then the ends of both
  many HOST PORT COUNT         holds so many connections; on each line of stdin an echo on all of them
"""
import json
import os
import selectors
import socket
import sys
import time

PATTERN_BYTES = 1048573  # prime: no buffer's size divides it
SHOWN_GAP_S = 0.002
QUIET_S = 30.0  # without a byte: that is no pause any more


def pattern(seed):
    import random
    return random.Random(seed).randbytes(PATTERN_BYTES) * 2


class Gaps:
    """Pauses, with the time (CLOCK_MONOTONIC) at which they ended."""

    def __init__(self):
        self.last, self.found = time.monotonic(), []

    def beat(self):
        now = time.monotonic()
        if now - self.last > SHOWN_GAP_S:
            self.found.append((now, now - self.last))
        self.last = now


def asked_to_end(poll=selectors.DefaultSelector()):
    if not poll.get_map():
        poll.register(0, selectors.EVENT_READ)
    return bool(poll.select(0))


def redis(host, port):
    s = socket.create_connection((host, int(port)))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.settimeout(QUIET_S)
    f, n, gaps = s.makefile("rb"), 0, Gaps()

    def ask(*words):
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    while n % 64 or not asked_to_end():
        n += 1
        number = b"%d" % n
        ask(b"SET", b"number", number)
        assert f.readline() == b"+OK\r\n"
        ask(b"INCR", b"counter")
        assert f.readline() == b":%d\r\n" % n  # neither lost nor done twice
        ask(b"GET", b"number")
        assert f.readline() == b"$%d\r\n" % len(number) and f.readline() == number + b"\r\n"
        gaps.beat()
    return {"replies": n, "gaps": gaps.found}


def memcached(host, port):
    s = socket.create_connection((host, int(port)))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.settimeout(QUIET_S)
    f, n, gaps = s.makefile("rb"), 0, Gaps()

    def ask(text, *want):
        s.sendall(text)
        for line in want:
            got = f.readline()
            assert got == line + b"\r\n", (text, got, line)

    mine = b"%d" % s.getsockname()[1]  # others have theirs
    ask(b"set counter%s 0 0 1\r\n0\r\n" % mine, b"STORED")
    while n % 64 or not asked_to_end():
        n += 1
        number = b"%d" % n
        ask(b"set number%s 7 0 %d\r\n%s\r\n" % (mine, len(number), number), b"STORED")
        ask(b"incr counter%s 1\r\n" % mine, number)  # neither lost nor done twice
        ask(b"get number%s\r\n" % mine, b"VALUE number%s 7 %d" % (mine, len(number)), number, b"END")
        gaps.beat()
    return {"replies": n, "gaps": gaps.found}


class Stream:
    """One end of a connection that is full in both directions."""

    def __init__(self, s, mine, theirs):
        self.s, self.mine, self.theirs = s, pattern(mine), pattern(theirs)
        self.sent = self.got = 0
        self.gaps, self.ending, self.eof = Gaps(), False, False
        s.setblocking(False)

    def send(self):
        at = self.sent % PATTERN_BYTES
        try:
            self.sent += self.s.send(memoryview(self.mine)[at:at + 262144])
        except BlockingIOError:
            pass

    def receive(self):
        try:
            data = self.s.recv(262144)
        except BlockingIOError:
            return
        at = self.got % PATTERN_BYTES
        assert data == self.theirs[at:at + len(data)], "byte %d or behind it is another" % self.got
        self.got += len(data)
        self.eof = not data
        self.gaps.beat()

    def run(self, end):
        poll = selectors.DefaultSelector()
        poll.register(self.s, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while not (self.ending and self.eof):
            if not self.ending and (end() or self.eof):
                self.s.shutdown(socket.SHUT_WR)
                self.ending = True
                if self.eof:
                    break
                poll.modify(self.s, selectors.EVENT_READ)
            ready = poll.select(QUIET_S)
            assert ready, "nothing moves"
            for _, what in ready:
                if what & selectors.EVENT_READ:
                    self.receive()
                if what & selectors.EVENT_WRITE and not self.ending:
                    self.send()
        return {"sent": self.sent, "got": self.got, "gaps": self.gaps.found}


def stream(host, port):
    s = socket.create_connection((host, int(port)))
    return Stream(s, 1, 2).run(asked_to_end)


def many(host, port, count):
    held = []
    for i in range(int(count)):
        s = socket.create_connection((host, int(port)))
        s.settimeout(QUIET_S)
        held.append(s)
    print(json.dumps({"connected": len(held)}), flush=True)
    n = 0
    while sys.stdin.readline().strip() == "echo":
        n += 1
        words = [b"%d.%d\n" % (n, i) for i in range(len(held))]
        for s, w in zip(held, words):
            s.sendall(w)
        for s, w in zip(held, words):
            got = b""
            while len(got) < len(w):
                part = s.recv(64)
                assert part, "closed"
                got += part
            assert got == w, (got, w)
        print(json.dumps({"echoed": len(held)}), flush=True)
    return {"rounds": n}


if __name__ == "__main__":
    print(json.dumps({"redis": redis, "memcached": memcached, "stream": stream, "many": many}[sys.argv[1]](*sys.argv[2:])))
    sys.stdout.flush()
    os._exit(0)
