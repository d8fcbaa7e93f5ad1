# SPDX-License-Identifier: Apache-2.0
"""Moves that something happens to: what to do at which moment, and how to judge what is left.

ONLY=text: only cases with that in their name. SEED=n: other random moments. CASES=n: more of them.
"""
import collections
import json
import os
import re
import shutil
import signal
import subprocess
import time

import snapshot
from lab import BUILD, HOSTS, OTHER, Failed, Lab, expect, wait_for

TICKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ticker.py")
SEED = int(os.environ.get("SEED", "1"))
RANDOM = int(os.environ.get("CASES", "6"))
ONLY = os.environ.get("ONLY", "")
PF_EXITING, SIGKILL_BIT = 0x4, 1 << 8
OUTCOMES = collections.Counter()  # what became of how many moves
# Waits at the event that the file gate.PID names ("source-frozen") until there is a file go.PID.
HOOK = """#!/bin/sh
cd %s
p=$MIGRATED_PID
read -r want <gate.$p 2>/dev/null || exit 0
[ "$want" = "$MIGRATED_SIDE-$1" ] || exit 0
mv gate.$p at.$p
n=0
while [ ! -e go.$p ] && [ $n -lt 250 ]; do n=$((n + 1)); sleep 0.02; done
exit 0
"""



class Role:
    """One process of ours, named by a pidfd."""

    def __init__(self, pid, name):
        self.pid, self.name = pid, name
        self.fd = os.pidfd_open(pid)

    def signal(self, number):
        try:
            signal.pidfd_send_signal(self.fd, number)
        except ProcessLookupError:
            pass

    def close(self):
        os.close(self.fd)


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


class Arena:
    def __init__(self, lab, out="tick"):
        self.lab, self.out = lab, out
        self.inits = {h: lab.state["hosts"][h]["pid"] for h in ("a", "b")}
        self.spaces = {h: os.readlink("/proc/%d/ns/pid" % p) for h, p in self.inits.items()}
        self.where, self.pid, self.base, self.group = "a", 0, None, ""

    # --- our processes

    def ours(self, host):
        """All of our processes on a host: (number here, parent here, role)."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                if os.readlink("/proc/%s/ns/pid" % name) != self.spaces[host]:
                    continue
                argv = read("/proc/%s/cmdline" % name).split("\0")
                stat = read("/proc/%s/stat" % name).rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if os.path.basename(argv[0]) != "migrated" or stat[0] in "ZX":
                continue
            role = argv[argv.index("--role") + 1] if "--role" in argv else "monitor"
            if read("/proc/%s/comm" % name).strip() == "migrated-names":
                role = "names"
            found.append((int(name), int(stat[1]), role))
        nets = [p for p, _, role in found if role == "net"]
        return [(p, pp, "net-child" if pp in nets and role == "net" else role)
                for p, pp, role in found]

    def role(self, host, name):
        """One of them; a relay can be orphaned, so it is known by its parent only here."""
        for pid, _, role in self.ours(host):
            if role == name:
                try:
                    return Role(pid, name)
                except ProcessLookupError:
                    pass
        return None

    def serves(self, worker):
        """Whether a worker of b builds this program: it traces it."""
        return any("TracerPid:\t%d\n" % self.inner(worker) in read(path + "/status")
                   for path in [self.lab.proc("b", self.pid)])

    def inner(self, pid):
        return int([l for l in read("/proc/%d/status" % pid).splitlines()
                    if l.startswith("NSpid:")][0].split()[-1])

    # --- the program

    def start(self, mib=16, threads=False, rate=2, argv=None):
        self.threads = threads
        if threads:
            argv = [shutil.copy(os.path.join(BUILD, "tests/e2e/e2e-threads"), self.lab.dir)]
        elif not argv:
            argv = ["/usr/bin/python3", TICKER, str(mib), str(rate)]
        self.pid = self.lab.start("a", *argv, out=self.out)
        wait_for("the program", 30, lambda: "ready" in self.lab.read(self.out))
        time.sleep(0.3)
        self.base = snapshot.take(self.lab.proc("a", self.pid))
        self.group = self.cgroup("a")

    def tasks(self):
        try:
            return os.listdir(self.lab.proc(self.where, self.pid) + "/task")
        except OSError:
            return []

    def traced(self):
        return "TracerPid:\t0\n" not in read(self.lab.proc(self.where, self.pid) + "/status")

    def count(self):
        words = read(os.path.join(self.lab.dir, "status" if self.threads else self.out)).split()
        if self.threads:
            return min(int(w) for w in words) if len(words) == 16 else 0
        return int(words[1]) if len(words) > 1 else 0

    def cgroup(self, host):
        text = read(self.lab.proc(host, self.pid) + "/cgroup")
        inside = [l for l in text.splitlines() if l.startswith("0::")]
        return inside[0][3:] if inside else ""

    def host_file(self, host, path):
        return "/proc/%d/root%s" % (self.inits[host], path)

    def group_dir(self, host):
        # as this machine sees it: the host's cgroup namespace is entered by its mount
        path = self.cgroup(host)
        mine = [l[3:] for l in read("/proc/%d/cgroup" % self.inits[host]).splitlines()
                if l.startswith("0::")][0]
        return self.host_file(host, "/sys/fs/cgroup" + path[len(mine):])

    def frozen(self, host):
        return "frozen 1" in read(self.group_dir(host) + "/cgroup.events")

    def dying(self, host):
        """It has been killed: it runs no instruction more, though a busy machine may not have buried it yet."""
        stat = read(self.lab.proc(host, self.pid) + "/stat").rsplit(")", 1)[-1].split()
        pending = re.search(r"ShdPnd:\s*(\w+)", read(self.lab.proc(host, self.pid) + "/status"))
        return len(stat) < 7 or int(stat[6]) & PF_EXITING or pending and int(pending.group(1), 16) & SIGKILL_BIT

    def copies(self):
        """{host: "runs", "frozen" or "stopped"}"""
        found = {}
        for h in ("a", "b"):
            if not self.lab.alive(h, self.pid) or self.dying(h):
                continue
            state = read(self.lab.proc(h, self.pid) + "/stat").rsplit(")", 1)[-1].split()
            found[h] = "frozen" if self.frozen(h) else (
                "stopped" if state and state[0] in "Tt" else "runs")
        return found

    # --- one move with trouble

    def path(self, name):
        return os.path.join(self.lab.dir, "%s.%d" % (name, self.pid))

    def begin(self, *options):
        to = OTHER[self.where]
        return subprocess.Popen(
            [HOSTS, "exec", self.where, "migratectl", "--json", "send", str(self.pid), to,
             *options], env=self.lab.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    def gate(self, event):
        for name in ("at", "go", "gate"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        if event:
            with open(self.path("new"), "w") as f:
                f.write(event + "\n")
            os.rename(self.path("new"), self.path("gate"))

    def go(self):
        open(self.path("go"), "w").close()

    def await_gate(self, event, p):
        wait_for(event, 30, lambda: os.path.exists(self.path("at")) or p.poll() is not None)

    def ended(self, p, seconds=60):
        out, err = p.communicate(timeout=seconds)
        lines = [json.loads(l) for l in out.splitlines() if l.startswith("{")]
        return p.returncode, (lines[-1] if lines else {}), err

    def settle(self):
        """No worker, no hook, no relay is left on either host."""
        def quiet():
            return not [r for h in ("a", "b") for _, _, r in self.ours(h)
                        if r in ("worker", "hooks", "net-child")]
        wait_for("our processes to end", 50, quiet)

    def restart(self, host):
        self.lab.hosts("daemon", host, "stop")
        self.lab.hosts("daemon", host, "start")

    def left_overs(self, host):
        """Scratch directories and groups of ours that hold nobody."""
        state = self.host_file(host, "/var/lib/migrated")
        found = [os.path.join(state, d) for d in os.listdir(state) if d.startswith("moving-")]
        for top, dirs, _ in os.walk(self.host_file(host, "/sys/fs/cgroup")):
            for d in dirs:
                path = os.path.join(top, d)
                # those of programs that have ended there go when the next one comes
                if (d.startswith("migrated-hold-") or d == "pid-%d" % self.pid) and (
                        "populated 0" in read(path + "/cgroup.events")):
                    found.append(path)
        return found

    def doubts(self, host):
        """Journals of what was sent from there and is not settled yet."""
        try:
            names = os.listdir(self.host_file(host, "/var/lib/migrated/journal"))
        except FileNotFoundError:
            return []
        return [n for n in names if n.endswith(".source")]

    def judge(self, status, last, monitor_dead):
        """Exactly one copy, when the daemons have asked each other, and the user was told the truth. Returns
        what happened, in a word."""
        there = OTHER[self.where]
        wait_for("the doubt to be settled", 40, lambda: not self.doubts(self.where))
        copies = self.copies()
        expect(list(copies.values()) == ["runs"], "copies: %s; it said %s; exit %d %s", copies,
               self.lab.read(self.out)[-500:], status, last)
        host = list(copies)[0]
        outcome = {self.where: "kept", there: "moved"}[host]
        told = last.get("outcome", "")
        expect(status == {"kept": 1, "moved": 0}[outcome] or status == 3 and (
            monitor_dead or told == "in_doubt"), "%s, but exit %d %s", outcome, status, last)
        expect(told in ("", outcome, "in_doubt"), "%s, but it was told %s", outcome, last)
        if status == 3 and not monitor_dead:
            self.check_status(last, outcome)
        return "%s, exit %d" % (outcome, status)

    def check_status(self, last, outcome):
        """The daemon here knows what became of the doubt."""
        said = self.lab.ctl(self.where, "status", last["id"])
        expect([d["outcome"] for d in said.get("ended", ())] == [outcome], "status says %s %s",
               dict(said), said.err)

    def unharmed(self, host):
        before = self.count()
        wait_for("it to go on", 10, lambda: self.count() > before + 1)
        # a thread that just ends a call may show a mask of the moment
        for _ in range(40):
            found = snapshot.differences(self.base, snapshot.take(self.lab.proc(host, self.pid)))
            if not found:
                break
            time.sleep(0.05)
        expect(not found, "it was changed:\n  %s", "\n  ".join(found[:20]))
        expect("FAIL" not in self.lab.read(self.out), "it says %s", self.lab.read(self.out)[-300:])

    def clean_up(self):
        """After the judgement: the program has noticed nothing, and nothing is left."""
        self.where = list(self.copies())[0]
        self.unharmed(self.where)
        for h in ("a", "b"):
            wait_for("nothing left on %s: %s" % (h, self.left_overs(h)), 3,
                     lambda: not self.left_overs(h))

    def next_move(self):
        done = self.lab.send(self.where, self.pid)
        self.where = OTHER[self.where]
        return done


class Trouble:
    """What is done at the chosen moment, and undone before the judgement."""

    def __init__(self, arena):
        self.arena, self.dead, self.undo = arena, set(), []

    def kill(self, host, role):
        r = self.arena.role(host, role)
        if not r:
            return False
        r.signal(signal.SIGKILL)
        r.close()
        if role == "monitor":
            self.dead.add(host)
        return True

    def stop(self, host, role):
        r = self.arena.role(host, role)
        expect(r, "no %s on %s", role, host)
        self.stop_this(r)

    def stop_this(self, r):
        r.signal(signal.SIGSTOP)
        self.undo.append(lambda: (r.signal(signal.SIGCONT), r.close()))

    def cut(self):
        net = ("nsenter", "-t", str(self.arena.inits["a"]), "-n", "ip", "link", "set", "eth0")
        subprocess.run([*net, "down"], check=True)
        self.undo.append(lambda: subprocess.run([*net, "up"], check=True))

    def over(self):
        for f in self.undo:
            f()
        self.undo = []


def run_late(arena, name, side, role, delay, options=()):
    """Kills some time after the worker of that side is there."""
    host = side_host(arena, side)

    def act(t):
        wait_for("a worker", 10, lambda: arena.role(host, "worker"))
        time.sleep(delay)
        t.kill(host, role)
    run_case(arena, "%s %3d ms after it began" % (name, delay * 1000), None, act, 0, options)


def side_host(arena, side):
    return arena.where if side == "source" else OTHER[arena.where]


def run_case(arena, name, event, act, delay=0.0, options=()):
    """A move; at `event` (None: `delay` after its begin) act(trouble) is done. Returns what it says
    at its end."""
    trouble = Trouble(arena)
    arena.gate(event)
    p = arena.begin(*options)
    if event:
        arena.await_gate(event, p)
    else:
        time.sleep(delay)
    act(trouble)
    arena.go()
    try:
        status, last, err = arena.ended(p)
    finally:
        trouble.over()
    arena.gate(None)
    arena.go()
    arena.settle()
    for h in trouble.dead:
        arena.restart(h)
    report(arena, name, status, last, err, bool(trouble.dead))
    return last


def report(arena, name, status, last, err, monitor_dead=False):
    what = arena.judge(status, last, monitor_dead)
    OUTCOMES[what] += 1
    text = (last.get("error") or {}).get("message", "") or (err.splitlines() or [""])[0]
    try:
        arena.clean_up()
    except Failed as e:
        raise Failed("%s: %s; %s" % (name, e, last))
    print("%-44s %-22s %s" % (name, what, text[:90]), flush=True)


class TroubleLab(Lab):
    """A lab whose hosts have the hook that waits."""
    hook = HOOK

    def __enter__(self):
        super().__enter__()
        for h in ("a", "b"):
            self.exec(h, "/bin/sh", "-c", "mkdir -p /etc/migrated/hooks.d && cd"
                      " /etc/migrated/hooks.d && cat >10-gate && chmod 755 10-gate",
                      stdin=self.hook % self.dir)
        return self
