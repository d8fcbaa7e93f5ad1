# SPDX-License-Identifier: Apache-2.0
"""A redis-server that moves to b and back: used by test_redis (small) and by the demo (512 MiB)."""
import os
import shutil
import time

from lab import expect, say_move, skip, wait_for

CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "redis_client.py")


class Server:
    def __init__(self, lab, say=print, options=(), wrapper=()):
        if not shutil.which("redis-server"):
            skip("redis-server is not installed")
        self.lab, self.where, self.say, self.options = lab, "a", say, options
        self.pid = lab.start("a", *wrapper, "redis-server", "--port", "6379", "--bind", "127.0.0.1", "::1",
                             "--save", "", "--enable-debug-command", "local", "--dir", lab.dir,
                             out="redis.log")
        wait_for("redis-server", 20, lambda: "Ready to accept" in lab.read("redis.log"))

    def client(self, *args):
        return self.lab.exec(self.where, "/usr/bin/python3", CLIENT, *map(str, args)).stdout

    def expiring(self, first, count, step):
        self.deadlines = [float(t) for t in self.client("ttl", first, count, step).split()]

    def check_expiring(self):
        """Keys whose time has come are gone, the others are there; 1 s of grace on both sides."""
        words = [float(w) for w in self.client("left").split()]
        now, left = words[0], set(words[1:])
        for t in self.deadlines:
            expect(t in left or t < now + 1, "a key went %.1f s too early", t - now)
            expect(t not in left or t > now - 1, "a key is there %.1f s too long", now - t)
        return len(left)

    def move(self, n):
        self.last = done = self.lab.send(self.where, self.pid, *self.options)
        self.where = "b" if self.where == "a" else "a"
        say_move(n, done)
        return done

    def wait_closed(self):
        """The client's connection is gone at the server too."""
        time.sleep(0.2)


def run(lab, keys, size, moves=2, options=(), wrapper=()):
    s = Server(lab, options=options, wrapper=wrapper)
    s.client("fill", keys, size)
    before = s.client("digest").strip()
    s.expiring(3, 40, 0.5)
    expect(before.startswith("%d " % keys), "filled %d keys, digest says %s", keys, before)
    for n in range(1, moves + 1):
        s.wait_closed()
        s.move(n)
        left = s.check_expiring()
        after = s.client("digest").strip()
        expect(after == before, "keys differ after move %d: %s, %s", n, before, after)
        print("         all %d keys are the same; %d of %d keys with a TTL are left" % (
            keys, left, len(s.deadlines)), flush=True)
    while s.check_expiring():
        time.sleep(0.5)
    print("         every key with a TTL went at its time")
    return s
