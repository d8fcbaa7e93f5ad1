#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Texts of errors and the first line of files, as HACKING.md has them; Python that parses, also what no test runs."""
import ast
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SPDX = "SPDX-License-Identifier: Apache-2.0"
CALL = re.compile(r'\b(?:err_new|err_errno|err_in|TRY_IN)\s*\((?:[^;"]*?)((?:"(?:\\.|[^"\\])*"\s*)+)',
                  re.S)


def files():
    for base, dirs, names in os.walk(ROOT):
        dirs[:] = [d for d in dirs if not d.startswith(("build", ".git"))]
        for name in names:
            yield os.path.join(base, name)


def error_texts(text):
    for m in CALL.finditer(text):
        line = text.count("\n", 0, m.start()) + 1
        yield line, "".join(re.findall(r'"((?:\\.|[^"\\])*)"', m.group(1)))


def faults(sentence):
    if "\\n" in sentence:
        yield "a newline"
    if re.match(r"[A-Z][a-z]+ ", sentence):
        yield "a capital"
    if sentence.endswith(".") and not sentence.endswith("..."):
        yield "a full stop"
    if re.search(r"failed to|could not|unable to", sentence, re.I):
        yield "\"failed to\" (say what was attempted)"


def main():
    problems = []
    for path in files():
        own = os.path.relpath(path, ROOT)
        ending = os.path.splitext(path)[1]
        if ending not in (".c", ".h", ".py", ".proto", ".def"):
            continue
        with open(path) as f:
            text = f.read()
        if ending == ".py":
            try:
                ast.parse(text)
            except SyntaxError as e:
                problems.append("%s:%d: %s" % (own, e.lineno or 0, e.msg))
        if SPDX not in "\n".join(text.split("\n")[:2]):
            problems.append("%s: no SPDX line" % own)
        if ending == ".c" and own.startswith(("daemon/", "client/")):
            problems += ["%s:%d: the error text has %s: %s" % (own, line, fault, sentence[:60])
                         for line, sentence in error_texts(text) for fault in faults(sentence)]
    print("\n".join(problems) or "words: ok")
    return 1 if problems else 0


sys.exit(main())
