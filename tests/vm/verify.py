# SPDX-License-Identifier: Apache-2.0
"""The program that knows what must be in each of its pages (tests/e2e/verifier.c) in virtual machines:
their kernels track writes in other ways."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from verifying import PORT, Verifier  # noqa: E402
from vm import OTHER, expect, say_move  # noqa: E402

MIB, RATE = "16", "4"
FILE = "/build/bin/migrated"  # the same on both, and never written


def verify(vm, tracker, moves=5):
    pid, host = vm.start("a", "/build/tests/e2e/e2e-verifier", PORT, MIB, FILE, RATE), "a"
    v = Verifier(vm, host)
    v.ready(120)
    for n in range(moves):
        done = vm.send(host, pid)
        host = OTHER[host]
        say_move(n, done, ", verifier, tracker " + done["tracker"])
        expect(done["tracker"] == tracker, "tracker %s was used", done["tracker"])
        v.goes_on(host, rounds=5, seconds=120)
    print("%d pages looked at, none was wrong" % v.end(moves), flush=True)
