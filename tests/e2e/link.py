# SPDX-License-Identifier: Apache-2.0
"""Bad links between two hosts: TCP ports that lead to one address, each in the state that its file says.

  link.py DIR TO_HOST TO_PORT FIRST COUNT

Listens on COUNT ports from FIRST; DIR/link.PORT says what becomes of the bytes, both ways:
  pass       they go on              stall    they stay, the connections too
  trickle    one byte a second       rate N   N bytes a second
  reset      the connections are reset
"""
import os
import select
import socket
import struct
import sys
import time

BLOCK = 65536
RST = struct.pack("ii", 1, 0)


class Way:
    """One direction of a connection."""

    def __init__(self, source, to):
        self.source, self.to, self.held, self.ended, self.credit, self.at = source, to, b"", False, 0.0, 0.0

    def allowed(self, mode):
        if mode == "pass":
            self.credit = len(self.held)
            return len(self.held)
        if mode == "stall":
            return 0
        rate = 1.0 if mode == "trickle" else float(mode.split()[1])
        now = time.monotonic()
        self.credit = min(self.credit + (now - (self.at or now)) * rate, max(1.0, rate / 10))
        self.at = now
        return min(len(self.held), int(self.credit))

    def step(self, mode, readable):
        if readable and not self.held and not self.ended and mode != "stall":
            try:
                self.held = self.source.recv(BLOCK)
            except BlockingIOError:
                return
            self.ended = not self.held
            if self.ended:
                self.to.shutdown(socket.SHUT_WR)
        n = self.allowed(mode)
        if n:
            try:
                n = self.to.send(self.held[:n])
            except BlockingIOError:
                return
            self.held = self.held[n:]
            self.credit -= n


class Port:
    def __init__(self, directory, number, to):
        self.path = os.path.join(directory, "link.%d" % number)
        self.server = socket.create_server(("", number), backlog=16)
        self.server.setblocking(False)
        self.to, self.pairs, self.mode, self.said = to, [], "pass", "pass"

    def look(self):
        try:
            with open(self.path) as f:
                self.mode = f.read().strip() or self.mode
        except OSError:
            self.mode = "pass"

    def accept(self):
        try:
            near = self.server.accept()[0]
        except BlockingIOError:
            return
        try:
            far = socket.create_connection(self.to)
        except OSError:
            near.close()
            return
        for s in (near, far):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pairs.append((Way(near, far), Way(far, near)))

    def close(self, pair, reset):
        self.pairs.remove(pair)
        for way in pair:
            if reset:
                way.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            way.source.close()

    def step(self, readable):
        """What the file says is in force when .is says the same."""
        if self.server in readable:
            self.accept()
        for pair in list(self.pairs):
            if self.mode == "reset":
                self.close(pair, True)
                continue
            try:
                for way in pair:
                    way.step(self.mode, way.source in readable)
                if all(w.ended and not w.held for w in pair):
                    self.close(pair, False)
            except OSError:
                self.close(pair, True)
        if self.said != self.mode:
            with open(self.path + ".is", "w") as f:
                f.write(self.mode)
            self.said = self.mode

    def wants(self):
        return [self.server] + [w.source for p in self.pairs for w in p
                                if not w.held and not w.ended and self.mode != "stall"]


def main(directory, host, port, first, count):
    ports = [Port(directory, int(first) + n, (host, int(port))) for n in range(int(count))]
    print("ready", flush=True)
    looked = 0.0
    while True:
        waiting = any(w.held for p in ports for pair in p.pairs for w in pair)
        readable = select.select([s for p in ports for s in p.wants()], [], [],
                                 0.005 if waiting else 0.02)[0]
        if time.monotonic() - looked > 0.02:
            looked = time.monotonic()
            for p in ports:
                p.look()
        for p in ports:
            p.step(readable)


main(*sys.argv[1:])
