# SPDX-License-Identifier: Apache-2.0
"""What the tests in virtual machines share: `with Vm("6.1", config) as vm: ...`. Exit status 77 where
the machines cannot be had.
"""
import json
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from lab import ADDRESS, OTHER, ROOT, SIGNALS, Failed, expect, main, say_move, skip, wait_for  # noqa: E402,F401

VM = os.path.join(ROOT, "tests/lab/vm")


class Vm:
    def __init__(self, kernel, config="", kernel_b=None, config_b="", env=None):
        name = re.sub(r"[^a-z0-9]", "", os.path.basename(sys.argv[0]).lower())
        self.env = dict(os.environ, LAB=os.environ.get("LAB") or "%s%d" % (name[:20], os.getpid()),
                        LAB_KERNEL=kernel, LAB_KERNEL_B=kernel_b or kernel, LAB_CONFIG=config,
                        LAB_CONFIG_B=config_b, **(env or {}))

    def __enter__(self):
        for sig in SIGNALS:
            signal.signal(sig, signal.default_int_handler)
        done = self.call("up")
        if done.returncode == 77:
            skip(done.stdout.strip())
        expect(done.returncode == 0, "vm up: %s", done.stderr)
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and kind is not SystemExit:
            for h in ("a", "b"):
                log = self.call("log", h)
                print("--- log of %s\n%s%s" % (h, log.stdout[-3000:], log.stderr[-1000:]))
                print("--- console of %s\n%s" % (h, self.call("console", h).stdout[-4000:]))
        for sig in SIGNALS:
            signal.signal(sig, signal.SIG_IGN)
        self.call("down")

    def call(self, *args):
        return subprocess.run([VM, *args], env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True)

    def exec(self, host, *argv, check=True):
        done = self.call("exec", host, *argv)
        if check:
            expect(done.returncode == 0, "%s on %s: exit %d: %s", " ".join(argv[:3]), host,
                   done.returncode, (done.stderr or done.stdout)[-2000:])
        return done

    def start(self, host, *argv):
        """A program that stays, without a file open; returns its number."""
        script = 'cd /tmp; setsid "$@" >/dev/null 2>&1 </dev/null & echo $!'
        return int(self.exec(host, "bash", "-c", script, "sh", *argv).stdout)

    def restart(self, host, program):
        """Another daemon in the place of the one that runs."""
        script = ('kill "$(pgrep -o -x migrated)"; while migratectl identity >/dev/null 2>&1; do sleep 0.1; done; '
                  'setsid "$1" --listen "$2:7420" >>/var/log/migrated 2>&1 </dev/null & '
                  'for i in $(seq 300); do migratectl identity >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1')
        self.exec(host, "bash", "-c", script, "sh", program, ADDRESS[host])

    def tls_stat(self, host):
        """What the kernel counts of its own TLS."""
        text = self.exec(host, "cat", "/proc/net/tls_stat").stdout
        return {name: int(n) for name, n in (line.split() for line in text.splitlines())}

    def migrations(self, host):
        """Those that go on."""
        return json.loads(self.exec(host, "migratectl", "--json", "list").stdout)["migrations"]

    def status(self, host, migration):
        """How a migration that is over, or nearly so, looks from one of the hosts."""
        found = json.loads(self.exec(host, "migratectl", "--json", "status", migration).stdout)
        return (found["ended"] + found["migrations"])[0]

    def send(self, host, pid, *options):
        """Emulated machines write less than they compute: bounds are wide. And their clocks drift apart where the
        machine has much else to do."""
        for left in (2, 1, 0):
            done = self.exec(host, "migratectl", "--json", "send", str(pid), OTHER[host], "--force-switch",
                             "--max-rounds", "4", *options, check=False)
            lines = [json.loads(l) for l in done.stdout.splitlines()]
            last = lines[-1] if lines else {}
            if not left or "the wall clock there is" not in (last.get("error") or {}).get("message", ""):
                break
            self.call("clocks")
        expect(done.returncode == 0 and last.get("outcome") == "moved", "send %d: exit %d: %s %s", pid,
               done.returncode, json.dumps(last, indent=1), done.stderr)
        return last
