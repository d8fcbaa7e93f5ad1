# SPDX-License-Identifier: Apache-2.0
"""A lab that stays up for many rounds: two hosts whose daemons have fault points, whose boot can be
simulated, and whose state lies on a disk or a small one; and the program that is moved."""
import importlib.machinery
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

from faults import Faults

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("MIGRATED_BUILD", os.path.join(ROOT, "build-faults")))
OTHER = {"a": "b", "b": "a"}
BOOT_ID = "/proc/sys/kernel/random/boot_id"
STATE_DIR = "/var/lib/migrated"
MS_BIND = 4096
RECORD_BYTES, BOOT_AT = 1024, 112  # daemon/roles/journal.h
MARKS = ("none", "intent", "commit", "moved", "building", "committed", "running", "confirmed")


class Missed(Exception):
    """A promise that was broken."""


def expect(condition, text, *args):
    if not condition:
        raise Missed(text % args if args else text)


def wait_for(seconds, test, nap=0.004):
    """What test() gives at last, or something false."""
    end = time.monotonic() + seconds
    while True:
        result = test()
        if result or time.monotonic() > end:
            return result
        time.sleep(nap)


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def load_hosts(lab):
    """tests/lab/hosts as a module, for this lab."""
    os.environ.update(LAB=lab, MIGRATED_BUILD=BUILD)
    loader = importlib.machinery.SourceFileLoader("hosts", os.path.join(ROOT, "tests/lab/hosts"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("hosts", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


class Command:
    """A program that runs in a host."""

    def __init__(self, hosts, host, argv):
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.status = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 126
            try:
                null = os.open("/dev/null", os.O_RDONLY)
                for fd, to in ((null, 0), (self.out.fileno(), 1), (self.err.fileno(), 2)):
                    os.dup2(fd, to)
                code = hosts.exec_in(hosts.load(), host, argv)
            except BaseException as e:  # noqa: the parent shows it
                os.write(2, str(e).encode())
            os._exit(code)

    def over(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self, seconds):
        return wait_for(seconds, self.over)

    def end(self):
        """For one that must not stay."""
        if not self.over():
            os.kill(self.pid, signal.SIGTERM)
            if not self.wait(5):
                os.kill(self.pid, signal.SIGKILL)
                self.wait(5)

    def text(self, f):
        f.seek(0)
        return f.read().decode(errors="replace")

    def lines(self):
        """The JSON that it has said."""
        return [json.loads(l) for l in self.text(self.out).splitlines() if l.startswith("{")]


class Process:
    """Named by a pidfd, so never a wrong one."""

    def __init__(self, pid):
        self.pid, self.fd = pid, os.pidfd_open(pid)

    def signal(self, number):
        try:
            signal.pidfd_send_signal(self.fd, number)
        except ProcessLookupError:
            pass

    def gone(self, seconds):
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self):
        os.close(self.fd)


def process(pid):
    try:
        return Process(pid)
    except (OSError, ValueError):
        return None


class Host:
    def __init__(self, world, name):
        self.world, self.name = world, name
        info = world.state["hosts"][name]
        self.init, self.group = info["pid"], info["groups"][0]
        self.root = "/proc/%d/root" % self.init
        self.faults = Faults(os.path.join(world.dir, "faults." + name))
        self.boot_file = os.path.join(world.dir, "boot." + name)
        self.state_disk = os.path.join(world.dir, "state." + name)
        self.cache = {}

    # --- its processes

    def pids(self, group=""):
        """All processes in a group of it and below, by their numbers here."""
        found = []
        for top, _, _ in os.walk(os.path.join(self.group, group)):
            found += [int(l) for l in read(top + "/cgroup.procs").split()]
        return found

    def roles(self):
        """[(number here, role)] of the daemon's processes."""
        found = []
        for pid in self.pids("migrated.service"):
            argv = read("/proc/%d/cmdline" % pid).split("\0")
            stat = read("/proc/%d/stat" % pid).rsplit(")", 1)[-1].split()
            if not stat or stat[0] in "ZX":
                continue
            role = argv[argv.index("--role") + 1] if "--role" in argv else (
                "monitor" if os.path.basename(argv[0]) == "migrated" else "other")
            if read("/proc/%d/comm" % pid).strip() == "migrated-names":
                role = "names"
            found.append((pid, int(stat[1]), role))
        nets = {p for p, _, role in found if role == "net"}
        return [(p, "net-child" if parent in nets and role == "net" else role)
                for p, parent, role in found]

    def all(self, role):
        return [p for p in (process(pid) for pid, r in self.roles() if r == role) if p]

    def one(self, role):
        found = self.all(role)
        for p in found[1:]:
            p.close()
        return found[0] if found else None

    def signal_daemon(self):
        """SIGKILL to all of its roles at once, if there are any."""
        try:
            with open(os.path.join(self.group, "migrated.service/cgroup.kill"), "w") as f:
                f.write("1")
        except FileNotFoundError:
            pass

    def kill_daemon(self):
        self.signal_daemon()
        wait_for(5, lambda: not self.roles())

    def path(self, path):
        return self.root + path

    def proc(self, pid):
        return "%s/proc/%d" % (self.root, pid)

    def subject(self, member=0):
        """The copy of the subject that is here (of its root, or of another of its processes), as a Process, or
        None."""
        pid = self.outer(self.world.pids[member]) if member < len(self.world.pids) else 0
        return process(pid) if pid else None

    def members(self):
        """All of its processes that are here."""
        return [p for p in (self.subject(n) for n in range(len(self.world.pids))) if p]

    def outer(self, inner):
        """Number here of a process of the host."""
        known = self.cache.get(inner)
        if known and self.inner(known) == inner:
            return known
        service = set(self.pids("migrated.service"))
        for pid in self.pids():
            if pid not in service and self.inner(pid) == inner:
                self.cache[inner] = pid
                return pid
        # what is being built is a child of the worker, or wherever it has got to by now
        for pid in service:
            if self.inner(pid) == inner:
                return pid
        return 0

    @staticmethod
    def inner(pid):
        for line in read("/proc/%d/status" % pid).splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
        return 0

    def copy(self):
        """What the subject's copy here does: "", "runs", "frozen", "stopped". Of several processes, when not all
        do the same: "runs, in part" if one of them does, else "in parts"."""
        states = [self.copy_of(pid) for pid in self.world.pids]
        if len(set(states)) == 1:
            return states[0]
        return "runs, in part" if "runs" in states else "in parts"

    def copy_of(self, pid):
        base = self.proc(pid)
        stat = read(base + "/stat").rsplit(")", 1)[-1].split()
        if len(stat) < 7 or stat[0] in "ZX" or int(stat[6]) & 0x4:
            return ""
        pending = [l for l in read(base + "/status").splitlines() if l.startswith("ShdPnd")]
        if pending and int(pending[0].split()[1], 16) & 0x100:
            return ""  # killed, not buried yet
        if "frozen 1" in read(self.group_of(pid) + "/cgroup.events"):
            return "frozen"
        return "stopped" if stat[0] in "Tt" else "runs"

    def group_of(self, pid):
        """Directory of its v2 group, as seen from here."""
        lines = [l[3:] for l in read(self.proc(pid) + "/cgroup").splitlines()
                 if l.startswith("0::")]
        here = [l[3:] for l in read("/proc/%d/cgroup" % self.init).splitlines()
                if l.startswith("0::")]
        return self.group + lines[0][len(here[0]):] if lines and here else "/nowhere"

    # --- its daemon and its boot

    def inside(self, fn):
        """Runs fn() in the namespaces of the host."""
        pid = os.fork()
        if pid == 0:
            try:
                self.world.hosts.join(self.world.hosts.load(), self.name)
                fn()
                os._exit(0)
            except BaseException as e:  # noqa
                os.write(2, ("%s: %s\n" % (self.name, e)).encode())
            os._exit(1)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("host %s: see above" % self.name)

    def boot(self, boot_id):
        with open(self.boot_file, "w") as f:
            f.write("%s\n" % boot_id)

    def prepare(self, small):
        """State on a disk, or a small one; a boot id that can be changed."""
        mount = self.world.hosts.mount
        self.boot(self.world.boot_id)
        os.mkdir(self.state_disk, 0o755)

        def mounts():
            mount(self.boot_file, BOOT_ID, None, MS_BIND)
            if small:
                mount("tmpfs", STATE_DIR, "tmpfs", 0, "mode=755,size=1m")
            else:
                mount(self.state_disk, STATE_DIR, None, MS_BIND)
        self.inside(mounts)

    def start(self):
        os.environ["MIGRATED_FAULTS"] = self.faults.path
        try:
            result = self.world.hosts.daemon_start(self.world.hosts.load(), self.name)
        finally:
            del os.environ["MIGRATED_FAULTS"]
        wait_for(5, lambda: {"control", "monitor", "net"} <= set(self.names()))
        return result

    def names(self):
        return sorted(r for _, r in self.roles())

    def dead(self):
        return "monitor" not in self.names()

    def revive(self):
        """What an init system does when the daemon has died: ends what is left of it, starts it."""
        self.kill_daemon()
        self.faults.unlock()
        return self.start()

    def end_all(self):
        """Everything that runs here."""
        for _ in range(50):
            left = [p for p in (process(pid) for pid in self.pids() if pid != self.init) if p]
            for p in left:
                p.signal(signal.SIGKILL)
            for p in left:
                p.gone(2)
                p.close()
            if not left:
                break

    def boot_anew(self, journal="kept"):
        """journal: "kept": all that was written is there; "lost": only what was synced."""
        for top, _, _ in os.walk(self.group, topdown=False):
            if top != self.group:
                wait_for(2, lambda top=top: not rmdir(top))
        self.faults.clear()
        self.faults.unlock()
        if journal == "lost":
            self.restore()
        self.world.subject.forget_network(self.name)
        shutil.rmtree(self.path("/run/migrated"), ignore_errors=True)
        os.mkdir(self.path("/run/migrated"))
        self.boot(uuid.uuid4())

    def fill(self):
        """The disk of its state has no room from now on; returns what ends that."""
        path = os.path.join(self.path(STATE_DIR), "filler")
        with open(path, "wb", buffering=0) as f:
            for size in (65536, 4096, 512):
                try:
                    while f.write(b"x" * size) == size:
                        pass
                except OSError:
                    pass
        return lambda: os.unlink(path)

    def restore(self):
        """The journal as a disk has it whose power was cut."""
        folder = self.path(STATE_DIR + "/journal")
        if not os.path.isdir(folder):
            return
        durable = self.faults.durable()
        for name in os.listdir(folder):
            if name not in durable:
                os.unlink(os.path.join(folder, name))
        for name, data in durable.items():
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data)

    def journal(self):
        """{name: last mark}"""
        folder = self.path(STATE_DIR + "/journal")
        found = {}
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            try:
                with open(os.path.join(folder, name), "rb") as f:
                    data = f.read()
            except OSError:
                continue
            marks = [int.from_bytes(data[at + 12:at + 16], "little")
                     for at in range(0, len(data), RECORD_BYTES) if data[at:at + 4] == b"MIGR"]
            found[name] = MARKS[marks[-1]] if marks else "empty"
        return found

    def of_old_boot(self, name):
        """A destination says so when it is asked; the record has it at BOOT_AT."""
        if not name.endswith(".destination"):
            return False
        try:
            with open(self.path(STATE_DIR + "/journal/" + name), "rb") as f:
                boot = f.read(RECORD_BYTES)[BOOT_AT:BOOT_AT + 36].decode()
        except OSError:
            return False
        return boot != read(self.boot_file).strip()

    def forget(self):
        """Answers that nobody will ask for, and what is known of the disk."""
        for name, mark in self.journal().items():
            if mark in ("committed", "running") or self.of_old_boot(name):
                os.unlink(self.path(STATE_DIR + "/journal/" + name))

    def left_overs(self):
        """What a move may not leave on a host on which nothing goes on."""
        found = ["%s" % os.path.join(STATE_DIR, d) for d in os.listdir(self.path(STATE_DIR))
                 if d.startswith("moving-")]
        # what a destination keeps until the source has said that it knows, be it for a month
        found += ["journal/%s (%s)" % x for x in self.journal().items()
                  if x[1] not in ("committed", "running") and not self.of_old_boot(x[0])]
        for top, dirs, _ in os.walk(self.group):
            for d in dirs:
                empty = "populated 0" in read(os.path.join(top, d, "cgroup.events"))
                if d.startswith("migrated-hold-") or (d.startswith("pid-") and empty):
                    found.append("control group " + os.path.join(top, d)[len(self.group):])
        found += ["/run/migrated/" + n for n in os.listdir(self.path("/run/migrated"))
                  if n != "control.sock"]
        found += self.world.subject.left_overs(self.name)
        names = self.names()
        if names != ["control", "monitor", "names", "net"]:
            found.append("processes " + " ".join(names))
        return found


def rmdir(path):
    try:
        os.rmdir(path)
    except OSError:
        pass
    return os.path.exists(path)


class World:
    def __init__(self, name, kind, small_disk=False):
        self.name, self.kind, self.dir, self.pid, self.pids = name, kind, None, 0, []
        self.small_disk = small_disk
        self.where, self.subjects = "a", 0

    def __enter__(self):
        self.hosts = load_hosts(self.name)
        self.hosts.output_of = self.output_of
        self.dir = tempfile.mkdtemp(prefix="migrated-chaos-")
        os.chmod(self.dir, 0o755)
        try:
            with open(os.devnull, "w") as null:
                sys.stdout, shown = null, sys.stdout
                try:
                    self.hosts.main_up(["--no-daemon", "--hosts=" + ",".join(self.kind.hosts)])
                finally:
                    sys.stdout = shown
            self.state = self.hosts.load()
            # One for both: files are known to be the same ones on this machine by it.
            self.boot_id = uuid.uuid4()
            self.host = {h: Host(self, h) for h in ("a", "b")}
            for h in self.host.values():
                h.prepare(self.small_disk)
            prints = {n: h.start() for n, h in self.host.items()}
            for n in ("a", "b"):
                self.output_of(n, "migratectl", "peer", "add", OTHER[n],
                               self.hosts.ADDRESS[OTHER[n]], prints[OTHER[n]])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(sig, signal.SIG_IGN)
        self.hosts.down()
        shutil.rmtree(self.dir or "", ignore_errors=True)

    def output_of(self, host, *argv):
        c = Command(self.hosts, host, list(argv))
        if not c.wait(20) or c.status:
            c.end()
            raise self.hosts.Failed("%s: exit %s: %s" % (" ".join(argv), c.status, c.text(c.err)))
        return c.text(c.out)

    def log(self, host):
        return read(os.path.join(self.hosts.STATE, host + ".log"))

    # --- the subject

    def start_subject(self):
        self.subjects += 1
        self.subject = self.kind(self, self.subjects)
        self.where, self.pid = "a", self.subject.start()
        self.pids = self.subject.pids(self.pid)
        self.threads = {p: len(os.listdir(self.host["a"].proc(p) + "/task")) for p in self.pids}

    def end_subject(self):
        for h in self.host.values():
            found = h.members()
            for p in found:
                p.signal(signal.SIGKILL)
            for p in found:
                p.gone(5)
                p.close()
        self.subject.end()
        self.pid, self.pids = 0, []

    def renew(self):
        """After something went wrong: nothing of it stays."""
        self.link(True)
        self.end_subject()
        for h in self.host.values():
            h.faults.clear()
            h.end_all()
            h.boot_anew()
            shutil.rmtree(h.path(STATE_DIR + "/journal"), ignore_errors=True)
            for d in os.listdir(h.path(STATE_DIR)):
                if d.startswith("moving-"):
                    shutil.rmtree(h.path(STATE_DIR + "/" + d))
        self.boot_id = uuid.uuid4()
        for h in self.host.values():
            h.boot(self.boot_id)
            h.start()
        self.start_subject()

    def copies(self):
        return {n: c for n, c in ((n, h.copy()) for n, h in self.host.items()) if c}

    def same_boot(self):
        """After a reboot was judged: one boot id for both again."""
        ids = {read(h.boot_file) for h in self.host.values()}
        if len(ids) > 1:
            self.boot_id = uuid.uuid4()
            for h in self.host.values():
                h.kill_daemon()
                h.boot(self.boot_id)
            for h in self.host.values():
                h.revive()

    # --- the link

    def link(self, up):
        subprocess.run(["nsenter", "-t", str(self.host["a"].init), "-n", "ip", "link", "set", "eth0",
                        "up" if up else "down"], check=True)

    def send(self, *options):
        to = OTHER[self.where]
        return Command(self.hosts, self.where,
                       ["migratectl", "--json", "send", str(self.pid), to, *options])
