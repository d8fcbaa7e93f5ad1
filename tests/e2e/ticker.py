# SPDX-License-Identifier: Apache-2.0
# Writes a rising number every few ms, and keeps MIB of memory of which it rewrites RATE per second. Holds locks on its
# output, which the host that it leaves must give up.
import fcntl
import os
import sys
import time

mib, rate = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0
memory = bytearray(os.urandom(1 << 20)) * mib if mib else bytearray(4096)
n, at = 0, 0
fcntl.lockf(1, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 100)
fcntl.flock(1, fcntl.LOCK_SH | fcntl.LOCK_NB)
print("ready", flush=True)
while True:
    n += 1
    os.pwrite(1, b"ready %20d\n" % n, 0)
    for _ in range(int(rate * 256 * 0.005)):
        at = (at + 4096) % len(memory)
        memory[at] = n & 255
    time.sleep(0.005)
