# SPDX-License-Identifier: Apache-2.0
"""One round: a move, something that happens to it, and what is to be found afterwards."""
import errno
import os
import signal
import subprocess
import time
from collections import namedtuple

import cells
import faults
from world import OTHER, Command, Missed, expect, process, read, wait_for

MOMENT_S = 0.3
UNDO_S = 14       # longer than an undo may take in such a build
LONG_S = 8        # longer than the limits of a build with faults: 6 s, 2 s while frozen
END_S = 45        # of migratectl
SETTLE_S = 20
AGAIN_S = 1       # until an init system starts a daemon again
DOUBT_S = 30      # to be resolved without anybody's help

Verdict = namedtuple("Verdict", "outcome status doubt_s seconds")


class Trouble:
    """What was done, and how it is undone before the judgement."""

    def __init__(self, world):
        self.world, self.undo = world, []
        self.missing = False  # a victim was not there any more

    def victims(self, host, role):
        if role in cells.MEMBERS:
            p = host.subject(cells.MEMBERS[role])
            return [p] if p else []
        if role == "client":
            return [p for p in (process(pid) for pid in host.pids() if
                                read("/proc/%d/cmdline" % pid).startswith("migratectl\0")) if p]
        return host.all(role)

    def kill(self, hosts, role):
        if role == "all":
            for h in hosts:  # first all signals, then the waiting
                h.signal_daemon()
            for h in hosts:
                wait_for(5, lambda h=h: not h.roles())
            return
        for h in hosts:
            found = self.victims(h, role)
            self.missing = self.missing or not found
            for p in found:
                p.signal(signal.SIGKILL)
            for p in found:
                p.gone(2)
                p.close()

    def stop(self, host, role):
        found = self.victims(host, role)
        self.missing = self.missing or not found
        for p in found:
            p.signal(signal.SIGSTOP)

        def go_on():
            for p in found:
                p.signal(signal.SIGCONT)
                p.close()
        self.undo.append(go_on)

    def cut(self):
        self.world.link(False)
        self.undo.append(lambda: self.world.link(True))

    def reset(self, host):
        """Both ends see RST, as after a firewall has forgotten the connection between the two hosts."""
        subprocess.run(["nsenter", "-t", str(host.init), "-n", "ss", "-K", "dst", "10.77.0.1", "or",
                        "dst", "10.77.0.2"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    def over(self):
        for f in self.undo:
            f()
        self.undo = []


class Round:
    """A cell of the matrix."""

    def __init__(self, world, cell, options=()):
        self.world, self.cell, self.options = world, cell, options
        self.src, self.dst = world.host[world.where], world.host[OTHER[world.where]]
        self.trouble = Trouble(world)
        self.said, self.doubt_s, self.reached = {}, 0, False
        self.died, self.resolved = set(), False

    def hosts(self):
        return [h for s, h in (("S", self.src), ("D", self.dst)) if s in self.cell.side]

    # --- what this cell allows

    def lost(self):
        """migratectl may have lost its daemon."""
        c = self.cell
        return ("S" in c.side and c.role in ("monitor", "control", "all") and
                c.trouble in ("kill", "stop", "replace"))

    def client_dead(self):
        return self.cell.role == "client" or self.rebooted("S")

    def rebooted(self, side):
        return self.cell.role == "host" and side in self.cell.side

    def doubt_allowed(self):
        return self.cell.point in cells.DOUBT or self.cell.role == "call"

    def may_end(self):
        """The process itself was killed, and this copy was it, or may have been."""
        c = self.cell
        if self.rebooted("S") and self.rebooted("D"):
            return True
        if c.role != "host" and (c.trouble != "kill" or c.role not in cells.MEMBERS):
            return False
        if self.rebooted("S") and c.point == "source.commit-sent":
            return True  # net had not passed it on
        return "S" in c.side and c.point not in cells.BEGUN or "D" in c.side and (
            c.point in cells.DOUBT | cells.BEGUN)

    # --- the move

    def sigcont(self):
        """Whoever stands still must go on standing still."""
        for h in (self.src, self.dst):
            for p in h.members():
                p.signal(signal.SIGCONT)
                p.close()

    def workers_gone(self):
        return not any(r in ("worker", "net-child") for h in (self.src, self.dst)
                       for _, r in h.roles())

    def act(self, side, role, trouble):
        hosts = [h for s, h in (("S", self.src), ("D", self.dst)) if s in side]
        if role == "host":
            for h in hosts:
                h.end_all()
            for h in hosts:
                h.boot_anew("lost" if trouble == "power" else "kept")
            if trouble == "power":
                self.check_disk(side)
        elif role == "disk":
            for h in hosts:
                self.trouble.undo.append(h.fill())
        elif trouble == "kill":
            self.trouble.kill(hosts, role)
        elif trouble == "replace":
            for h in hosts:
                self.replace(h)
        elif trouble == "reset":
            self.trouble.reset(self.src)
        elif role == "link":
            self.trouble.cut()
        else:
            for h in hosts:
                self.trouble.stop(h, role)

    def replace(self, host):
        """Another daemon begins while a worker of the one before is at work."""
        services = [p for r in ("monitor", "control", "net") for p in host.all(r)]
        self.trouble.kill([host], "monitor")
        for p in services:
            p.gone(5)
            p.close()
        host.start()
        self.died.add(host.name)

    def check_disk(self, sides):
        """The loss of power has lost what it should have, and no more."""
        for side in sides:
            name, mark, points = cells.SYNCED[side]
            host = self.src if side == "S" else self.dst
            if self.cell.point in [name + "." + p for p in points]:
                left = [m for n, m in host.journal().items() if n.endswith("." + name)]
                expect(left == [mark], "driver: the disk of %s holds %s", host.name, left)

    def hold_on(self):
        """As long as the trouble lasts."""
        if self.cell.trouble in ("moment", "pause"):
            wait_for(MOMENT_S, lambda: self.client.over() and self.workers_gone(), 0.02)
        elif self.cell.trouble in ("long", "stop", "full"):
            wait_for(UNDO_S if self.cell.point == cells.UNDO else LONG_S, lambda: self.client.over() and self.workers_gone(), 0.02)

    def provoke(self):
        """Leads the move to a state that only a failing one has."""
        how = "orphan" if self.cell.point == cells.UNDO else cells.FAILING.get(self.cell.point)
        if how == "cancel":
            at = self.src.faults.pause("source.final")
            wait_for(10, lambda: at.reached or self.client.over())
            for h in self.trouble.victims(self.src, "client"):
                h.signal(signal.SIGINT)
                h.close()
            time.sleep(0.05)
            at.go = 1
        elif how == "orphan":
            at = self.src.faults.pause("source.offered")
            wait_for(10, lambda: at.reached or self.client.over())
            self.trouble.kill([self.src], "worker")
        elif how == "doubt":
            at = self.dst.faults.pause("destination.commit")
            wait_for(10, lambda: at.reached or self.client.over())
            self.trouble.kill([self.dst], "worker")

    def arm(self, point):
        host = self.src if point.startswith("source") else self.dst
        call, path, skip = cells.CALLS.get(point, (point, "", 0))
        return host.faults.pause(call, path=path, skip=skip, role="worker")

    def move(self):
        slot = self.arm(self.cell.point)
        try:
            self.client = self.world.send(*self.options)
            self.provoke()
            wait_for(15, lambda: slot.reached or self.client.over() and self.workers_gone())
            self.reached = bool(slot.reached)
            if self.reached:
                self.sigcont()
                self.act(self.cell.side, self.cell.role, self.cell.trouble)
                self.sigcont()
            self.clear()
            self.hold_on()
        finally:
            self.clear()
            self.trouble.over()
        self.await_client()
        expect(self.reached, "the move does not come to %s: exit %s, %s", self.cell.point,
               self.client.status, self.client.lines()[-1:] or self.client.text(self.client.err))

    def clear(self):
        for h in (self.src, self.dst):
            h.faults.clear()

    # --- afterwards

    def await_client(self):
        """Meanwhile daemons that died are started again, as an init system does after a moment."""
        end = time.monotonic() + END_S
        while not self.client.over():
            self.revive()
            if time.monotonic() > end:
                self.client.end()
                raise Missed("migratectl does not end")
            time.sleep(0.01)

    def revive(self):
        """A daemon without its monitor: what it has begun may end by itself before it is started again;
        then what is left is ended."""
        for h in (self.src, self.dst):
            if not h.dead():
                continue
            if not self.rebooted("S") and not self.rebooted("D"):
                wait_for(AGAIN_S, lambda h=h: not h.roles(), 0.02)
            self.died.add(h.name)
            h.revive()

    def settled(self):
        return all(h.names() == ["control", "monitor", "names", "net"] for h in (self.src, self.dst))

    def one_runs(self):
        copies = self.world.copies()
        running = [n for n, c in copies.items() if c.startswith("runs")]
        expect(len(running) < 2, "two copies run: %s", copies)
        return copies if list(copies.values()) == ["runs"] else None

    def none_left(self):
        return self.may_end() and not self.world.copies()

    def resolve(self):
        """Only the operator can, when the host that may have run it was started anew."""
        held = [n for n in self.src.journal() if n.endswith(".source")]
        if self.resolved or not self.rebooted("D") or not held or self.src.dead():
            return
        where = "here" if self.src.copy() == "frozen" else "there"
        c = Command(self.world.hosts, self.src.name,
                    ["migratectl", "resolve", held[0].split(".")[0], where])
        expect(c.wait(10) and c.status == 0, "resolve %s: exit %s, %s", where, c.status,
               c.text(c.err) or c.text(c.out))
        self.resolved = True
        # what ran there before its host ended is lost with it, and comes again
        if where == "here":
            self.world.subject.rewind(self.src.name)

    def find_one(self):
        """Where the one copy is at last: a host's name, or "" if the process has ended."""
        began = time.monotonic()
        if not wait_for(2, lambda: self.one_runs() or self.none_left(), 0.02):
            expect(self.doubt_allowed() or self.died, "one copy should run, but there are %s",
                   self.world.copies())
            self.resolve()
            done = wait_for(DOUBT_S, lambda: self.one_runs() or self.none_left(), 0.05)
            expect(done, "still in doubt after %d s: %s; journal %s %s", DOUBT_S,
                   self.world.copies(), self.src.journal(), self.dst.journal())
        self.doubt_s = time.monotonic() - began
        if self.none_left():
            return ""
        return list(self.world.copies())[0]

    def goes_on(self, where):
        wrong = self.world.subject.goes_on(where)
        expect(not wrong, "%s: %s, %s", where, wrong, self.world.copies())

    def truthful(self, where):
        lines = self.client.lines()
        self.said = lines[-1] if lines else {}
        status, outcome = self.client.status, self.said.get("outcome")
        lost = self.lost()
        if self.client_dead():
            return
        if status == 0:
            expect(where == self.dst.name or not where, "exit 0, but it runs on %s", where)
            expect(outcome == "moved", "exit 0, but %s", outcome)
        elif status == 1:
            expect(where == self.src.name or not where, "exit 1, but it runs on %s: %s",
                   where, self.said)
            expect(outcome == "kept" or lost, "exit 1, but %s", self.said)
        elif status == 3:
            expect(self.doubt_allowed() or lost, "it should not be in doubt: %s", self.said)
            expect(outcome == "in_doubt" or lost, "exit 3, but %s", self.said)
        else:
            raise Missed("migratectl exits %s: %s" % (status, self.client.text(self.client.err)))

    def nothing_left(self):
        def left():
            return ["%s: %s" % (h.name, l) for h in (self.src, self.dst) for l in h.left_overs()]
        if not wait_for(4, lambda: not left(), 0.02):
            self.resolve()
        if not wait_for(1, lambda: not left(), 0.02):
            raise Missed("left behind: " + ", ".join(left()))

    def untouched(self, where):
        for pid, threads in self.world.threads.items():
            base = self.world.host[where].proc(pid)
            expect(wait_for(2, lambda: "TracerPid:\t0\n" in read(base + "/status")),
                   "%d is still traced", pid)
            expect(wait_for(2, lambda: len(os.listdir(base + "/task")) == threads),
                   "%d has %d threads, not %d", pid, len(os.listdir(base + "/task")), threads)

    def judge(self):
        expect(wait_for(SETTLE_S, lambda: self.workers_gone() or any(
            h.dead() for h in (self.src, self.dst)), 0.01), "workers that do not end: %s %s",
               self.src.names(), self.dst.names())
        self.revive()
        expect(wait_for(SETTLE_S, self.settled, 0.01), "does not settle: %s %s",
               self.src.names(), self.dst.names())
        where = self.find_one()
        if where:
            self.goes_on(where)
            self.untouched(where)
        else:
            expect(not self.world.subject.wrong(), "%s", self.world.subject.wrong())
        self.truthful(where)
        if self.doubt_s < 1:
            time.sleep(0.03)
            expect(not where or self.one_runs(), "it was there, and now: %s", self.world.copies())
        self.nothing_left()
        return where

    def next_move(self, where):
        self.world.where = where
        wait_for(SETTLE_S, self.workers_gone)
        for last in (False, True):
            c = self.world.send()
            expect(c.wait(END_S), "the next move does not end")
            said = (c.lines() or [{}])[-1]
            late = (said.get("error") or {}).get("code") == "TIMEOUT"
            if not late or last:
                break
        expect(c.status == 0, "the next move: exit %s, %s", c.status,
               said.get("error") or c.text(c.err))
        self.world.where = OTHER[where]
        self.goes_on(self.world.where)
        # the destination has not quite done with it when the source has
        expect(wait_for(SETTLE_S, self.workers_gone), "workers that do not end: %s %s",
               self.src.names(), self.dst.names())

    def run(self):
        began = time.monotonic()
        self.move()
        where = self.judge()
        outcome = "ended" if not where else "kept" if where == self.src.name else "moved"
        self.world.same_boot()
        if where:
            self.next_move(where)
        else:
            self.world.end_subject()
            self.world.start_subject()
        return Verdict("gone" if self.trouble.missing else outcome, self.client.status,
                       self.doubt_s, time.monotonic() - began)


class Failing(Round):
    """A system call fails: "call path role", side, "call", "S ENOSPC #2" or "... always"."""

    def move(self):
        call, path, role = self.cell.point.split()
        _, error, which = self.cell.trouble.split()
        host = self.hosts()[0]
        slot = host.faults.arm(faults.FAIL, call, error=getattr(errno, error), role=role,
                               path="" if path == "*" else path,
                               skip=0 if which == "always" else int(which[1:]),
                               times=0 if which == "always" else 1)
        try:
            self.client = self.world.send(*self.options)
            self.await_client()
        finally:
            self.trouble.missing = slot.hits <= slot.skip
            self.clear()


class AtRandom(Round):
    """A plan: see cells.plan()."""

    def __init__(self, world, plan):
        super().__init__(world, cells.Cell("", "", "", ""), plan.options)
        self.plan = plan

    def move(self):
        undo, slot = [], None
        if self.plan.point:
            slot = self.arm(self.plan.point)
        self.client = self.world.send(*self.options)
        if slot:
            wait_for(15, lambda: slot.reached or self.client.over())
            self.sigcont()
            self.clear()
        began = time.monotonic()
        try:
            for at, side, role, trouble in self.plan.actions:
                wait_for(began + at - time.monotonic(), self.client.over, 0.001)
                self.sigcont()
                self.act(side, role, trouble)
                if trouble in ("moment", "pause"):
                    undo.append(time.monotonic() + MOMENT_S)
            for at in undo:
                wait_for(at - time.monotonic(), lambda: False, 0.01)
        finally:
            self.trouble.over()
        self.trouble.missing = False  # what comes too late is no news
        self.await_client()

    def has(self, side, role):
        return any(s == side and r == role for _, s, r, t in self.plan.actions
                   if t in ("kill", "replace"))

    def lost(self):
        return any(self.has("S", r) for r in ("monitor", "control", "all"))

    def client_dead(self):
        return self.has("S", "client") or self.rebooted("S")

    def rebooted(self, side):
        return any(s == side and r == "host" for _, s, r, _ in self.plan.actions)

    def doubt_allowed(self):
        return True

    def may_end(self):
        return (any(self.has(s, r) for s in "SD" for r in cells.MEMBERS) or self.rebooted("S") or
                self.rebooted("D"))


def make(world, item):
    if isinstance(item, cells.Plan):
        return AtRandom(world, item)
    return (Failing if item.role == "call" else Round)(world, item)
