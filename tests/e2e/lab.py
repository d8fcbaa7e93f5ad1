# SPDX-License-Identifier: Apache-2.0
"""What end-to-end tests share: a lab of their own, programs in it, moves, and comparing.

A test is a program: `with Lab() as lab: ...`, exit status 0, 1, or 77 through skip(). Standard
library only.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import sanitized

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("MIGRATED_BUILD", os.path.join(ROOT, "build")))
HOSTS = os.path.join(ROOT, "tests/lab/hosts")
OTHER = {"a": "b", "b": "a"}
ADDRESS = {"a": "10.77.0.1", "b": "10.77.0.2"}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    pass


def skip(why):
    print("skip: " + why)
    sys.exit(77)


def expect(condition, text, *args):
    if not condition:
        raise Failed(text % args if args else text)


def wait_for(what, seconds, test):
    """Calls test() until it gives something true, which is returned."""
    end = time.monotonic() + seconds
    while True:
        result = test()
        if result:
            return result
        expect(time.monotonic() < end, "waited %s s for %s", seconds, what)
        time.sleep(0.02)


def overloaded():
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


class Outcome(dict):
    """The last JSON line of migratectl, with the rest of what it said."""

    def __init__(self, done, status, lines, err):
        super().__init__(done)
        self.status, self.lines, self.err = status, lines, err


class Lab:
    def __init__(self, daemons=True, hosts="a,b"):
        script = re.sub(r"[^a-z0-9]", "", os.path.basename(sys.argv[0]).lower())
        self.name = os.environ.get("LAB") or "%s%d" % (script[:20], os.getpid())
        self.daemons, self.with_hosts = daemons, hosts
        self.env = dict(os.environ, LAB=self.name)
        self.sanitized = sanitized.of_build(BUILD)
        for name, value in sanitized.OPTIONS.items() if self.sanitized else ():
            self.env.setdefault(name, value)
        self.dir = None

    def __enter__(self):
        # a test that is told to end takes its lab down
        for sig in SIGNALS:
            signal.signal(sig, signal.default_int_handler)
        try:
            self.dir = tempfile.mkdtemp(prefix="migrated-e2e-")
            os.chmod(self.dir, 0o755)
            self.hosts("up", "--hosts=" + self.with_hosts,
                       *([] if self.daemons else ["--no-daemon"]))
            self.state = json.loads(self.hosts("info"))
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, kind, value, trace):
        handlers = {sig: signal.signal(sig, signal.SIG_IGN) for sig in SIGNALS}
        said = self.end_sanitized() if self.sanitized and self.daemons else []
        trouble = None
        if self.daemons:
            try:
                self.check_filters()
            except Failed as e:
                trouble, kind = e, kind or Failed
        if kind is not None and self.daemons and kind is not SystemExit:
            for h in ("a", "b"):
                log = subprocess.run([HOSTS, "log", h], env=self.env, capture_output=True,
                                     text=True).stdout
                print("--- log of %s\n%s" % (h, log[-4000:]))
        self.down()
        for sig, handler in handlers.items():
            signal.signal(sig, handler)
        for report in said:
            print("FAILED: " + report)
        if trouble:
            raise trouble
        expect(kind is not None or not said, "%d reports of sanitizers", len(said))

    def log(self, host):
        return self.hosts("log", host)

    def end_sanitized(self):
        """The daemons end as they should; returns what any role of theirs had to say."""
        try:
            for h in ("a", "b"):
                self.hosts("daemon", h, "stop")
            left = sanitized.all_ended(
                BUILD, [self.state["hosts"][h]["pid"] for h in ("a", "b")])
            return (["has not ended: " + l for l in left]
                    + ["%s: %s" % (h, r) for h in ("a", "b") for r in sanitized.reports(self.log(h))])
        except Failed as e:
            return [str(e)]

    def down(self):
        """Whoever is impatient must not cut this short: `hosts` ignores what we ignore."""
        for sig in SIGNALS:
            signal.signal(sig, signal.SIG_IGN)
        try:
            self.hosts("down")
        finally:
            shutil.rmtree(self.dir or "", ignore_errors=True)

    def hosts(self, *args):
        done = subprocess.run([HOSTS, *args], env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        expect(done.returncode == 0, "hosts %s: %s", " ".join(args), done.stderr or done.stdout)
        return done.stdout

    def configure(self, *lines):
        """Both daemons begin again, with these lines as their configuration."""
        for h in ("a", "b"):
            self.exec(h, "/bin/sh", "-c", "mkdir -p /etc/migrated && cat >/etc/migrated/migrated.conf",
                      stdin="".join(l + "\n" for l in lines))
            self.restart(h)

    def restart(self, host):
        self.hosts("daemon", host, "stop")
        self.hosts("daemon", host, "start")

    def check_filters(self):
        """No role of ours has made a system call that it may not make. In a log, 31 is SIGSYS."""
        for h in ("a", "b"):
            log = subprocess.run([HOSTS, "log", h], env=self.env, capture_output=True, text=True).stdout
            bad = [l for l in log.splitlines() if "signal 31" in l]
            expect(not bad, "on %s: %s (dmesg tells the call: type=1326)", h, bad[:5])

    # --- in a host

    def exec(self, host, *argv, stdin=None, env=None, check=True, text=True):
        done = subprocess.run([HOSTS, "exec", host, *argv], env=dict(self.env, **(env or {})),
                              input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                              capture_output=True, text=text)
        if self.sanitized and text:
            found = sanitized.reports(done.stderr)
            expect(not found, "%s on %s: %s", " ".join(argv[:3]), host, "\n".join(found))
        if check:
            expect(done.returncode == 0, "%s on %s: exit %d: %s", " ".join(argv[:3]), host,
                   done.returncode, done.stderr[-2000:])
        return done

    def start(self, host, *argv, out="out", stdin="/dev/null", env=None, cwd=None):
        """Starts a program that stays: output into the file `out` of the lab's directory, a
        session of its own, a child of the host's process 1. Returns its number there."""
        script = 'cd "$1"; i=$2; o=$3; shift 3; setsid "$@" <"$i" >"$o" 2>&1 & echo $!'
        done = self.exec(host, "/bin/sh", "-c", script, "sh", cwd or self.dir, stdin,
                         os.path.join(self.dir, out), *argv, env=env)
        return int(done.stdout)

    def proc(self, host, pid):
        """The directory of a process of that host, as seen from here."""
        return "/proc/%d/root/proc/%d" % (self.state["hosts"][host]["pid"], pid)

    def alive(self, host, pid):
        try:
            with open(self.proc(host, pid) + "/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            return False

    def kill(self, host, pid, sig="KILL"):
        expect(pid > 1, "refusing to signal %d", pid)
        self.exec(host, "/bin/kill", "-" + sig, str(pid), check=False)

    def read(self, name="out"):
        with open(os.path.join(self.dir, name)) as f:
            return f.read()

    # --- moving

    def ctl(self, host, *args, env=None):
        """migratectl --json; does not fail by itself."""
        done = self.exec(host, "migratectl", "--json", *args, check=False, env=env)
        lines = []
        for line in done.stdout.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                raise Failed("not JSON: %r" % line)
        last = lines[-1] if lines else {}
        return Outcome(last, done.returncode, lines, done.stderr)

    def send(self, host, pid, *options, tries=3):
        """Moves a process from `host` to the other one; fails if that does not work. A machine with
        many times more work than processors misses deadlines: there, and only there, a move that
        was given up for that reason is tried again."""
        to = OTHER[host]
        if self.sanitized:  # that daemon cannot keep up with what most programs write
            options += ("--force-switch",)
        for left in range(tries - 1, -1, -1):
            done = self.ctl(host, "send", str(pid), to, *options)
            late = (done.get("error") or {}).get("code") == "TIMEOUT" and overloaded()
            if done.status != 1 or not late or not left:
                break
            print("         given up, a deadline passed: %s (load %.1f)" % (
                done["error"]["message"], os.getloadavg()[0]), flush=True)
        expect(done.status == 0 and done.get("outcome") == "moved",
               "send %d %s -> %s: exit %s\n%s\n%s", pid, host, to, done.status,
               json.dumps(done, indent=1), done.err)
        expect(self.alive(to, pid), "%d is not alive on %s after the move; it said: %s", pid, to,
               self.read()[-500:] if os.path.exists(os.path.join(self.dir, "out")) else "nothing")
        expect(not self.alive(host, pid), "%d is still alive on %s after the move", pid, host)
        return done


def say_move(n, done, more=""):
    print("move %2d: downtime %6.1f ms, total %7.0f ms, %d rounds, %.1f MiB sent%s" % (
        n, done["downtime_ms"], done["total_ms"], done["rounds"],
        done["bytes_sent"] / 1048576, more), flush=True)


def main(test):
    """Runs test() and turns failures into exit statuses with a short text."""
    try:
        test()
    except Failed as e:
        print("FAILED: %s" % e)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted")
        sys.exit(1)
    print("ok")
