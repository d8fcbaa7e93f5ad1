#!/usr/bin/python3 -SEB
# SPDX-License-Identifier: Apache-2.0
"""A client that does one thing and goes: no connection stays open while the server moves.

  fill KEYS BYTES      key:0.. with values of that size, not compressible
  ttl FIRST COUNT STEP ttl:T keys, each to go at T = now + FIRST, + STEP ... seconds; prints the Ts
  digest               number of keys without TTL and a digest over DEBUG DIGEST-VALUE of each
  left                 T of the ttl keys that are still there, and the time
"""
import hashlib
import random
import socket
import sys
import time

PORT = 6379
BATCH = 512


class Redis:
    def __init__(self):
        self.s = socket.create_connection(("127.0.0.1", PORT))
        self.f = self.s.makefile("rb", 1 << 20)

    @staticmethod
    def pack(args):
        args = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)

    def reply(self):
        line = self.f.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise SystemExit(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            n = int(rest)
            return None if n < 0 else self.f.read(n + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return rest

    def __call__(self, *args):
        self.s.sendall(self.pack(args))
        return self.reply()

    def many(self, commands):
        self.s.sendall(b"".join(map(self.pack, commands)))
        return [self.reply() for _ in commands]


def fill(r, keys, size):
    pool = random.Random(7).randbytes(size + 4096)
    for first in range(0, keys, BATCH):
        r.many([("SET", "key:%d" % i, b"%d:" % i + pool[i % 4096:][:size])
                for i in range(first, min(first + BATCH, keys))])


def ttl(r, first, count, step):
    now = time.time()
    for i in range(count):
        at = now + first + i * step
        r("SET", "ttl:%.3f" % at, "x", "PXAT", int(at * 1000))
        print("%.3f" % at)


def keys_of(r, pattern):
    cursor, keys = b"0", []
    while True:
        cursor, some = r("SCAN", cursor, "MATCH", pattern, "COUNT", 10000)
        keys += some
        if cursor == b"0":
            return sorted(set(keys))


def digest(r):
    keys, h = keys_of(r, "key:*"), hashlib.sha256()
    for first in range(0, len(keys), BATCH):
        batch = keys[first:first + BATCH]
        for key, d in zip(batch, r("DEBUG", "DIGEST-VALUE", *batch)):
            h.update(key + b"=" + d + b"\n")
    print(len(keys), h.hexdigest())


def left(r):
    # EXISTS makes the server look at the clock; SCAN may show a key that is due
    there = [k for k in keys_of(r, "ttl:*") if r("EXISTS", k)]
    print("%.3f" % time.time(), *(k[4:].decode() for k in there))


r = Redis()
verb, args = sys.argv[1], sys.argv[2:]
if verb == "fill":
    fill(r, int(args[0]), int(args[1]))
elif verb == "ttl":
    ttl(r, float(args[0]), int(args[1]), float(args[2]))
else:
    {"digest": digest, "left": left}[verb](r)
