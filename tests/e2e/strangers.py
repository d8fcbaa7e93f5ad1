# SPDX-License-Identifier: Apache-2.0
"""Strangers at a daemon's port, from a host of the lab. Prints what came of it, as JSON or "ready".

  strangers.py say ADDR WHAT             one connection that is not what it should be
  strangers.py key ADDR KEYFILE [expired]   TLS and HELLO with that key
  strangers.py hello ADDR KEYFILE MIN MAX   HELLO with these versions
  strangers.py replay ADDR KEYFILE       a session is said once more, byte for byte
  strangers.py hold ADDR WHAT N [KEYFILE]   N connections that come no further: tcp, tls, hello; and stay
  strangers.py storm ADDR FROM           connections from that address, as many as can be, until killed
  strangers.py memory                    what the daemon of this host takes
"""
import base64
import json
import os
import re
import resource
import select
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

PORT = 7420
HELLO, HELLO_OK, ERROR = 1, 2, 53


def varint(n):
    out = b""
    while n > 0x7f:
        out += bytes([n & 0x7f | 0x80])
        n >>= 7
    return out + bytes([n])


def hello_frame(least=1, most=1):
    body = b"\x08" + varint(least) + b"\x10" + varint(most) + b"\x1a\x04fake\x22\x04boot"
    return struct.pack("<IHHQ", len(body), HELLO, 0, 0) + body


def certificate(directory, key, expired):
    """Around that key; only the dates and the key in it are looked at."""
    path = os.path.join(directory, "cert")
    subprocess.run(["openssl", "req", "-x509", "-key", key, "-subj", "/CN=migrated", "-days", "2",
                    "-out", path], check=True, capture_output=True)
    if expired:
        with open(path) as f:
            der = base64.b64decode("".join(f.read().split("-----")[2].split()))
        dates = re.findall(rb"\x17\x0d(\d{12}Z)", der)
        der = der.replace(dates[0], b"200101000000Z").replace(dates[1], b"200201000000Z")
        with open(path, "w") as f:
            f.write("-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n"
                    % base64.encodebytes(der).decode())
    return path


def context(key=None, expired=False):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    if key:
        with tempfile.TemporaryDirectory() as d:
            c.load_cert_chain(certificate(d, key, expired), key)
    return c


def connect(address, source=None):
    s = socket.create_connection((address, PORT), 20, source_address=source and (source, 0))
    s.settimeout(20)
    return s


def answer_of(s):
    """All that the other side says until it ends: (bytes, how it ended)."""
    said = b""
    try:
        while True:
            some = s.recv(4096)
            if not some:
                return said, "end"
            said += some
    except (OSError, ssl.SSLError) as e:
        return said, str(e)


def words_of(said):
    """The kind of the first frame, and what can be read of it."""
    if len(said) < 16:
        return "nothing", ""
    kind = struct.unpack("<H", said[4:6])[0]
    return {HELLO_OK: "ok", ERROR: "error"}.get(kind, str(kind)), re.sub(
        r"[^ -~]", "", said[16:].decode(errors="replace"))


def report(**what):
    print(json.dumps(what), flush=True)


def tls_with(address, change):
    c = context()
    change(c)
    try:
        s = c.wrap_socket(connect(address))
        said, end = answer_of(s)
        report(finished=s.version(), said=len(said), end=end)
    except (OSError, ssl.SSLError) as e:
        report(finished=None, said=0, end=str(e))


def old(c):
    c.set_ciphers("ALL:@SECLEVEL=0")
    c.minimum_version = ssl.TLSVersion.TLSv1
    c.maximum_version = ssl.TLSVersion.TLSv1_2


def no_encryption(c):
    c.set_ciphers("eNULL:aNULL:@SECLEVEL=0")
    c.maximum_version = ssl.TLSVersion.TLSv1_2


PLAIN = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "frames": hello_frame() + struct.pack("<IHHQ", 0, 16, 0, 0),
    "random": os.urandom(8192),
    "nothing": b"",
}
TLS = {"tls1.2": old, "null": no_encryption, "nokey": lambda c: None,
       # the only group that is offered is one that is not served
       "weak-group": lambda c: c.set_ecdh_curve("secp521r1")}


def say(address, what):
    if what in TLS:
        tls_with(address, TLS[what])
        return
    s = connect(address)
    s.sendall(PLAIN[what])
    s.shutdown(socket.SHUT_WR)
    said, end = answer_of(s)
    # a record with an alert is all that a stranger hears
    report(said=said.hex(), end=end, alert=len(said) in (0, 7) and said[:1] in (b"", b"\x15"))


def with_key(address, key, expired=""):
    try:
        s = context(key, bool(expired)).wrap_socket(connect(address))
        s.sendall(hello_frame())
        s.settimeout(3)
        said, end = answer_of(s)
    except (OSError, ssl.SSLError) as e:
        said, end = b"", str(e)
    kind, words = words_of(said)
    report(kind=kind, words=words, end=end)


def versions(address, key, least, most):
    s = context(key).wrap_socket(connect(address))
    s.sendall(hello_frame(int(least), int(most)))
    s.settimeout(3)
    said, end = answer_of(s)
    kind, words = words_of(said)
    report(kind=kind, words=words, end=end)


def replay(address, key):
    """Our own client, listened in on by a proxy of ours: the best that a wiretap can have."""
    server = socket.create_server(("127.0.0.1", 0))
    heard = []

    def proxy():
        inside, outside = server.accept()[0], connect(address)

        def back():
            while some := outside.recv(65536):
                inside.sendall(some)
        threading.Thread(target=back, daemon=True).start()
        while some := inside.recv(65536):
            heard.append(some)
            outside.sendall(some)
        outside.close()
    t = threading.Thread(target=proxy, daemon=True)
    t.start()
    s = context(key).wrap_socket(socket.create_connection(server.getsockname()))
    s.sendall(hello_frame())
    first = s.recv(4096)
    s.close()
    t.join(20)
    again = connect(address)
    again.sendall(b"".join(heard))
    said, end = answer_of(again)
    # its ServerHello and what follows come, because that is said before anybody is known
    report(first=words_of(first)[0], bytes=len(b"".join(heard)), end=end,
           hello_ok=b"migrated" in said, said=len(said))


def half_hello():
    """The beginning of a ClientHello."""
    c, i, o = context(), ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        c.wrap_bio(i, o).do_handshake()
    except ssl.SSLWantReadError:
        pass
    whole = o.read()
    return whole[:len(whole) // 2]


def hold(address, what, n, key=None):
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    c, half, kept, failed = context(key), half_hello(), [], 0
    for _ in range(int(n)):
        try:
            s = connect(address)
            if what == "tls":
                s.sendall(half)
            elif what == "hello":
                s = c.wrap_socket(s)
                s.sendall(hello_frame())
            kept.append(s)
        except (OSError, ssl.SSLError):
            failed += 1
    print("ready", failed, flush=True)
    while True:
        time.sleep(1000)


def storm(address, source):
    kept, half = [], half_hello()
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    print("ready", flush=True)
    while True:
        try:
            kept.append(connect(address, source))
            kept[-1].sendall(half)
        except OSError:
            time.sleep(0.01)
        if len(kept) > 1000:
            kept.pop(0).close()


def sizes_of_ours():
    """KiB of each process of the daemon on this host; what they share is counted once."""
    sizes = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/exe" % p).endswith("/migrated"):
                with open("/proc/%s/smaps_rollup" % p) as f:
                    sizes.append(int(re.search(r"^Pss: +(\d+) kB", f.read(), re.M)[1]))
        except (OSError, TypeError):
            pass  # it has ended
    return sizes


def memory():
    sizes = sizes_of_ours()
    report(processes=len(sizes), kib=sum(sizes))


def watch():
    """The most that it is until stdin ends."""
    processes = kib = 0
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        sizes = sizes_of_ours()
        processes, kib = max(processes, len(sizes)), max(kib, sum(sizes))
    report(processes=processes, kib=kib)


{"memory": memory, "watch": watch, "say": say, "key": with_key, "hello": versions, "replay": replay, "hold": hold,
 "storm": storm}[sys.argv[1]](*sys.argv[2:])
