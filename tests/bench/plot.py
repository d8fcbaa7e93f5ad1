# SPDX-License-Identifier: Apache-2.0
"""Draws moves as pictures: what was sent, was dirty and went over the link, round by round."""
import os
import shutil
import subprocess
import tempfile

TERMINALS = {".svg": "svg size 900,600 dynamic", ".png": "pngcairo size 900,600"}
MIB = 1 << 20

SCRIPT = """\
set terminal {terminal}
set output '{out}'
set title '{title}'
set xlabel 'seconds'
set ylabel 'MiB'
set y2label 'MiB/s'
set y2tics
set ytics nomirror
set yrange [0:*]
set y2range [0:*]
set key outside below
set arrow from {stop:.4f}, graph 0 to {stop:.4f}, graph 1 nohead dashtype 2
set label 'frozen: {downtime:.1f} ms' at {stop:.4f}, graph 0.97 right offset -1,0
plot '{data}' using 1:2 with linespoints title 'sent', \\
     '' using 1:3 with steps title 'dirty in the round', \\
     '' using 1:4 axes x1y2 with linespoints title 'written per second', \\
     '' using 1:5 axes x1y2 with linespoints title 'link per second'
"""


def check(path):
    """What hinders a plot to this file; None if nothing does."""
    if os.path.splitext(path)[1] not in TERMINALS:
        return "a plot's name ends in " + " or ".join(TERMINALS)
    if not shutil.which("gnuplot"):
        return "gnuplot is not installed (Debian: gnuplot-nox)"
    return None


def rows(events):
    """Seconds, then MiB sent, MiB dirty, MiB/s written, MiB/s of the link."""
    for e in events:
        if e.get("event") == "round":
            yield (e["total_ms"] / 1000, e["bytes_sent"] / MIB, e["round_dirty_bytes"] / MIB,
                   e["dirty_bytes_s"] / MIB, e["bandwidth_bytes_s"] / MIB)


def draw(path, title, events):
    """`events`: the JSON lines of one send, the outcome last."""
    done = events[-1]
    stop = (done["total_ms"] - done["downtime_ms"]) / 1000
    with tempfile.NamedTemporaryFile("w", suffix=".data") as data:
        for row in rows(events):
            data.write(" ".join("%.4f" % v for v in row) + "\n")
        data.flush()
        script = SCRIPT.format(terminal=TERMINALS[os.path.splitext(path)[1]], out=path, title=title,
                               data=data.name, stop=stop, downtime=done["downtime_ms"])
        subprocess.run(["gnuplot"], input=script, text=True, check=True)
