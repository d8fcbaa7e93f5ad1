#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Functions of at most 100 lines and 5 parameters, files of 800, headers of 150, lines of 100
columns, no goto. Under 5 % of all functions are longer than 60 lines."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FUNCTION, SOFT, FILE, HEADER, COLUMNS, PARAMETERS = 100, 60, 800, 150, 100, 5
SKIP = ("build", ".git")
# Callbacks whose parameters a library demands, and stand-ins for its functions.
DEMANDED = {("daemon/session/tls.c", "on_record"), ("daemon/base/fault_calls.c", "WRAP")}


def sources():
    for base, dirs, names in os.walk(ROOT):
        dirs[:] = [d for d in dirs if not d.startswith(SKIP)]
        for name in names:
            if name.endswith((".c", ".h")):
                yield os.path.join(base, name)


def columns(line):
    return len(line.rstrip("\n").expandtabs(8))


def strip(text):
    """Blanks out comments and strings, keeping line ends."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)


def parameters(head):
    """Number of parameters of the last parenthesis group of a function's head."""
    end = head.rfind(")")
    depth, i = 0, end
    while i >= 0:
        depth += (head[i] == ")") - (head[i] == "(")
        if depth == 0:
            break
        i -= 1
    inside = head[i + 1:end]
    depth = count = 0
    for c in inside:
        depth += (c in "([") - (c in ")]")
        count += c == "," and depth == 0
    return 0 if inside.strip() in ("", "void") else count + 1


def functions(text):
    """(name, first line, lines, parameters) of every function with its brace in column 0."""
    lines = text.split("\n")
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            head, h = "", i - 1
            while h >= 0 and lines[h].strip() and not lines[h].startswith(("}", "#")) \
                    and not lines[h].rstrip().endswith(";"):
                head = lines[h] + " " + head
                h -= 1
            m = re.search(r"(\w+)\s*\(", head)
            start = (m.group(1) if m else "?", i + 1, parameters(head) if m else 0)
        elif line.startswith("}") and start:
            yield start[0], start[1], i + 1 - start[1] - 1, start[2]
            start = None


def main():
    problems, total, long = [], 0, 0
    for path in sources():
        own = os.path.relpath(path, ROOT)
        with open(path) as f:
            raw = f.read()
        lines = raw.split("\n")
        most = HEADER if path.endswith(".h") else FILE
        if len(lines) - 1 > most:
            problems.append("%s: %d lines (%d)" % (own, len(lines) - 1, most))
        problems += ["%s:%d: %d columns" % (own, n, columns(l)) for n, l in enumerate(lines, 1)
                     if columns(l) > COLUMNS]
        text = strip(raw)
        problems += ["%s:%d: goto" % (own, n) for n, l in enumerate(text.split("\n"), 1)
                     if re.search(r"\bgoto\b", l)]
        for name, line, length, n in functions(text):
            total += 1
            long += length > SOFT
            if length > FUNCTION:
                problems.append("%s:%d: %s has %d lines" % (own, line, name, length))
            if n > PARAMETERS and (own, name) not in DEMANDED:
                problems.append("%s:%d: %s has %d parameters" % (own, line, name, n))
    if total and long * 20 > total:
        problems.append("%d of %d functions are longer than %d lines" % (long, total, SOFT))
    print("\n".join(problems) or "length: ok, %d functions, %d over %d lines" % (
        total, long, SOFT))
    return 1 if problems else 0


sys.exit(main())
