# SPDX-License-Identifier: Apache-2.0
"""Makes a child when it is told to, and talks with it over a socketpair and two pipes as long as both run. Counts in
the file that it is given; what is in the file is the number of the round.
"""
import os
import socket
import sys
import time

DIR = sys.argv[1]


def child(sock, down, up):
    while True:
        for word in (sock.recv(8), os.read(down, 8)):
            if not word:
                os._exit(0)
        sock.send(word)
        os.write(up, word)


def main():
    open(DIR + "/ready", "w").close()
    while not os.path.exists(DIR + "/make"):
        time.sleep(0.005)
    ours, theirs = socket.socketpair()
    down, up = os.pipe(), os.pipe()
    if os.fork() == 0:
        ours.close()
        os.close(down[1])
        os.close(up[0])
        child(theirs, down[0], up[1])
    count = os.open(DIR + "/count", os.O_WRONLY | os.O_CREAT, 0o644)
    theirs.close()
    os.close(down[0])
    os.close(up[1])
    n = 0
    while True:
        word = b"%8d" % n
        ours.send(word)
        os.write(down[1], word)
        if ours.recv(8) != word or os.read(up[0], 8) != word:
            sys.exit("the child answers something else")
        n += 1
        os.pwrite(count, b"%8d" % n, 0)
        time.sleep(0.002)


main()
