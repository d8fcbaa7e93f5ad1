#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""systemd-analyze verify on the units as they are installed, with the built daemon as the program.

  units.py SERVICE DAEMON UNIT..."""
import os
import shutil
import subprocess
import sys
import tempfile

if not shutil.which("systemd-analyze"):
    print("no systemd-analyze here")
    sys.exit(77)
service, daemon, units = sys.argv[1], os.path.abspath(sys.argv[2]), sys.argv[3:]
with tempfile.TemporaryDirectory() as d:
    with open(service) as f, open(os.path.join(d, "migrated.service"), "w") as to:
        for line in f:
            to.write("ExecStart=%s\n" % daemon if line.startswith("ExecStart=") else line)
    for u in units:
        shutil.copy(u, d)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no"] +
                          sorted(os.path.join(d, u) for u in os.listdir(d)),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # Complaints about units of the system that are not ours do not count.
    ours = [line for line in done.stdout.splitlines() if "migrated" in line]
    print("\n".join(ours))
    sys.exit(1 if ours else 0)
