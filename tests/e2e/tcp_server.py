#!/usr/bin/python3 -SEB
# SPDX-License-Identifier: Apache-2.0
"""Servers that are moved while clients are connected. Each prints a line when it listens.

  stream HOST PORT        the other end of tcp_client.py stream; prints its result
  echo HOST PORT          any number of connections
  slow HOST PORT GO       reads to the end; when the file GO is there, answers with what it has read; with the
                          second half of it when GO.on is there
  talk HOST PORT GO       says hello and ends its sending; reads on until the end; writes it to GO.got
  deaf HOST PORT GO       accepts nobody until the file GO is there, then echoes
"""
import os
import selectors
import socket
import sys
import time

import tcp_client


def listen(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    s = socket.create_server((host, int(port)), family=family, backlog=4096)
    print("listening", flush=True)
    return s


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def stream(host, port):
    s, _ = listen(host, port).accept()
    print(tcp_client.Stream(s, 2, 1).run(lambda: False), flush=True)


def answered(s):
    """False at the end, also that of a client that was killed; one that lives says itself that it was reset."""
    try:
        data = s.recv(65536)
        s.sendall(data)
        return bool(data)
    except ConnectionError:
        return False


def echo(host, port, door=None):
    door = door or listen(host, port)
    poll = selectors.DefaultSelector()
    poll.register(door, selectors.EVENT_READ)
    while True:
        for key, _ in poll.select():
            s = key.fileobj
            if s is door:
                poll.register(s.accept()[0], selectors.EVENT_READ)
                continue
            if not answered(s):
                poll.unregister(s)
                s.close()


def slow(host, port, go):
    s, _ = listen(host, port).accept()
    got = b""
    while True:
        part = s.recv(65536)
        if not part:
            break
        got += part
    print("read", len(got), flush=True)
    wait_for(go)
    for i in range(0, len(got), 65536):
        if i > len(got) // 2:
            wait_for(go + ".on")
        s.sendall(got[i:i + 65536])
        time.sleep(0.01)
    s.close()


def talk(host, port, go):
    s, _ = listen(host, port).accept()
    s.sendall(b"hello")
    s.shutdown(socket.SHUT_WR)
    print("ended", flush=True)
    wait_for(go)
    got = b""
    while True:
        part = s.recv(65536)
        if not part:
            break
        got += part
    with open(go + ".got", "wb") as f:
        f.write(got)


def deaf(host, port, go):
    door = listen(host, port)
    wait_for(go)
    echo(host, port, door)


if __name__ == "__main__":
    {"stream": stream, "echo": echo, "slow": slow, "talk": talk, "deaf": deaf}[sys.argv[1]](*sys.argv[2:])
