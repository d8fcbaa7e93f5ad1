# SPDX-License-Identifier: Apache-2.0
"""The cells of the matrix: at which point of a move what is done to whom."""
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
POINTS = tuple("source." + s for s in SOURCE) + tuple("destination." + s for s in DESTINATION)

# Where the source can have sent COMMIT, and need not have heard RUNNING: there it may be in doubt.
DOUBT = {"source." + s for s in ("hold", "commit-due", "commit-written", "commit", "commit-sent",
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

ROLES = ("worker", "net-child", "net", "monitor", "control", "all", "process")
STOPPED = ("worker", "net-child", "monitor")
CUTS = ("moment", "long", "reset")

# side: S or D; role: one of ROLES, or "link"
Cell = namedtuple("Cell", "point side role trouble")


def name(cell):
    if cell.role == "link":
        return "%s: cut the link (%s)" % (cell.point, cell.trouble)
    return "%s: %s %s.%s" % (cell.point, cell.trouble, cell.side, cell.role)


def there_yet(point, side, role):
    """Whether the victim exists at that point."""
    if (side, role) == ("D", "process"):
        return point not in ("source.hello", "source.rehearse", "destination.hello",
                             "destination.check", "destination.discarded", "source.resumed",
                             "source.in_doubt")
    if (side, role) == ("S", "process"):
        return point != "source.original-ended"
    return True


def matrix():
    cells = []
    for point in POINTS + tuple(FAILING):
        for side in "SD":
            cells += [Cell(point, side, r, "kill") for r in ROLES if there_yet(point, side, r)]
            cells += [Cell(point, side, r, t) for r in STOPPED for t in ("pause", "stop")]
        cells += [Cell(point, "", "link", t) for t in CUTS]
        cells.append(Cell(point, "S", "client", "kill"))
        cells.append(Cell(point, "SD", "all", "kill"))
    return cells


def fast():
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
    return cells
