#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Which folder may include what (the table of HACKING.md)."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ALL = ("base", "proto", "kernel", "wire", "pages", "kinds", "engine", "session", "roles", "client")
MAY = {
    "base": (),
    "proto": ("base",),
    "kernel": ("base",),
    "wire": ("base", "proto"),
    "pages": ("base", "proto", "kernel", "wire"),
    "kinds": ("base", "proto", "kernel"),
    "engine": ("base", "proto", "kernel", "wire", "pages", "kinds"),
    "session": ("base", "proto", "wire"),
    "roles": ALL[:-1],
    "client": ("base", "proto", "wire"),
}
MUST_NOT = {  # headers of libraries
    "base": r"protobuf|event2/|openssl/",
    "proto": r"event2/|openssl/",
    "kernel": r"protobuf|event2/|openssl/",
    "wire": r"event2/|openssl/|sys/ptrace\.h",
    "pages": r"event2/|openssl/",
    "kinds": r"event2/|openssl/",
    "engine": r"event2/|openssl/",
    "session": r"sys/ptrace\.h",
    "client": r"event2/|openssl/|sys/ptrace\.h",
}


def folders():
    for layer in ALL:
        top = layer if layer in ("proto", "client") else os.path.join("daemon", layer)
        for base, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if name.endswith((".c", ".h")):
                    yield layer, os.path.join(base, name)


def layer_of(header):
    """The layer that a quoted include belongs to; None for a file beside the includer."""
    first = header.split("/")[0]
    if "/" in header and first in ALL:
        return first
    if "/" in header and first == "daemon":
        return header.split("/")[1]
    return "proto" if header.endswith(".pb-c.h") else None


def check(layer, path):
    own = os.path.relpath(path, ROOT)
    with open(path) as f:
        for number, line in enumerate(f, 1):
            m = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            if not m:
                continue
            where = "%s:%d" % (own, number)
            seen = layer_of(m.group(2)) if m.group(1) == '"' else None
            if seen and seen != layer and seen not in MAY[layer]:
                yield "%s: %s must not see %s" % (where, layer, m.group(2))
            if m.group(1) == "<" and re.search(MUST_NOT.get(layer, "$^"), m.group(2)):
                yield "%s: %s must not use <%s>" % (where, layer, m.group(2))
            if seen == "kinds" == layer and own.endswith(".c") and "kinds.def" not in line:
                other = os.path.basename(m.group(2))
                # a kind's own header, and those that all kinds share, are listed as headers
                if other.endswith(".c"):
                    yield "%s: a kind includes another's source" % where


problems = [p for layer, path in folders() for p in check(layer, path)]
print("\n".join(problems) or "layers: ok")
sys.exit(1 if problems else 0)
