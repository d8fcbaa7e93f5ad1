# SPDX-License-Identifier: Apache-2.0
"""The cells of the matrix: at which point of a move what is done to whom."""
from collections import namedtuple

# In the order in which a move passes them. Names with a dash lie between states.
SOURCE = ("hello", "rehearse", "precopy", "freeze", "joined", "final", "offered", "hold",
          "group-frozen", "commit", "commit-sent", "running-came", "done", "original-ended")
DESTINATION = ("hello", "check", "built", "receive", "rebuild", "finished", "ready", "ready-sent",
               "commit", "thawed", "running", "running-sent")
# States that a move passes only when it fails: it is cancelled, or its peer dies after COMMIT.
FAILING = {"source.resumed": "cancel", "destination.discarded": "cancel",
           "source.in_doubt": "doubt"}
POINTS = tuple("source." + s for s in SOURCE) + tuple("destination." + s for s in DESTINATION)

# Where the source can have sent COMMIT, and need not have heard RUNNING: there it may be in doubt.
DOUBT = {"source.hold", "source.group-frozen", "source.commit", "source.commit-sent",
         "source.running-came", "source.in_doubt", "destination.ready-sent", "destination.commit",
         "destination.thawed", "destination.running", "destination.running-sent"}
# The destination has, or may have, begun to run it: its end there is the end of the process.
BEGUN = {"source.commit-sent", "source.running-came", "source.done", "source.original-ended",
         "destination.commit", "destination.thawed", "destination.running",
         "destination.running-sent"}

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
                             "destination.check", "destination.discarded", "source.resumed")
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
    points = ("source.precopy", "source.final", "source.group-frozen", "source.commit",
              "source.commit-sent", "source.done", "destination.built", "destination.ready",
              "destination.commit", "destination.thawed")
    cells = []
    for n, point in enumerate(points):
        for m, (side, role) in enumerate([(s, r) for s in "SD" for r in ("worker", "net-child",
                                                                      "monitor", "all")]):
            if role in ("worker", "all") or (n + m) % 3 == 0:
                cells.append(Cell(point, side, role, "kill"))
        cells.append(Cell(point, "", "link", "moment"))
        cells.append(Cell(point, "SD"[n % 2], STOPPED[n % 3], "pause"))
    return cells
