#!/usr/bin/python3 -SEB
# SPDX-License-Identifier: Apache-2.0
"""Any process of the daemon dies at any moment: one migration ends with a clear outcome, one copy of
the process runs on, other migrations and the daemon go on."""
import os
import signal
import struct
import subprocess
import sys
import time

E2E = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e")
sys.path.insert(0, E2E)
from lab import ADDRESS, HOSTS, Failed, Lab, expect, main, wait_for  # noqa: E402

TICKER = os.path.join(E2E, "ticker.py")
HOOK = """#!/bin/sh
[ "$1" = %s ] || exit 0
for p in /proc/[0-9]*; do
    [ "$(cat $p/comm 2>/dev/null)" = %s ] && kill -9 ${p#/proc/}
done
sleep 0.2
exit 0
"""


def hook(lab, host, text):
    lab.exec(host, "/bin/sh", "-c", "mkdir -p /etc/migrated/hooks.d && cd /etc/migrated/hooks.d &&"
             " cat >50-test && chmod 755 50-test", stdin=text)


def no_hook(lab, host):
    lab.exec(host, "/bin/rm", "-f", "/etc/migrated/hooks.d/50-test")


def roles(lab, host, name):
    """Numbers of our processes of that name on a host."""
    out = lab.exec(host, "/bin/sh", "-c", "for p in /proc/[0-9]*; do"
                   " [ \"$(cat $p/comm 2>/dev/null)\" = %s ] && echo ${p#/proc/}; done; true" % name)
    return [int(p) for p in out.stdout.split()]


class Ticker:
    def __init__(self, lab, name, mib=2):
        self.lab, self.out = lab, name
        self.pid = lab.start("a", "/usr/bin/python3", TICKER, str(mib), out=name)
        wait_for("the ticker", 30, lambda: "ready" in lab.read(name))

    def ticks(self):
        return int((self.lab.read(self.out).split() + ["0", "0"])[1])

    def goes_on(self, host, what):
        other = "b" if host == "a" else "a"
        before = self.ticks()
        wait_for("%s: it to go on" % what, 10, lambda: self.ticks() > before + 3)
        expect(self.lab.alive(host, self.pid), "%s: it is not on %s", what, host)
        # what was being built there may take a moment to be ended
        wait_for("%s: nothing on %s" % (what, other), 5,
                 lambda: not self.lab.alive(other, self.pid))


def slow_send(lab, pid, rate="20M"):
    return subprocess.Popen([HOSTS, "exec", "a", "migratectl", "send", str(pid), "b",
                             "--bandwidth", rate], env=lab.env, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def worker_dies(lab):
    for event in ("check", "pre-freeze", "frozen", "pre-commit"):
        for host in ("a", "b"):
            t = Ticker(lab, "w-%s-%s" % (event, host))
            hook(lab, host, HOOK % (event, "migrated-worker"))
            done = lab.ctl("a", "send", str(t.pid), "b")
            no_hook(lab, host)
            what = "worker of %s dies at %s" % (host, event)
            if done.status == 0:  # there is no such event on that side
                expect(event == "pre-freeze" and host == "b", "%s: it moved", what)
                lab.kill("b", t.pid)
                continue
            expect(done.status == 1 and done["outcome"] == "kept", "%s: %d %s\n%s", what,
                   done.status, dict(done), done.err)
            t.goes_on("a", what)
            print("%-38s %s" % (what, done["error"]["message"]), flush=True)
            group = open(lab.proc("a", t.pid) + "/cgroup").read()
            expect("hold" not in group, "%s: it is still in %s", what, group)
            lab.send("a", t.pid)  # and it can still be moved
            lab.kill("b", t.pid)


def committed(lab):
    """After COMMIT it belongs to the destination, whoever dies there."""
    t = Ticker(lab, "committed")
    hook(lab, "b", HOOK % ("running", "migrated-worker"))
    done = lab.ctl("a", "send", str(t.pid), "b")
    no_hook(lab, "b")
    expect(done.status == 0, "after RUNNING: %d %s\n%s", done.status, dict(done), done.err)
    t.goes_on("b", "worker of b dies after RUNNING")
    hook(lab, "b", HOOK % ("committed", "migrated-worker"))
    done = lab.ctl("b", "send", str(t.pid), "a")
    no_hook(lab, "b")
    t.goes_on("a", "worker of the source dies after RUNNING")
    print("%-38s %s" % ("after RUNNING", done.get("outcome")), flush=True)
    lab.kill("a", t.pid)


def others_die(lab):
    """Relay, net, control: the migration may fail, a second one does not notice."""
    for name in ("migrated-net", "migrated-ctl"):
        t = Ticker(lab, "d-" + name, 64)
        p = slow_send(lab, t.pid)
        time.sleep(1)
        for pid in roles(lab, "a", name):
            lab.kill("a", pid)
        p.communicate(timeout=60)
        wait_for(name + " to be back", 10, lambda: lab.ctl("a", "identity").status == 0)
        wait_for("no migration", 60, lambda: not lab.ctl("a", "list").get("migrations"))
        where = "b" if lab.alive("b", t.pid) else "a"
        t.goes_on(where, name + " died")
        wait_for("a move", 10, lambda: where == "b" or lab.ctl("a", "send", str(t.pid), "b").status == 0)
        t.goes_on("b", name + " died")
        lab.kill("b", t.pid)
        print("%-38s it was on %s, then moved" % (name + " of a dies", where), flush=True)


def one_of_two(lab):
    one, two = Ticker(lab, "one", 32), Ticker(lab, "two", 32)
    first = slow_send(lab, one.pid, "5M")
    time.sleep(1)
    (worker,) = roles(lab, "a", "migrated-worker")
    second = slow_send(lab, two.pid, "20M")
    time.sleep(0.7)
    lab.kill("a", worker)
    out, err = first.communicate(timeout=60)
    expect(first.returncode == 1 and "signal 9" in err, "the first: %d %s", first.returncode, err)
    one.goes_on("a", "worker killed")
    out, err = second.communicate(timeout=60)
    expect(second.returncode == 0, "the second: %d %s", second.returncode, err)
    two.goes_on("b", "another worker killed")
    print("one of two workers dies: the other one moved", flush=True)
    lab.kill("a", one.pid)
    lab.kill("b", two.pid)


def monitor_dies(lab):
    t = Ticker(lab, "monitor", 64)
    p = slow_send(lab, t.pid)
    time.sleep(1)
    (monitor,) = roles(lab, "a", "migrated")
    lab.kill("a", monitor)
    p.communicate(timeout=60)
    t.goes_on("a", "monitor killed")
    wait_for("no process of ours", 20, lambda: not any(
        roles(lab, "a", n) for n in ("migrated-worker", "migrated-net", "migrated-ctl")))
    lab.hosts("daemon", "a", "start")
    lab.send("a", t.pid)
    lab.kill("b", t.pid)
    print("the monitor dies: nothing is left, a new one moves it", flush=True)


TALK = """
import socket, sys
s = socket.socket(socket.AF_UNIX if sys.argv[1] == "u" else socket.AF_INET)
s.connect(sys.argv[2] if sys.argv[1] == "u" else ("%s", 7420))
s.settimeout(3)
try:
    s.sendall(bytes.fromhex(sys.argv[3]))
    s.shutdown(1)
    while s.recv(65536):
        pass
except OSError:
    pass
""" % ADDRESS["a"]


def nonsense(lab):
    before = [roles(lab, "a", n) for n in ("migrated", "migrated-net", "migrated-ctl")]
    lumps = [b"", b"\0", b"GET / HTTP/1.0\r\n\r\n", os.urandom(5000), b"\x16\x03\x01" + b"\xff" * 600,
             struct.pack("<I", 0), struct.pack("<I", 0xffffffff), struct.pack("<I", 10) + b"\xff" * 10,
             struct.pack("<I", 100) + b"abc", struct.pack("<I", 4) + b"\x0a\x02\x08\x01"]
    for lump in lumps:
        for kind in "ut":
            lab.exec("a", "/usr/bin/python3", "-c", TALK, kind, "/run/migrated/control.sock",
                     lump.hex())
    after = [roles(lab, "a", n) for n in ("migrated", "migrated-net", "migrated-ctl")]
    expect(before == after, "processes before %s, after %s", before, after)
    t = Ticker(lab, "nonsense")
    lab.send("a", t.pid)
    lab.kill("b", t.pid)
    print("nonsense on both sockets: nothing happens", flush=True)


def test():
    with Lab() as lab:
        trouble = []
        for part in (worker_dies, committed, others_die, one_of_two, nonsense, monitor_dies):
            try:
                part(lab)
            except Failed as e:
                print("FAILED: %s: %s" % (part.__name__, e), flush=True)
                trouble.append(e)
        expect(not trouble, "%d parts failed", len(trouble))


signal.signal(signal.SIGPIPE, signal.SIG_IGN)
main(test)
