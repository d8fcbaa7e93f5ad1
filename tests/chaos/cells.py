# SPDX-License-Identifier: Apache-2.0
"""The cells of the matrix: at which point of a move what is done to whom."""
import random
from collections import namedtuple

# In the order in which a move passes them. Names with a dash lie between states.
SOURCE = ("hello", "rehearse", "precopy", "freeze", "intent-due", "intent-written",
          "intent-synced", "joined", "final", "offered", "hold", "commit-due", "commit-written",
          "commit", "commit-sent", "moved-due", "moved-written", "done", "original-ended")
DESTINATION = ("hello", "check", "building-due", "building-written", "building-synced", "receive",
               "rebuild", "finished", "ready", "ready-sent", "committed-due",
               "committed-written", "commit", "thawed", "running", "running-due",
               "running-written", "running-sent", "confirmed-due", "confirmed-written")
# Points that are system calls: the name of the call, a part of the path, how many pass before it.
CALLS = {
    "source.joined": ("write-done", "/migrated-hold-", 0),
    "source.intent-synced": ("fsync-done", "/journal", 1),  # file, then directory
    "destination.building-synced": ("fsync-done", "/journal", 1),
}
for side, marks in (("source", ("intent", "commit", "moved")),
                    ("destination", ("building", "committed", "running", "confirmed"))):
    for n, mark in enumerate(marks):
        CALLS["%s.%s-due" % (side, mark)] = ("pwrite", "." + side, n)
        CALLS["%s.%s-written" % (side, mark)] = ("pwrite-done", "." + side, n)
# States that a move passes only when it fails: it is cancelled, or its peer dies after COMMIT.
FAILING = {"source.resumed": "cancel", "destination.discarded": "cancel",
           "source.in_doubt": "doubt"}
UNDO = "source.undo-held"
POINTS = tuple("source." + s for s in SOURCE) + tuple("destination." + s for s in DESTINATION)

# Where the source can have sent COMMIT, and need not have heard RUNNING: there it may be in doubt.
DOUBT = {"source." + s for s in ("offered", "hold", "commit-due", "commit-written", "commit", "commit-sent",
                                 "moved-due", "in_doubt")} | {
    "destination." + s for s in ("ready-sent", "committed-due", "committed-written", "commit",
                                 "thawed", "running", "running-due", "running-written",
                                 "running-sent")}
# The destination has, or may have, begun to run it: its end there is the end of the process.
BEGUN = {"source." + s for s in ("commit-sent", "moved-due", "moved-written", "done",
                                 "original-ended")} | {
    "destination." + s for s in ("committed-written", "commit", "thawed", "running", "running-due",
                                 "running-written", "running-sent", "confirmed-due",
                                 "confirmed-written")}

# What a loss of power leaves of the journal of that side at these points: its only record that was synced.
SYNCED = {
    "S": ("source", "intent", SOURCE[SOURCE.index("intent-synced"):SOURCE.index("done")]),
    "D": ("destination", "building",
          DESTINATION[DESTINATION.index("building-synced"):DESTINATION.index("confirmed-due")]),
}

ROLES = ("worker", "net-child", "net", "monitor", "control", "all", "process")
# Processes of the subject, by their places in it: its root, and of a tree others (tree.c).
MEMBERS = {"process": 0, "child": 1, "grandchild": 4}
STOPPED = ("worker", "net-child", "monitor")
CUTS = ("moment", "long", "reset")

# side: S or D; role: one of ROLES, or "link", "host", "call"
Cell = namedtuple("Cell", "point side role trouble")
# Several things at moments of their own: (seconds after the move has come to the point, or has begun;
# side, role, trouble).
Plan = namedtuple("Plan", "seed number options point actions")

# Calls that fail: name, part of the path, role, errnos, and which of them (None: all).
FAILURES = (
    ("pwrite", "/journal/", "worker", ("ENOSPC", "EIO"), (0, 1, 2, 3, None)),
    ("fsync", "/journal", "worker", ("EIO",), (0, 1, 2, None)),
    ("open", "/journal", "worker", ("ENOSPC", "EMFILE"), (0, 1, None)),
    ("fallocate", "/journal/", "worker", ("ENOSPC",), (None,)),
    ("rename", "/journal/", "worker", ("ENOSPC",), (None,)),
    ("write", "/sys/fs/cgroup", "worker", ("ENOMEM", "ENOSPC"), (0, 1, 2, 3, 4, None)),
    ("mkdir", "", "worker", ("ENOSPC",), (0, 1, None)),
    ("open", "", "worker", ("EMFILE", "ENOMEM"), (0, 3, 9, 20, 40, 70, 100, 150, 250)),
    ("mmap", "", "worker", ("ENOMEM",), (0, 1, 2, 3, 5, 8, 13, 21)),
    ("fork", "", "worker", ("EAGAIN",), (0, None)),
    ("clone", "", "worker", ("EAGAIN", "ENOMEM"), (0, None)),
    ("process_vm_readv", "", "worker", ("ENOMEM", "EPERM"), (0, 1, 2, 4, 8, None)),
    ("send", "", "worker", ("ENOBUFS",), (0, 2, 5, 9, 14, None)),
    ("send", "", "net", ("ENOBUFS",), (0, 1, 2)),
    ("fork", "", "monitor", ("EAGAIN",), (0, None)),
)


def name(cell):
    if isinstance(cell, Plan):
        return "seed %d round %d%s: %s%s" % (cell.seed, cell.number, "".join(
            " " + o for o in cell.options), cell.point + " " if cell.point else "", ", ".join(
                "+%.1f ms %s %s%s" % (at * 1000, t, s + "." if s else "", r)
                for at, s, r, t in cell.actions))
    if cell.role == "call":
        return "%s: %s" % (cell.point, cell.trouble)
    if cell.role == "disk":
        return "%s: the disk at %s is full" % (cell.point, cell.side)
    if cell.role == "link":
        return "%s: cut the link (%s)" % (cell.point, cell.trouble)
    return "%s: %s %s.%s" % (cell.point, cell.trouble, cell.side, cell.role)


def there_yet(point, side, role):
    """Whether the victim exists at that point."""
    if side == "D" and role in MEMBERS:
        return point not in ("source.hello", "source.rehearse", "destination.hello",
                             "destination.check", "destination.discarded", "source.resumed",
                             "source.in_doubt")
    if side == "S" and role in MEMBERS:
        return point != "source.original-ended"
    return True


def members():
    """What only a tree has: one of its processes is killed that is not its root."""
    return [Cell(point, side, r, "kill") for point in POINTS + tuple(FAILING) for side in "SD"
            for r in MEMBERS if r != "process" and there_yet(point, side, r)]


def undone():
    """The worker that takes back what a dead one has given up (locks, which the tree has): all of it stands, held by
    that worker alone."""
    return [Cell(UNDO, "S", r, t) for r, t in (("worker", "kill"), ("worker", "pause"), ("worker", "stop"),
                                               ("monitor", "kill"), ("all", "kill"), ("process", "kill"),
                                               ("grandchild", "kill"), ("host", "reboot"))]


def matrix():
    cells = []
    for point in POINTS + tuple(FAILING):
        for side in "SD":
            cells += [Cell(point, side, r, "kill") for r in ROLES if there_yet(point, side, r)]
            cells += [Cell(point, side, r, t) for r in STOPPED for t in ("pause", "stop")]
            cells.append(Cell(point, side, "monitor", "replace"))
        cells += [Cell(point, "", "link", t) for t in CUTS]
        cells.append(Cell(point, "S", "client", "kill"))
        cells.append(Cell(point, "SD", "all", "kill"))
    return cells


def failures():
    cells = []
    for call, path, role, errnos, which in FAILURES:
        for side in "SD":
            cells += [Cell("%s %s %s" % (call, path or "*", role), side, "call", "%s %s %s" % (
                side, e, "always" if n is None else "#%d" % n)) for e in errnos for n in which]
    return cells


def reboots():
    cells = []
    for point in POINTS + tuple(FAILING):
        cells += [Cell(point, side, "host", how) for side in ("S", "D", "SD")
                  for how in ("reboot", "power")]
    return cells


def disks():
    points = [p for p in POINTS if p.endswith(("hello", "-due", "-written", "commit", "done"))]
    return [Cell(p, side, "disk", "full") for p in points for side in "SD"]


def at_random(count, seed, tree=False):
    return [plan(seed, n, tree) for n in range(count)]


def of_tree(p):
    """The same, where it is one of the tree's processes that is killed, not always its root."""
    rnd = random.Random("tree %d %d" % (p.seed, p.number))
    return p._replace(actions=tuple((at, side, rnd.choice(sorted(MEMBERS)) if role == "process" else role, trouble)
                                    for at, side, role, trouble in p.actions))


def plan(seed, number, tree=False):
    """Round `number` of a seed, whatever was before it."""
    rnd = random.Random("%d %d" % (seed, number))
    options = rnd.choice(((), (), ("--bandwidth", "40M"), ("--streams", "2"), ("--max-rounds", "2",
                                                                             "--force-switch")))
    point = rnd.choice(POINTS) if rnd.random() < 0.6 else ""
    actions = []
    for _ in range(rnd.choice((1, 1, 1, 2, 2, 3))):
        at = rnd.expovariate(200) if point else rnd.uniform(0, 0.2 if options else 0.12)
        trouble = rnd.choice(("kill",) * 10 + ("pause",) * 4 + ("moment", "reset") * 2 + (
            "reboot", "power"))
        if trouble in ("reboot", "power"):
            actions.append((at, rnd.choice("SD"), "host", trouble))
            continue
        if trouble in ("moment", "reset"):
            actions.append((at, "", "link", trouble))
            continue
        roles = ROLES + ("client",) if trouble == "kill" else STOPPED
        # the process itself seldom: that is the end of the round
        role = rnd.choice([r for r in roles if r != "process"] * 3 + (
            ["process"] if trouble == "kill" else []))
        if role == "monitor" and trouble == "kill" and rnd.random() < 0.5:
            trouble = "replace"
        actions.append((at, "S" if role == "client" else rnd.choice("SD"), role, trouble))
    p = Plan(seed, number, options, point, tuple(sorted(actions)))
    return of_tree(p) if tree else p


def fast(tree=False):
    """A cell of each sort, most of them where it is hardest."""
    points = ("source.precopy", "source.final", "source.commit-due", "source.commit",
              "source.commit-sent", "source.done", "destination.building-synced",
              "destination.ready", "destination.committed-due", "destination.thawed")
    cells = []
    for n, point in enumerate(points):
        for m, (side, role) in enumerate([(s, r) for s in "SD" for r in ("worker", "net-child",
                                                                      "monitor", "all")]):
            if role in ("worker", "all") or (n + m) % 3 == 0:
                cells.append(Cell(point, side, role, "kill"))
        cells.append(Cell(point, "", "link", "moment"))
        cells.append(Cell(point, "SD"[n % 2], STOPPED[n % 3], "pause"))
        cells.append(Cell(point, "SD"[n % 2], "monitor", "replace"))
    return cells + ([c for c in members() if c.point in points] + undone() if tree else [])
