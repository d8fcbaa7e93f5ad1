# SPDX-License-Identifier: Apache-2.0
"""Becomes larger by MIB once the file that it is given is there."""
import os
import sys
import time

path, mib = sys.argv[1], int(sys.argv[2])
kept = []
print("ready", flush=True)
n = 0
while True:
    if not kept and os.path.exists(path):
        kept = [bytearray(os.urandom(1 << 20)) for _ in range(mib)]
    n += 1
    print(n, flush=True)
    time.sleep(0.1)
