#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every message of ipc.proto has its argument in roles/ipc.c why serving it is safe: a paragraph that
begins with ` * NAME (FROM to WHOM, ...): `, names processes that there are, and says something."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROLES = {"monitor", "control", "net", "worker", "hooks"}
LEAST = 60  # characters


def read(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


def messages():
    body = re.search(r"message Ipc \{.*?oneof body \{(.*?)\}", read("proto/ipc.proto"), re.S).group(1)
    return re.findall(r"^\s*\w+ (\w+) = \d+;", body, re.M)


def arguments(text):
    """{message: (who to whom, argument)} of the comment."""
    found = {}
    comment = re.search(r"/\*.*?\*/", text, re.S).group(0)
    for m in re.finditer(r"^ \* (\w+) \(([^)]*)\): (.*(?:\n \*   .*)*)", comment, re.M):
        found[m.group(1)] = m.group(2), re.sub(r"\s*\n \*\s*", " ", m.group(3))
    return found


def main():
    text = read("daemon/roles/ipc.c")
    found, wanted = arguments(text[text.index("/*"):].replace("// SPDX", "")), messages()
    problems = ["%s: no argument in daemon/roles/ipc.c" % n for n in wanted if n not in found]
    problems += ["%s: there is no such message" % n for n in found if n not in wanted]
    for name, (who, argument) in found.items():
        words = set(re.findall(r"\w+", who)) - {"to"}
        if not words or words - ROLES or " to " not in who:
            problems.append("%s: (%s) is no list of processes" % (name, who))
        if len(argument) < LEAST:
            problems.append("%s: says little: %s" % (name, argument))
    print("\n".join(problems) or "messages: ok, %d" % len(wanted))
    return 1 if problems or not wanted else 0


sys.exit(main())
