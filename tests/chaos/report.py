# SPDX-License-Identifier: Apache-2.0
"""docs/faults.md, from the verdicts of a whole matrix."""
import os

import cells

SIGN = {"kept": "k", "moved": "m", "ended": "e", "gone": "-"}
HEAD = """# Faults

What became of a move that something was done to: each cell was tried once, by `tests/chaos/run --matrix`,
which wrote this table. The move is held at a point, the fault happens, the move goes on. Afterwards
daemons that died are started again.

| | |
|---|---|
| **k** | it runs at the source: the move was given up |
| **m** | it runs at the destination |
| **e** | the process itself was killed, and no copy of it is left |
| **K M** | the same, but migratectl could not say so in time (exit 3): its daemon had died, or the hosts were still settling it |
| **-** | the victim had done its work and was gone |
| **!** | the promise was broken |

In each of them at most one copy ever ran: the program numbers its beats in a file, and every number is there
once. Its memory was as it should be, nothing of the move was left on either host (processes, control groups,
scratch directories, journals), migratectl's answer and exit status were true, and the next move worked.
SIGCONT was sent to every copy before and after the fault.

Points: a name without a dash is a state, held when it is entered; the others lie between two states.
"""


def doubtful(v):
    return v.doubt_s > 0.5 or v.status == 3


def sign(v):
    if v is None:
        return "!"
    s = SIGN[v.outcome]
    return s.upper() if doubtful(v) and s.isalpha() else s


def words(v):
    return "%-6s exit %s%s  %.1f s" % (
        v.outcome, v.status, "  in doubt for %.1f s" % v.doubt_s if v.doubt_s > 0.5 else "",
        v.seconds)


def parse(text):
    """{(section, row, column): sign} of a file that write() has made, and its last table's lines."""
    found, section, head = {}, "", None
    for line in text.splitlines():
        words = [w.strip() for w in line.strip().strip("|").split("|")]
        if line.startswith("## "):
            section, head = line[3:], None
        elif line.startswith("| at |"):
            head = words
        elif head and line.startswith("| ") and len(words) == len(head):
            found.update(((section, words[0], c), w) for c, w in zip(head[1:], words[1:]))
    last = [l for l in text.partition("| call | at |")[2].splitlines()[2:] if l]
    return found, last


def table(rows, columns, get):
    lines = ["| at | " + " | ".join(c[0] for c in columns) + " |",
             "|---|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| %s | %s |" % (row, " | ".join(get(row, *c) for c in columns)))
    return "\n".join(lines) + "\n"


def write(path, verdicts):
    """What was not tried this time stays as it is."""
    found = {tuple(c): sign(v) for c, v in verdicts.items()}
    old, calls = {}, []
    if os.path.exists(path):
        with open(path) as f:
            old, calls = parse(f.read())
    section = ""

    def get(point, column, key):
        return found.get((point,) + key) or old.get((section, point, column), "")
    rows = list(cells.POINTS) + list(cells.FAILING)
    text = HEAD
    for side, where in (("S", "source"), ("D", "destination")):
        section = "kill -9 at the " + where
        text += "\n## %s\n\n" % section
        columns = [(r, (side, r, "kill")) for r in cells.ROLES]
        columns.append(("monitor, another at once", (side, "monitor", "replace")))
        if side == "S":
            columns += [("migratectl", ("S", "client", "kill")),
                        ("all, both hosts", ("SD", "all", "kill"))]
        text += table(rows, columns, get)
    section = "Standing still, and the link"
    text += ("\n## " + section + "\n\nSIGSTOP for 0.3 s, or (long) until the other side has "
             "given up; the link is down for 0.3 s, or (long) until both have given up, or both ends get a "
             "reset.\n\n")
    columns = [("%s %s%s" % (where, r, " long" if t == "stop" else ""), (side, r, t))
               for side, where in (("S", "source"), ("D", "dest."))
               for r in cells.STOPPED for t in ("pause", "stop")]
    columns += [("link " + t, ("", "link", t)) for t in cells.CUTS]
    text += table(rows, columns, get)
    section = "Hosts that are started anew, or lose power"
    text += ("\n## " + section + "\n\nEverything that ran there has ended, moved "
             "processes too; after a loss of power the journal holds what was synced alone. Where the "
             "destination may have run it before that, the operator decides (here: migratectl resolve).\n\n")
    columns = [("%s%s" % (where, ", power" if t == "power" else ""), (side, "host", t))
               for side, where in (("S", "source"), ("D", "destination"), ("SD", "both"))
               for t in ("reboot", "power")]
    text += table(rows, columns, get)
    section = "A disk without room for the journal, from that point on"
    disk = [c.point for c in cells.disks() if c.side == "S"]
    text += "\n## " + section + "\n\n" + table(
        disk, [("source", ("S", "disk", "full")), ("destination", ("D", "disk", "full"))], get)
    text += ("\n## System calls that fail\n\nOnce, at their n-th time (from 0) below that path in that role, "
             "or always.\n\n| call | at | |\n|---|---|---|\n")
    lines = ["| %s | %s | %s |" % line for line in failures(found)]
    text += "\n".join(lines if len(lines) >= len(calls) else calls) + "\n"
    with open(path, "w") as f:
        f.write(text)


def failures(found):
    lines = {}
    for (point, side, role, trouble), s in found.items():
        if role == "call":
            _, error, which = trouble.split()
            lines.setdefault((point, side, error), []).append("%s %s" % (which, s))
    for (point, side, error), what in lines.items():
        yield ("%s: %s" % (point, error), "source" if side == "S" else "destination",
               ", ".join(what))
