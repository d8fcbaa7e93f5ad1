# SPDX-License-Identifier: Apache-2.0
"""A service on an address of its own, which moves between a and b, and clients of it on c."""
import json
import os
import statistics
import subprocess

from lab import Failed, HOSTS, OTHER, expect, say_move, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
ADDRESS, ADDRESS6 = "10.77.0.100", "fd77::100"
CLIENT, SERVER = os.path.join(HERE, "tcp_client.py"), os.path.join(HERE, "tcp_server.py")


def longest_gaps(gaps, times):
    """Of each move the longest of its gaps, in seconds. gaps: (end, length), times: (begin, end), all
    by one clock, which host c has in common with us. A gap is of one move only: that with which it shares
    most of its time, if any. What a move causes begins while it runs, however late it ends; so nobody has
    to look behind the move, where the next one is."""
    longest = [0.0] * len(times)
    for end, length in gaps:
        shared = [min(end, t[1]) - max(end - length, t[0]) for t in times]
        most = max(range(len(times)), key=shared.__getitem__, default=None)
        if most is not None and shared[most] > 0:
            longest[most] = max(longest[most], length)
    return longest


class Client:
    """A program on c, or another host, that is told to end by its stdin, and says how it went."""

    def __init__(self, lab, *argv, host="c"):
        self.lab = lab
        self.p = subprocess.Popen([HOSTS, "exec", host, *map(str, argv)], env=lab.env, text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def line(self):
        text = self.p.stdout.readline()
        if not text:
            self.result()
        return json.loads(text)

    def ask(self, word):
        self.p.stdin.write(word + "\n")
        self.p.stdin.flush()
        return self.line()

    def end(self, text="\n"):
        """It is still there, and ends when it is told to."""
        if self.p.poll() is not None:
            raise Failed("a client has ended: %s" % self.p.stderr.read()[-1500:])
        return self.result(text)

    def result(self, text=None):
        out, err = self.p.communicate(text, timeout=120)
        expect(self.p.returncode == 0, "a client failed: %s%s", out[-500:], err[-1500:])
        return json.loads(out.splitlines()[-1]) if out.startswith("{") else out


class Service:
    """One process; `where` it is. Its addresses are those of a at first."""

    def __init__(self, lab, *argv, ready="listening", out="server", addresses=(ADDRESS,)):
        self.lab, self.where, self.out, self.moves = lab, "a", out, []
        self.addresses = addresses
        for a in self.addresses:
            lab.exec("a", "ip", "address", "replace", a + ("/128" if ":" in a else "/32"), "dev", "eth0",
                     *(["nodad"] if ":" in a else []))
        lab.exec("c", "ip", "neighbour", "flush", "dev", "eth0")
        self.pid = lab.start("a", *map(str, argv), out=out, env={"PYTHONPATH": HERE})
        wait_for(argv[0], 20, lambda: ready in lab.read(out))

    def clear(self):
        for a in self.addresses:
            self.lab.exec(self.where, "ip", "address", "del", a + ("/128" if ":" in a else "/32"),
                          "dev", "eth0")

    def move(self, *options):
        done = self.lab.send(self.where, self.pid, *options)
        self.where = OTHER[self.where]
        self.moves.append(done)
        say_move(len(self.moves), done)
        self.check_left()
        return done

    def stays(self, *options):
        """A move that does not come about; returns what was said."""
        done = self.lab.ctl(self.where, "send", str(self.pid), OTHER[self.where], *options)
        expect(done.status == 1 and done["outcome"] == "kept", "it was not kept: %s", dict(done))
        self.check_left()
        return done

    def check_left(self):
        """Nothing of a move is left on either host but the addresses, where the process is."""
        for h in ("a", "b"):
            wait_for("the lock on %s to go" % h, 10, lambda h=h: "migrated" not in self.lab.exec(
                h, "nft", "list", "tables").stdout)
            have = self.lab.exec(h, "ip", "-o", "address", "show", "dev", "eth0").stdout
            for a in self.addresses:
                expect((" %s/" % a in have) == (h == self.where), "%s on %s, the process on %s",
                       a, h, self.where)

    def say_gaps(self, gaps, times):
        """How much longer a client waited than the process stood still. times: (begin, end) per move."""
        more = []
        for done, gap in zip(self.moves, longest_gaps(gaps, times)):
            more.append(gap * 1000 - done["downtime_ms"])
            print("         client waited %.1f ms, downtime %.1f ms" % (gap * 1000, done["downtime_ms"]))
        print("client's longest gap less the downtime, median of %d moves: %.1f ms (worst %.1f)" % (
            len(more), statistics.median(more), max(more)), flush=True)
