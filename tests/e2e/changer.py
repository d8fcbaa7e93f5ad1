# SPDX-License-Identifier: Apache-2.0
"""Executes PROGRAM ARG once the file FLAG is there; says a number now and then until then."""
import os
import sys
import time

flag, program, argument = sys.argv[1:]
ballast = os.urandom(8 << 20)
print("ready", flush=True)
n = 0
while not os.path.exists(flag):
    n += 1
    print(n, flush=True)
    time.sleep(0.05)
os.execv(program, [program, argument])
