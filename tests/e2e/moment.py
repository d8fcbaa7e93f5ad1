# SPDX-License-Identifier: Apache-2.0
"""Moves that are met in a state of the user's choice: the state is seen, not guessed by time. A hook
holds a move at an event for as long as it takes; a rate keeps it copying; a peer that is not there, or
says nothing, keeps it connecting. Many at once, each with a program of its own.
"""
import concurrent.futures
import json
import os
import re
import signal
import subprocess

from lab import HOSTS, OTHER, Failed, expect, wait_for
from trouble import Arena, TroubleLab

# Holds the move of a program at the event that the file gate.PID names, until there is go.PID.
HOOK = """#!/bin/sh
cd %s
p=$MIGRATED_PID
read -r want <gate.$p 2>/dev/null || exit 0
[ "$want" = "$MIGRATED_SIDE-$1" ] || exit 0
mv gate.$p at.$p
while [ ! -e go.$p ]; do sleep 0.05; done
"""
NOBODY, MUTE = "nobody", "mute"  # peers: packets to it vanish; it takes connections and is silent
MUTE_SCRIPT = """
import socket, sys
s = socket.create_server(("", 7999))
print("ready", flush=True)
kept = []
while True:
    kept.append(s.accept())
"""
SLOW = ("--bandwidth", "400K")
COPYING_BYTES = 300000
# state -> (event at which the hook holds it, peer, options, state that is waited for)
STATES = {
    "connect": (None, NOBODY, (), "connect"),
    "handshake": (None, MUTE, (), "connect"),
    "check": ("source-check", None, (), "rehearse"),
    "check there": ("destination-check", None, (), "rehearse"),
    "precopy": (None, None, SLOW + ("--streams", "1"), "precopy"),
    "precopy, 2 streams": (None, None, SLOW + ("--streams", "2"), "precopy"),
    "precopy, 4 streams": (None, None, SLOW + ("--streams", "4"), "precopy"),
    "pre-freeze": ("source-pre-freeze", None, (), "freeze"),
    "frozen": ("source-frozen", None, (), "freeze"),
    "frozen there": ("destination-frozen", None, (), "offered"),
    "pre-commit there": ("destination-pre-commit", None, (), "offered"),
    "pre-commit": ("source-pre-commit", None, (), "offered"),
}
DIALLING = ("connect", "handshake")
STILL = ("frozen", "frozen there", "pre-commit there", "pre-commit")


class Move:
    """A program and its sends, one after the other."""

    def __init__(self, lab, name, state, mib=4, rate=2):
        self.lab, self.name, self.state = lab, name, state
        self.event, self.peer, self.options, self.wanted = STATES[state]
        self.arena = Arena(lab, name)
        self.mib, self.rate = mib, rate

    def start(self):
        self.arena.start(self.mib, rate=self.rate)

    def begin(self, *options):
        a = self.arena
        a.gate(self.event)
        self.path = os.path.join(self.lab.dir, self.name + ".said")
        with open(self.path, "w") as out:
            self.p = subprocess.Popen(
                [HOSTS, "exec", a.where, "migratectl", "--json", "send", str(a.pid),
                 self.peer or OTHER[a.where], *self.options, *options], env=self.lab.env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def said(self):
        with open(self.path) as f:
            text = f.read()
        return [json.loads(l) for l in text.split("\n")[:-1] if l.startswith("{")]

    def id(self):
        return [l["id"] for l in self.said() if l.get("id")][0]

    def reached(self):
        """It is in the state; False while it may still come there."""
        if self.p.poll() is not None:
            said = self.said()
            with open(self.path) as f:
                expect(False, "%s: it ended before: %s %s", self.state,
                       said[-1].get("error") if said else "", f.read()[-300:])
        if self.event:
            return os.path.exists(self.arena.path("at"))
        # copying: some pages have gone, over all connections that there are to be
        return any(l.get("state") == self.wanted and (
            self.wanted != "precopy" or l["bytes_sent"] > COPYING_BYTES) for l in self.said())

    def await_state(self):
        wait_for("%s: the state" % self.state, 60, self.reached)

    def client(self):
        """The number of migratectl on this machine: the child of who went into the host."""
        path = "/proc/%d/task/%d/children" % (self.p.pid, self.p.pid)
        found = wait_for("migratectl", 10, lambda: open(path).read().split())
        return int(found[0])

    def signal(self, number):
        """To migratectl itself: who waits for it in our stead may not be ready to pass it on."""
        fd = os.pidfd_open(self.client())
        signal.pidfd_send_signal(fd, number)
        os.close(fd)

    def ended(self):
        """(exit status, last line): of the client, or what the daemon says where there is none."""
        try:
            status = self.p.wait(timeout=120)
        except subprocess.TimeoutExpired:
            raise Failed("%s: no end; %s" % (self.state, [dict(
                self.lab.ctl(h, "status", self.id())) for h in ("a", "b")]))
        if status != 128 + signal.SIGKILL:
            said = self.said()
            return status, said[-1] if said else {}
        done = wait_for("%s: its end" % self.state, 60, self.outcome)
        return {"moved": 0, "kept": 1, "in_doubt": 3}[done["outcome"]], done

    def outcome(self):
        said = self.lab.ctl(self.arena.where, "status", self.id())
        return (said.get("ended") or [None])[0]

    def let_go(self):
        self.arena.gate(None)
        self.arena.go()


class MomentLab(TroubleLab):
    """A lab with the hook, and with peers that are none."""
    hook = HOOK
    lines = ("hook_timeout = 300", "connect_timeout = 120", "handshake_timeout = 120")

    def __enter__(self):
        super().__enter__()
        try:
            self.configure(*self.lines)
            for n, (name, address) in enumerate(((NOBODY, "10.77.0.99"), (MUTE, "10.77.0.2:7999"))):
                added = self.ctl("a", "peer", "add", name, address,
                                 "SHA256:" + "A" * 42 + "AE"[n])
                expect(added.status == 0, "peer add: %s", added.err)
            self.exec("a", "ip", "neigh", "add", "10.77.0.99", "lladdr", "02:00:00:00:00:99", "dev",
                      "eth0", "nud", "permanent")
            self.start("b", "/usr/bin/python3", "-c", MUTE_SCRIPT, out="mute")
            wait_for("the mute peer", 20, lambda: "ready" in self.read("mute"))
        except BaseException:
            self.down()
            raise
        return self


def at_once(f, moves, n=8):
    """f of each, in order, n at a time; most of it is waiting for other processes."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(f, moves))


def judge(m, status, last, code, text):
    """It was kept, the reason is the one that was given, and nothing is left anywhere."""
    error = last.get("error") or {}
    what = m.arena.judge(status, last, False)
    expect(status == 1 and re.fullmatch(code, error.get("code", "")) and re.search(
        text, json.dumps(error)),
           "%s: exit %d, not %s \"%s\": %s", m.state, status, code, text, error or last)
    m.arena.clean_up()
    return what, error
