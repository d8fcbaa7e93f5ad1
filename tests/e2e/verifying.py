# SPDX-License-Identifier: Apache-2.0
"""Talking to a verifier (verifier.c) in a lab or in virtual machines."""
import re

from lab import expect, wait_for

PORT = "7501"


class Verifier:
    """`machine`: a Lab or a Vm."""

    def __init__(self, machine, host, port=PORT):
        self.machine, self.host, self.port = machine, host, port
        self.rounds = self.moves = self.checks = 0

    def ask(self, line="how"):
        """What it answers; "" when it does not yet, or no more."""
        script = ("exec 3<>/dev/tcp/127.0.0.1/%s && echo %s >&3 && cat <&3" % (self.port, line))
        return self.machine.exec(self.host, "bash", "-c", script, check=False).stdout

    def numbers(self, line="how"):
        text = self.ask(line)
        m = re.match(r"rounds (\d+) checks (\d+) wrong (\d+) moves (\d+)\n", text)
        if not m:
            return None
        rounds, self.checks, wrong, self.moves = (int(x) for x in m.groups())
        expect(wrong == 0, "%d differences:\n%s", wrong, text[:6000])
        return rounds, text

    def ready(self, seconds=60):
        wait_for("the verifier", seconds, lambda: self.numbers())

    def goes_on(self, host, rounds=20, seconds=60):
        """After a move to this host: every thread has worked and found nothing."""
        self.host = host
        before = wait_for("the verifier to answer", seconds, self.numbers)[0]
        wait_for("its threads to go on", seconds,
                 lambda: (self.numbers() or (0, ""))[0] >= before + rounds)

    def end(self, moves):
        """It looks at everything for the last time."""
        got = self.numbers("end")
        expect(got and got[1].endswith("done\n"), "it does not end: %r", got)
        expect(self.moves == moves, "it has been moved %d times and not %d", self.moves, moves)
        return self.checks
