# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about a process, as far as a move must not change it."""
import os
import re


def read(path):
    with open(path, errors="replace") as f:
        return f.read()


def maps(proc):
    """Lines of smaps reduced to range, mode, what is mapped and VmFlags; neighbours with equal
    attributes joined."""
    areas, last = [], None
    for line in read(proc + "/smaps").splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) (\S+) (\S+) (\d+) *(.*)", line)
        if head:
            start, end, mode, offset, _, inode, name = head.groups()
            last = [int(start, 16), int(end, 16), mode, int(offset, 16), inode, name, ""]
            areas.append(last)
        elif line.startswith("VmFlags:"):
            last[6] = " ".join(sorted(set(line.split()[1:]) - {"sd"}))
    joined = []
    for a in areas:
        p = joined[-1] if joined else None
        follows = p and p[1] == a[0] and p[2] == a[2] and p[4:] == a[4:] and (
            a[4] == "0" or p[3] + p[1] - p[0] == a[3])
        if follows:
            p[1] = a[1]
        else:
            joined.append(list(a))
    return ["%x-%x %s %s %s [%s]" % (s, e, m, ("%x" % o) if i != "0" else "-", n, f)
            for s, e, m, o, i, n, f in joined]


def descriptors(proc):
    found = []
    for fd in sorted(os.listdir(proc + "/fd"), key=int):
        link = re.sub(r"\[\d+\]", "[]", os.readlink(proc + "/fd/" + fd))
        info = read(proc + "/fdinfo/" + fd)
        # counters go on counting while the program runs; tests/kinds compares them
        keep = [l for l in info.splitlines() if l.split(":")[0] in ("flags", "pos")]
        if link.startswith("/") and not link.startswith("/dev/"):
            keep = [l for l in keep if not l.startswith("pos")]  # it goes on writing
        # without their numbers: they are listed in any order
        keep += sorted(l.split(": ", 1)[1] for l in info.splitlines() if l.startswith("lock:"))
        found.append("%s %s %s" % (fd, link, " ".join(keep)))
    return found


STATUS = ("Name", "Umask", "Tgid", "Uid", "Gid", "Groups", "Threads", "SigBlk", "SigIgn",
          "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
          "Cpus_allowed", "Mems_allowed", "THP_enabled", "TracerPid")


def threads(proc):
    found = []
    for tid in sorted(os.listdir(proc + "/task"), key=int):
        t = "%s/task/%s/" % (proc, tid)
        lines = dict(l.split(":", 1) for l in read(t + "status").splitlines() if ":" in l)
        found.append(" ".join([tid] + ["%s=%s" % (k, lines.get(k, "").strip()) for k in STATUS]))
    return found


def take(proc):
    return {"maps": maps(proc), "descriptors": descriptors(proc), "threads": threads(proc),
            "limits": read(proc + "/limits").splitlines(),
            "oom": [read(proc + "/oom_score_adj").strip()],
            "links": [os.readlink(proc + "/" + l) for l in ("cwd", "root", "exe")],
            "cmdline": [read(proc + "/cmdline")], "environ": [read(proc + "/environ")],
            "auxv": [open(proc + "/auxv", "rb").read().hex()],
            "personality": [read(proc + "/personality").strip()],
            "dumpable": [str(os.stat(proc + "/environ").st_uid)]}


def differences(before, after):
    lines = []
    for part in before:
        lost = [x for x in before[part] if x not in after[part]]
        new = [x for x in after[part] if x not in before[part]]
        lines += ["%s - %s" % (part, x[:300]) for x in lost] + [
            "%s + %s" % (part, x[:300]) for x in new]
    return lines
