#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every kind of kinds.def has its source, a subject that proves it, and a row in docs/kinds.md. A
subject is called like its kind, or names more in a comment line ` * Kinds: a, b.`"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def read(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


def names():
    return re.findall(r"^\s*KIND\((\w+)", read("daemon/kinds/kinds.def"), re.M)


def have(folder, ending):
    top = os.path.join(ROOT, folder)
    return {n[:-len(ending)] for n in os.listdir(top) if n.endswith(ending)} \
        if os.path.isdir(top) else set()


def main():
    rows = set(re.findall(r"^\|\s*`?([\w-]+)`?\s*\|", read("docs/kinds.md"), re.M))
    sources = "\n".join(read("daemon/kinds", n + ".c") for n in have("daemon/kinds", ".c"))
    subjects = have("tests/kinds", ".c")
    for subject in sorted(subjects):
        for line in re.findall(r"^ \* Kinds: (.*)\.", read("tests/kinds", subject + ".c"), re.M):
            subjects |= {name.strip() for name in line.split(",")}
    problems = []
    for name in names():
        if not re.search(r"const struct kind kind_%s\b" % name, sources):
            problems.append("%s: no source in daemon/kinds" % name)
        if not any(s == name or s.startswith(name + "_") for s in subjects):
            problems.append("%s: no subject in tests/kinds" % name)
        if name not in rows:
            problems.append("%s: no row in docs/kinds.md" % name)
    print("\n".join(problems) or "kinds: ok, %d kinds" % len(names()))
    return 1 if problems else 0


sys.exit(main())
