#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Collects the system calls that roles may make from the comments beside the code that makes them
(daemon/kernel/confine.h says how they are written).

  calls.py [--faults] DAEMON-DIR OUTPUT DEPFILE    a C table for each list of enum confine_list
  calls.py [--faults] DAEMON-DIR                   the lists, to read: each call with the files that name it

--faults: for a build with fault points (base/fault.h), which make calls of their own everywhere.
"""
import os
import re
import sys

LISTS = ("control", "net", "names", "pages")  # as enum confine_list
SHARED = ("base", "libevent", "openssl")
# beside code that no confined role runs, for tests/lint/calls.py
NOBODY = "none"
WORD = re.compile(r"\+?\w+(?:\[[^\]]*\])?")
CONDITION = re.compile(r"(\d)(?:&([\w|]+))?=([\w|]+)")


class Bad(Exception):
    pass


def sources(top):
    """(all .c files, the directories) below top."""
    files, dirs = [], []
    for base, below, names in os.walk(top):
        below.sort()
        dirs.append(base)
        files += [os.path.join(base, n) for n in sorted(names) if n.endswith(".c")]
    return files, dirs


def tags(text, where):
    """(list, call or +list) of every tag in a file."""
    for block in re.findall(r"/\*.*?\*/", text, re.S):
        if "@calls" not in block:
            continue
        lines = [re.sub(r"^[\s/*]+|[\s*/]+$", "", l) for l in block.split("\n")]
        for line in lines:
            if "@calls" not in line:
                continue
            m = re.search(r"@calls ([\w ]+):(.*)$", line)
            if not m:
                raise Bad("%s: cannot read: %s" % (where, line))
            for word in m.group(2).split():
                if not WORD.fullmatch(word):
                    raise Bad("%s: cannot read %r in: %s" % (where, word, line))
                for name in m.group(1).split():
                    if name not in LISTS + SHARED + (NOBODY,):
                        raise Bad("%s: there is no list %s" % (where, name))
                    yield name, word


def collect(top, faults=False):
    """{list: {call: [files]}}, without what is taken in."""
    found = {}
    for path in sources(top)[0]:
        if os.path.basename(path).startswith("fault") and not faults:
            continue
        with open(path) as f:
            text = f.read()
        if "@calls" not in text:
            continue
        own = os.path.relpath(path, top)
        for name, word in tags(text, own):
            files = found.setdefault(name, {}).setdefault(word, [])
            if own not in files:
                files.append(own)
    return found


def whole(found, name, seen=()):
    """The list with all that it takes in."""
    calls = {}
    for word, files in found.get(name, {}).items():
        if not word.startswith("+"):
            calls.setdefault(word, []).extend(files)
            continue
        if word[1:] not in found or word[1:] in seen:
            raise Bad("%s takes in %s" % (name, word[1:]))
        for more, where in whole(found, word[1:], seen + (name,)).items():
            calls.setdefault(more, []).extend(where)
    return calls


def condition(text):
    m = CONDITION.fullmatch(text)
    if not m:
        raise Bad("cannot read the condition %s" % text)
    arg, mask, value = m.groups()
    if mask:
        return "SCMP_CMP(%s, SCMP_CMP_MASKED_EQ, (scmp_datum_t)(%s), (scmp_datum_t)(%s))" % (
            arg, mask, value)
    return "SCMP_CMP(%s, SCMP_CMP_EQ, (scmp_datum_t)(%s))" % (arg, value)


def row(word, files):
    name, _, rest = word.partition("[")
    conditions = [condition(c) for c in rest.rstrip("]").split(",")] if rest else []
    return "\t{ SCMP_SYS(%s), %d, { %s } }, /* %s */" % (
        name, len(conditions), ", ".join(conditions) or "{ 0 }", " ".join(files))


def table(name, calls):
    free = {w for w in calls if "[" not in w}
    # a condition on what is allowed without one would only confuse
    rows = [row(w, calls[w]) for w in sorted(calls) if w in free or w.split("[")[0] not in free]
    return "static const struct allowed calls_%s[] = {\n%s\n};\n" % (name, "\n".join(rows))


def generate(top, faults):
    found = collect(top, faults)
    for name in LISTS:
        if name not in found:
            raise Bad("nothing may be called by %s" % name)
    text = "/* made by calls.py */\n"
    text += "\n".join(table(n, whole(found, n)) for n in LISTS)
    text += "\nstatic const struct {\n\tconst char *name;\n\tconst struct allowed *calls;\n"
    text += "\tsize_t n;\n} lists[CONFINE_LISTS] = {\n"
    text += "".join("\t[CONFINE_%s] = { \"%s\", calls_%s, ARRAY_LEN(calls_%s) },\n" % (
        n.upper(), n, n, n) for n in LISTS)
    return text + "};\n"


def main(args):
    faults = args[:1] == ["--faults"]
    args = args[1:] if faults else args
    if len(args) == 1:
        found = collect(args[0], faults)
        for name in LISTS:
            print("%s:" % name)
            for word, files in sorted(whole(found, name).items()):
                print("  %-36s %s" % (word, " ".join(files)))
        return
    top, out, dep = args
    text = generate(top, faults)
    with open(out, "w") as f:
        f.write(text)
    files, dirs = sources(top)
    with open(dep, "w") as f:
        f.write("%s: %s\n" % (out, " ".join(files + dirs)))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Bad as e:
        sys.stderr.write("calls.py: %s\n" % e)
        sys.exit(1)
