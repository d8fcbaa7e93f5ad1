# SPDX-License-Identifier: Apache-2.0
"""Programs that are moved. The first one can be counted from outside; the others have more in them.

wrong() says what is found wrong without waiting; goes_on(where) waits until the copy there has worked and
says what is wrong, or that it does not go on.
"""
import os
import select
import shutil
import subprocess
import sys

from beats import Beats
from world import BUILD, ROOT, read, wait_for

sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
from lab import Failed as LabFailed  # noqa: E402
from verifying import Verifier as Asked  # noqa: E402

GOES_ON_S = 8
HOSTS = os.path.join(ROOT, "tests/lab/hosts")
SERVER = os.path.join(ROOT, "tests/e2e/tcp_server.py")
TCP_CLIENT = os.path.join(ROOT, "tests/e2e/tcp_client.py")
CLIENT = os.path.join(ROOT, "tests/e2e/redis_client.py")


class Subject:
    def __init__(self, world, number):
        self.world = world
        self.dir = os.path.join(world.dir, "subject.%d" % number)
        os.mkdir(self.dir)
        os.chmod(self.dir, 0o777)
        self.out = os.path.join(self.dir, "out")

    def launch(self, *argv):
        """Its number in host a, in which it is a session of its own."""
        script = 'cd "$0"; setsid "$@" </dev/null >out 2>&1 & echo $!'
        return int(self.world.output_of("a", "/bin/sh", "-c", script, self.dir, *argv))

    def program(self, path):
        """A copy: what is built anew meanwhile is another file."""
        to = os.path.join(self.world.dir, os.path.basename(path))
        if not os.path.exists(to):
            shutil.copy(os.path.join(BUILD, path), to)
        return to

    def pids(self, root):
        """Of all its processes, once it has started; the root's first."""
        return [root]

    def began(self, test):
        if not wait_for(20, test):
            raise RuntimeError("the subject does not start: " + read(self.out))

    def said(self):
        return " | ".join(read(self.out).splitlines()[-3:])

    def wrong(self):
        return ""

    def forget(self):
        pass

    def rewind(self, host):
        """An older state goes on there, by an operator's word."""

    hosts = ("a", "b")

    def forget_network(self, host):
        """What a host loses when it starts anew."""

    def left_overs(self, host):
        return []

    def end(self):
        pass


class Counted(Subject):
    """Each of its processes numbers its beats."""

    def made(self, *beats):
        self.beats = beats
        self.began(lambda: all(os.path.exists(b.path) and os.path.getsize(b.path) > 4096 for b in beats))

    def wrong(self):
        return "; ".join([w for b in self.beats for w in b.read()[1]][:4])

    def goes_on(self, where):
        found = [[] for _ in self.beats]

        def enough():
            wrong = []
            for b, have in zip(self.beats, found):
                hosts, bad = b.read()
                have.extend(hosts)
                wrong += bad
            return "; ".join(wrong[:4]) or all(have[-6:] == [where] * 6 for have in found)
        result = wait_for(GOES_ON_S, enough, 0.005)
        if isinstance(result, str):
            return result
        idle = [b.name for b, have in zip(self.beats, found) if have[-6:] != [where] * 6]
        return "" if result else "it does not go on: " + " ".join(idle)

    def forget(self):
        for b in self.beats:
            b.forget()

    def rewind(self, host):
        for b in self.beats:
            b.again = host


class Beat(Counted):
    def start(self):
        path = os.path.join(self.dir, "beats")
        pid = self.launch(self.program("tests/chaos/chaos-beat"), path, "1")
        self.made(Beats(path, 3))
        return pid


class Tree(Counted):
    """A root, two children, and three of theirs, in sessions and groups of their own, with pipes, sockets and
    memory that they share (tree.c). None goes on without the others."""
    threads = (1, 1, 3, 1, 1, 1)

    def start(self):
        pid = self.launch(self.program("tests/chaos/chaos-tree"), self.dir, "256")
        self.made(*(Beats(os.path.join(self.dir, "beats.%d" % n), t, "process %d " % n)
                    for n, t in enumerate(self.threads)))
        return pid

    def pids(self, root):
        wrong = self.wrong()
        if wrong or self.beats[0].pid != root:
            raise RuntimeError("the subject starts wrong: " + wrong)
        return [b.pid for b in self.beats]


class Threads(Subject):
    """16 threads with locks, signals, timers and vector registers (tests/e2e/threads.c)."""

    def counts(self):
        return [int(n) for n in read(os.path.join(self.dir, "status")).split()]

    def start(self):
        pid = self.launch(self.program("tests/e2e/e2e-threads"))
        self.began(lambda: len(self.counts()) == 16 and min(self.counts()) > 2)
        return pid

    def wrong(self):
        lines = [l for l in read(self.out).splitlines() if l.startswith(("FAIL", "CHECK"))]
        return "; ".join(lines[:2])

    def goes_on(self, where):
        before = self.counts()

        def all_do():
            now = self.counts()
            return len(now) == 16 and min(n - o for n, o in zip(now, before)) > 1
        if not wait_for(GOES_ON_S, all_do, 0.02):
            return "threads that do not go on: %s, %s; %s" % (before, self.counts(), read(self.out))
        return self.wrong()


class Verifier(Subject):
    """Knows what must be in each of its pages, and changes them in every way."""

    def exec(self, host, *argv, check=False):
        try:
            text = self.world.output_of(host, *argv)
        except Exception:  # it does not answer yet
            text = ""

        class Done:
            stdout = text
        return Done

    def start(self):
        with open(os.path.join(self.dir, "file"), "wb") as f:
            f.write(os.urandom(2 << 20))
        self.shared = "/dev/shm/chaos.%d" % os.getpid()
        pid = self.launch(self.program("tests/e2e/e2e-verifier"), "7501", "16", "file", "8",
                          self.shared)
        self.asked = Asked(self, "a")
        self.asked.ready()
        return pid

    def goes_on(self, where):
        try:
            self.asked.goes_on(where, seconds=GOES_ON_S)
        except LabFailed as e:
            return str(e)
        return ""


class Redis(Subject):
    """Keys that stay, keys that expire, and a number that each client raises by one."""

    def ask(self, where, *argv):
        try:
            return self.world.output_of(where, "redis-cli", *argv).strip()
        except Exception as e:
            return str(e)

    def client(self, where, *argv):
        return self.world.output_of(where, "/usr/bin/python3", CLIENT, *argv).strip()

    def start(self):
        pid = self.launch("redis-server", "--port", "6379", "--bind", "127.0.0.1", "--save", "",
                          "--enable-debug-command", "local", "--dir", self.dir)
        self.began(lambda: "Ready to accept" in read(self.out))
        self.client("a", "fill", "3000", "200")
        self.digest, self.number = self.client("a", "digest"), 0
        self.deadlines = []
        return pid

    def goes_on(self, where):
        self.number += 1
        got = wait_for(GOES_ON_S, lambda: self.ask(where, "INCR", "number"))
        if got != str(self.number):
            return "its number is %s, not %d" % (got, self.number)
        if self.number % 4 == 0 and self.client(where, "digest") != self.digest:
            return "its keys are others"
        return self.expired(where)

    def expired(self, where):
        """Of keys that live for a second or two; with as much grace as the test of redis has."""
        words = [float(w) for w in self.client(where, "left").split()]
        now, left = words[0], set(words[1:])
        for t in self.deadlines:
            if (t in left and t < now - 1) or (t not in left and t > now + 1):
                return "a key of %.3f is %sthere at %.3f" % (t, "" if t in left else "not ", now)
        self.deadlines = [t for t in self.deadlines if t > now - 2]
        if len(self.deadlines) < 10:
            self.deadlines += [float(t) for t in self.client(where, "ttl", "1", "10", "0.5").split()]
        return ""


class Connected(Subject):
    """Clients on a third host, whose connections and whose address come along. None may be reset, lose a
    byte or wait for ever, wherever the process goes on."""
    hosts = ("a", "b", "c")
    address, port, count = "10.77.0.100", "7600", 5

    def start(self):
        for h in self.world.host:
            self.forget_network(h)
        self.address_on("a")
        pid = self.launch("/usr/bin/python3", SERVER, "echo", self.address, self.port)
        self.began(lambda: "listening" in read(self.out))
        self.clients = None
        self.connect()
        return pid

    def connect(self):
        if self.clients:
            self.clients.kill()
            self.clients.wait()
        self.clients = subprocess.Popen(
            [HOSTS, "exec", "c", "/usr/bin/python3", TCP_CLIENT, "many", self.address, self.port, str(self.count)],
            env=dict(os.environ, LAB=self.world.name), text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.said_by_clients(GOES_ON_S)

    def said_by_clients(self, seconds):
        if not select.select([self.clients.stdout], [], [], seconds)[0]:
            return "the clients wait"
        line = self.clients.stdout.readline()
        return "" if line.startswith("{") else "the clients say " + line + self.clients.stderr.read()[-300:]

    def ip(self, host, *words):
        init = self.world.state["hosts"][host]["pid"]
        return subprocess.run(["nsenter", "-t", str(init), "-n", *words],
                              capture_output=True, text=True).stdout

    def address_on(self, host):
        self.ip(host, "ip", "address", "add", self.address + "/32", "dev", "eth0")
        self.ip("c", "ip", "neighbour", "flush", "dev", "eth0")

    def forget_network(self, host):
        """As a new boot has it: no connections either that an ended process has left half closed. Without the
        address first, so that their clients hear nothing of it."""
        self.ip(host, "ip", "address", "del", self.address + "/32", "dev", "eth0")
        self.ip(host, "ss", "-K", "-t", "-a", "src", self.address)
        self.ip(host, "nft", "flush", "ruleset")

    def goes_on(self, where):
        # a link that was down is tried again by TCP after some seconds
        self.clients.stdin.write("echo\n")
        self.clients.stdin.flush()
        return self.said_by_clients(4 * GOES_ON_S) or self.network_of(where)

    def network_of(self, where):
        for h in self.world.host:
            has = self.address in self.ip(h, "ip", "-o", "address")
            if has != (h == where):
                return "%s is %son %s" % (self.address, "" if has else "not ", h)
        return ""

    def left_overs(self, host):
        return ["nftables " + line for line in self.ip(host, "nft", "list", "tables").splitlines()
                if "migrated-" in line]

    def rewind(self, host):
        self.connect()

    def end(self):
        if self.clients:
            self.clients.kill()
            self.clients.wait()


KINDS = {"beat": Beat, "tree": Tree, "threads": Threads, "verifier": Verifier, "redis": Redis,
         "connected": Connected}
