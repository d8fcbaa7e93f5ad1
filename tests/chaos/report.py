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

TREE = "\n## A tree of processes\n"
TREE_TEXT = """
All of the above again with a tree (`tests/chaos/run --matrix --subject tree`): a root, two children and three of
theirs, two of them with a process group and one with a session of its own, one with three threads, joined by pipes,
socketpairs and memory that all share. Each of the six numbers its beats in a file of its own, and looks each time
at its parent, its group, its session, its children, its private memory and the shared one; in all cells there was
exactly one copy of each, and none without the others. If one of them ends, so does the program (**e**).

Of {all} cells {k} were k, {m} m, {e} e, {gone} -, and {broken} broke the promise; migratectl could not say so in time (K, M) in
{slow}. Besides the cells of the other tables there are these, in which a process is killed (-9) that is not the root:
its end counts as the root's does.

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


def read(path):
    """What is written there, without the part about trees, and that part."""
    if not os.path.exists(path):
        return "", ""
    with open(path) as f:
        text, mark, tree = f.read().partition(TREE)
    return text, mark + tree


def write(path, verdicts):
    """What was not tried this time stays as it is."""
    found = {tuple(c): sign(v) for c, v in verdicts.items()}
    before, tree = read(path)
    old, calls = parse(before)
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
        f.write(text + tree)


def write_tree(path, verdicts):
    """The part about trees, which only a whole matrix can write. Where the number of a call is another for
    several processes, another sign says nothing."""
    before, _ = read(path)
    members = [c for c in verdicts if c.role in cells.MEMBERS and c.role != "process"]
    signs = {c: sign(v) for c, v in verdicts.items()}
    count = {s: sum(v.upper() == s for v in signs.values()) for s in "KME-!"}
    text = TREE + TREE_TEXT.format(
        all=len(signs), k=count["K"], m=count["M"], e=count["E"], gone=count["-"], broken=count["!"],
        slow=sum(v in "KM" for v in signs.values()))
    rows = [p for p in list(cells.POINTS) + list(cells.FAILING) if any(c.point == p for c in members)]
    columns = [("%s %s" % (where, r), cells.Cell("", side, r, "kill"))
               for side, where in (("S", "source"), ("D", "destination"))
               for r in cells.MEMBERS if r != "process"]
    text += table(rows, columns, lambda row, _, c: signs.get(c._replace(point=row), ""))
    with open(path, "w") as f:
        f.write(before + text)


def failures(found):
    lines = {}
    for (point, side, role, trouble), s in found.items():
        if role == "call":
            _, error, which = trouble.split()
            lines.setdefault((point, side, error), []).append("%s %s" % (which, s))
    for (point, side, error), what in lines.items():
        yield ("%s: %s" % (point, error), "source" if side == "S" else "destination",
               ", ".join(what))
