# SPDX-License-Identifier: Apache-2.0
"""A peer with the right key that speaks wrongly. Runs in a host of the lab, with that host's key.

  fake_peer.py listen PORT WHAT     answers one connection after its HELLO
  fake_peer.py dial ADDR WHAT       says it to the other host's daemon, before or after HELLO
  fake_peer.py join ADDR KEY        joins migrations of its own, in wrong ways and right ones, once with
                                    KEY, another peer's; prints what was answered, as JSON
  fake_peer.py replay ADDR FILE     says the frames of FILE after HELLO, as a source would
"""
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from wire import (ABORT, ALIVE, ANSWER, BEGIN, BYE, CHECKED, ERROR, HELLO, HELLO_OK, PAGES, fields, frame,  # noqa: E402
                  frames, get, message)

KEY = "/var/lib/migrated/identity.key"


def text(field, value):
    return bytes([field << 3 | 2, len(value)]) + value.encode()


GOOD_HELLO = frame(HELLO, b"\x08\x01\x10\x01" + text(3, "fake") + text(4, "fake-boot-id"))
SAY = {
    "newer": frame(ERROR, b"\x08\x09" + text(3, "this host speaks versions 7 to 9, not 1 to 1")),
    "future": frame(HELLO_OK, b"\x08\x63"),
    "absurd": frame(HELLO_OK, length=0xffffffff),
    "flags": frame(HELLO_OK, b"\x08\x01", flags=7),
    "truncated": frame(HELLO_OK, length=100) + b"short",
    "garbage": frame(HELLO_OK, b"\xff" * 64),
    "gone": b"",
    # for the other side
    "hello-absurd": frame(HELLO, length=0xffffffff),
    "hello-garbage": frame(HELLO, os.urandom(64)),
    "hello-truncated": GOOD_HELLO[:-3],
    "hello-newer": frame(HELLO, b"\x08\x07\x10\x09"),
    "begin-absurd": GOOD_HELLO + frame(BEGIN, length=0x7fffffff),
    "begin-garbage": GOOD_HELLO + frame(BEGIN, os.urandom(200)),
    "begin-unknown": GOOD_HELLO + frame(999, b"x"),
    "pages-first": GOOD_HELLO + frame(PAGES, struct.pack("<II", 0xffffffff, 0) + b"x" * 100),
    "random": os.urandom(4096),
}


def context(protocol, key=KEY):
    """Our host's own key, in a certificate made for the occasion."""
    c = ssl.SSLContext(protocol)
    c.minimum_version = ssl.TLSVersion.TLSv1_3
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    with tempfile.TemporaryDirectory() as d:
        cert = os.path.join(d, "cert")
        subprocess.run(["openssl", "req", "-x509", "-key", key, "-subj", "/CN=migrated", "-days",
                        "2", "-out", cert], check=True, capture_output=True)
        c.load_cert_chain(cert, key)
    return c


def listen(port, what):
    server = socket.create_server(("", int(port)))
    c = context(ssl.PROTOCOL_TLS_SERVER)
    print("ready", flush=True)
    s = c.wrap_socket(server.accept()[0], server_side=True)
    s.recv(4096)
    s.sendall(SAY[what])
    s.close()


def dial(address, what):
    s = context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(socket.create_connection((address, 7420)))
    s.settimeout(20)
    answer = b""
    try:
        s.sendall(SAY[what])
        while True:
            some = s.recv(4096)
            if not some:
                break
            answer += some
    except (OSError, ssl.SSLError) as e:
        answer += str(e).encode()
    print(len(answer), answer[:300])


# --- further connections

def hello(address, token=None, number=0, key=KEY):
    """(connection, what it answered: "ok" or the error's words, token)"""
    s = context(ssl.PROTOCOL_TLS_CLIENT, key).wrap_socket(socket.create_connection((address, 7420)))
    s.settimeout(20)
    body = b"\x08\x01\x10\x01"
    if token is not None:
        join = b"\x0a" + bytes([len(token)]) + token + b"\x10" + bytes([number & 0x7f | 0x80, number >> 7])
        body += b"\x3a" + bytes([len(join)]) + join
    s.sendall(frame(HELLO, body))
    answer = b""
    while len(answer) < 16 or len(answer) < 16 + struct.unpack("<I", answer[:4])[0]:
        some = s.recv(4096)
        if not some:
            return s, "closed", b""
        answer += some
    if struct.unpack("<H", answer[4:6])[0] == HELLO_OK:
        at = answer.find(b"\x32\x10", 16)
        return s, "ok", answer[at + 2:at + 18] if at >= 0 else b""
    return s, answer[16:].decode(errors="replace"), b""


def join(address, other_key):
    first, said, token = hello(address)
    kept, result = [first], {"first": said, "token": len(token)}

    def attempt(name, *args):
        s, result[name], given = hello(address, *args)
        kept.append(s)
        if given:
            result[name] += " with a token"
    attempt("wrong token", bytes(b ^ 1 for b in token), 1)
    attempt("short token", token[:15], 1)
    attempt("number 0", token, 0)
    attempt("number 256", token, 256)
    attempt("other key", token, 1, other_key)
    for n in range(1, 9):
        attempt("number %d" % n, token, n)
    attempt("again", token, 3)
    attempt("too many", token, 9)
    first.close()
    end = time.monotonic() + 20
    while True:  # its worker takes a moment to see that it is alone
        attempt("late", token, 10)
        if result["late"] != "ok" and "wait there already" not in result["late"]:
            break
        if time.monotonic() > end:
            break
    kept[6].settimeout(20)
    result["unclaimed"] = len(kept[6].recv(100))
    print(json.dumps(result))


# --- whole migrations

def recv_exactly(s, n):
    """None at the end."""
    data = b""
    while len(data) < n:
        some = s.recv(n - len(data))
        if not some:
            return None
        data += some
    return data


def recv_frame(s):
    """(type, body); (None, b"") at the end"""
    while True:
        head = recv_exactly(s, 16)
        if head is None:
            return None, b""
        length, kind = struct.unpack("<IH", head[:6])
        body = recv_exactly(s, length)
        if body is None:
            return None, b""
        if kind != ALIVE:  # says only that more will come
            return kind, body


def hear(s, kind, body):
    """The last word: an error, or what came before the end."""
    while kind not in (ERROR, BYE):
        try:
            s.settimeout(10)
            more = recv_frame(s)
        except (OSError, ssl.SSLError):
            break
        if more[0] is None:
            break
        kind, body = more
    return kind, body


def say_all(s, script):
    """Waits for the answer where there is one; (type, body) of the last one, or of what came instead."""
    kind, body = None, b""
    for what, arg, content in script:
        try:
            s.sendall(frame(what, content, arg=arg))
            if what not in ANSWER:
                continue
            kind, body = recv_frame(s)
        except (OSError, ssl.SSLError):
            break
        if kind != ANSWER[what] or kind == CHECKED and get(body, 1):
            return kind, body
    return hear(s, kind, body)


def replay(address, path):
    """Says all frames of a file. Prints what was answered last: its type, and the texts of an error or of blockers."""
    s, said, _ = hello(address)
    if said != "ok":
        print(json.dumps({"last": ERROR, "texts": [said]}))
        return
    s.settimeout(60)
    with open(path, "rb") as f:
        kind, body = say_all(s, list(frames(f.read())))
    errors = [body] if kind == ERROR else [b for n, b in fields(body) if n == 1] if kind == CHECKED else []
    if kind == CHECKED:  # an honest source says that it ends
        s.sendall(frame(ABORT, message((1, 4), (3, "blocked"))) + frame(BYE))
    print(json.dumps({"last": kind, "texts": [
        t.decode(errors="replace") for e in errors for n, t in fields(e) if n == 3]}))


{"listen": listen, "dial": dial, "join": join, "replay": replay}[sys.argv[1]](*sys.argv[2:])
