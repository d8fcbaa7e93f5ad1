#!/usr/bin/python3 -SEB
# SPDX-License-Identifier: Apache-2.0
"""Makes the seeds of tests/fuzz/corpus from real messages.

  tests/fuzz/seeds.py BUILD      needs root: moves the subjects of tests/kinds, and records

What a source says is taken apart into frames, objects and layouts, one seed for each shape that differs;
pages are left out but for a few. Names are seed-*; what fuzzing found has other names and stays.
"""
import glob
import hashlib
import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))
from wire import (BEGIN, FINAL, LAYOUT, OBJECTS, PAGES, REHEARSED, changed, field, fields, frame,  # noqa: E402
                  frames, get, message)

CORPUS = os.path.join(HERE, "corpus")
SEED_MAX = 16384
SUBJECTS = ("creds", "device", "directory", "epoll", "eventfd", "file", "inotify", "limits", "lock", "memfd",
            "memory_guards", "memory_kinds", "memory_locked", "mm", "mqueue", "pipe", "sched", "shm", "signalfd",
            "signals", "socket_pair", "socket_tcp", "socket_udp", "socket_unix", "syscalls", "sysv_msg", "sysv_sem",
            "sysv_shm", "threads", "timerfd", "timers")


def put(target, data, name=None):
    folder = os.path.join(CORPUS, target)
    os.makedirs(folder, exist_ok=True)
    name = name or hashlib.sha256(data).hexdigest()[:12]
    with open(os.path.join(folder, "seed-" + name), "wb") as f:
        f.write(data)


def shape(data):
    """What two messages share that teach a fuzzer the same."""
    return tuple(sorted({(n, isinstance(v, int)) for n, v in fields(data)}))


# --- frames

def without_pages(body):
    """The runs that have no data."""
    n, = struct.unpack("<I", body[:4])
    runs = [body[8 + i * 16:24 + i * 16] for i in range(n)]
    runs = [r for r in runs if r[0] & 3][:4]
    return struct.pack("<II", len(runs), 0) + b"".join(runs)


def few_pages(body):
    """One page with data, too."""
    n, = struct.unpack("<I", body[:4])
    for i in range(n):
        start, = struct.unpack("<Q", body[8 + i * 16:16 + i * 16])
        if not start & 4095:
            return struct.pack("<IIQQ", 1, 0, start, 1) + b"\1" * 4096
    return None


# --- what another host would have, too: the files of the jail (jail.c)

FILE_THERE = "/run/fuzz/file"
IDENTITY = message((1, 0o100000), (10, 1), (11, 5), (14, bytes.fromhex("3d49be965a66a800caa39970fcda23d3")))


def portable_layout(body):
    return message(*((n, changed(v, _1=FILE_THERE, _2=IDENTITY, _3=None) if n == 3 else v)
                     for n, v in fields(body)))


def portable_socket(m):
    state = get(m, 9, b"")
    name = get(get(state, 2, b""), 1) if get(m, 1) == 3 else None  # a unix socket with a file
    if not name:
        return m
    there = changed(get(state, 2), _1="/run/fuzz/dir/" + os.path.basename(name.decode()))
    return changed(m, _9=changed(state, _2=there))


RIGHTS = 0x1ffffffffff  # all, as fake_task.c has them


PORTABLE = {  # by kind
    4: lambda m: changed(m, _6=RIGHTS, _7=RIGHTS, _8=RIGHTS) if get(m, 6) else m,
    10: lambda m: changed(m, _1="/"),
    12: lambda m: changed(m, _13=FILE_THERE, _14=IDENTITY),
    20: lambda m: changed(m, _1=FILE_THERE, _3=get(m, 3, 0) & ~3, _5=IDENTITY if get(m, 5) else None),
    40: portable_socket,
    22: lambda m: changed(m, _1="/run/fuzz/dir", _3=None),
}


def portable_objects(body):
    return message(*((n, changed(v, _7=PORTABLE[get(v, 1)](get(v, 7, b""))) if n == 2 and get(v, 1) in PORTABLE else v)
                     for n, v in fields(body)))


def piece(body):
    return struct.pack("<H", len(body)) + body


# --- recording

def record(build, subject):
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "stream")
        env = {**os.environ, "LAUNCH_RECORD": path, "LAUNCH_PAGES": "copy", "LAUNCH_SINK": "copy", "TMPDIR": d}
        p = subprocess.run([os.path.join(build, "tests/kinds/launch"), "--moves", "1",
                            os.path.join(build, "tests/kinds/subject-" + subject)], env=env, cwd=d,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if p.returncode or not os.path.exists(path):
            print("%s: no recording\n%s" % (subject, p.stdout))
            return b""
        with open(path, "rb") as f:
            return f.read()


class Maker:
    def __init__(self, kinds):
        self.kinds, self.seen = kinds, set()

    def once(self, *key):
        new = key not in self.seen
        self.seen.add(key)
        return new

    def objects(self, body):
        for number, value in fields(body):
            if number != 2:
                continue
            o = dict(fields(value))
            kind, message = o.get(1, 0), o.get(7, b"")
            inner = dict(fields(message)).get(1) if kind == 40 else None
            if len(message) < SEED_MAX and self.once("object", kind, inner, shape(message)):
                how = 8 if 6 in o else 0
                how |= (4 if kind in (24, 63) else 2) if o.get(3) else 0
                head = struct.pack("<BBH", self.kinds.index(kind), how, o.get(2, 0) & 0xffff)
                put("kinds", head + message)

    def stream(self, name, data):
        whole, layouts, objects, pages = b"", b"", b"", b""
        for kind, arg, body in frames(data):
            if kind == PAGES:
                some = few_pages(body)
                if some and self.once("pages", arg != 0):
                    pages += frame(PAGES, some, arg=arg)
                body = without_pages(body)
                if body[0] == 0:
                    continue
            if kind == OBJECTS:
                body = portable_objects(body)
                self.objects(body)
                objects += piece(body) if len(body) < 65536 else b""
            if kind == LAYOUT:
                body = portable_layout(body)
                layouts += piece(body) if len(body) < 65536 else b""
            if kind == REHEARSED:
                objects += piece(b"")
            whole += frame(kind, body, arg=arg)
        put("layout", layouts, name)
        put("objects", objects, name)
        if len(whole) < 4 * SEED_MAX:
            put("destination", whole, name)
        if name == "eventfd":
            for when in (-2 ** 63, 2 ** 63 - 1):
                put("destination", b"".join(
                    frame(k, field(1, when) if k == FINAL else b, arg=a) for k, a, b in frames(whole)),
                    "attack-frozen-%d" % (when > 0))
        put("channel", b"\7" + whole[:2048], name)
        if pages:
            put("sink", b"\0" + pages, name)


def kind_numbers(build):
    """In the order of the registry."""
    numbers, text = [], open(os.path.join(HERE, "../../daemon/kinds/kinds.def")).read()
    for line in text.splitlines():
        if line.startswith("KIND("):
            name = line[5:-1]
            for path in glob.glob(os.path.join(HERE, "../../daemon/kinds/*.c")):
                source = open(path).read()
                at = source.find("const struct kind kind_%s = {" % name)
                if at >= 0:
                    number = source[at:].split(".id = ")[1].split(",")[0]
                    if not number.isdigit():
                        number = source.split("#define " + number)[1].split()[0]
                    numbers.append(int(number))
    return numbers


# --- what is not recorded

def text(number, value):
    return field(number, value)


def by_hand():
    runs = [(0, 1), (4096 | 1, 2), (0x7ffffffff000 | 2, 1), (2 ** 64 - 4096, 1), (4096, 2 ** 52)]
    put("frame", frame(BEGIN, arg=5)[:16] + b"".join(struct.pack("<QQ", *r) for r in runs), "heads")
    put("frame", struct.pack("<IHHQ", 0xffffffff, 19, 0, 0) + struct.pack("<IHHQ", 1, 19, 1, 0), "wrong")
    put("channel", b"\0" + frame(25) * 3 + frame(62, arg=64) + frame(25) + frame(63) * 5, "next")
    for how in (0, 0x83):
        at = 0x10000000
        run = [(at, 2), (at + 0x2000 | 1, 3), (at + 0x5000 | 2, 1), (at + 0x20000, 1), (at + 0x30000, 1)]
        body = struct.pack("<II", len(run), 0) + b"".join(struct.pack("<QQ", *r) for r in run) + b"\2" * 4 * 4096
        shared = struct.pack("<IIQQQQ", 2, 0, 0x5000, 1, 1, 1) + b"\3" * 4096
        put("sink", bytes([how]) + frame(PAGES, body) + frame(PAGES, shared, arg=7), "hand-%d" % how)
    hello = b"\x08\x01\x10\x01" + text(3, "fuzz") + text(4, "boot")
    join = b"\x0a\x10" + b"\1" * 16 + b"\x10\x01"
    put("hello", b"\0" + frame(1, hello), "accept")
    put("hello", b"\0" + frame(1, hello + b"\x3a" + bytes([len(join)]) + join), "join")
    put("hello", b"\1" + frame(2, b"\x08\x01" + text(3, "x") + b"\x32\x10" + b"\1" * 16), "dial")
    error = b"\x08\x04" + text(3, "no") + text(3, "never") + text(4, "hint")
    put("hello", b"\1" + frame(53, error), "refused")
    facts = text(1, "6.1") + text(2, "x86_64") + b"\x18\x07" + b"\x2a\x08" + b"\xff" * 8
    put("answers", b"\0" + frame(48, b"\x0a" + bytes([len(facts)]) + facts + b"\x10\4"), "accept")
    put("answers", b"\1" + frame(49, b"\x0a" + bytes([len(error)]) + error + text(2, "warning")), "checked")
    put("answers", b"\2" + frame(51, b"\x08\5"), "ready")
    put("answers", b"\3" + frame(52, b"\x08\5\x10\7" + text(3, "w")), "running")
    put("answers", b"\4" + frame(50, arg=3), "round")
    put("answers", b"\5" + frame(54, b"\x08\1\x10\2\x18\3") * 8, "pong")
    put("answers", b"\0" + frame(53, error), "error")


def attacks(kinds):
    """What was wrong once, or would be easy to get wrong."""
    process, again = field(2, field(1, 1)), piece(b"")
    put("objects", again + piece(process + process), "attack-twice")
    put("objects", piece(process) + again + piece(field(1, field(1, 1)) * 2), "attack-removed-twice")
    put("objects", piece(b"\x12\0" * 5000), "attack-many-empty")
    put("objects", piece(b"".join(field(2, field(1, 2) + field(2, t)) for t in (0, 1, 2 ** 31, 2 ** 63))),
        "attack-thread-ids")

    def one(kind, how, body, name):
        put("kinds", struct.pack("<BBH", kinds.index(kind), how, 4) + body, "attack-" + name)
    for name, kind, flags in (("fifo", 0o010000, 0), ("fifo-write", 0o010000, 1), ("device", 0o020000, 2),
                              ("file-no-identity", 0o100000, 2), ("place", 0o010000, 0o10000000)):
        path = {0o010000: b"/run/fuzz/fifo", 0o020000: b"/dev/zero"}.get(kind, b"/run/fuzz/file")
        one(20, 0, field(1, path) + field(2, kind) + field(3, flags), name)
    for path in (b"/proc/kmsg", b"/proc/kcore", b"/proc/1/environ", b"/sys/kernel/notes", b"/proc/self/../kmsg",
                 b"/proc/2147483632/../kmsg", b"/proc/2147483632/root/proc/kmsg"):
        one(20, 0, field(1, path) + field(2, 0o100000), "kernel" + path.decode().replace("/", "-"))
        identity = field(1, 0o100000) + field(10, 1)
        one(20, 0, field(1, path) + field(2, 0o100000) + field(5, identity), "content" + path.decode().replace("/", "-"))
    one(24, 2, field(1, 2) + field(2, 65536) + field(6, b"x" * 100), "pipe-of-sockets")
    one(24, 4, field(1, 2) + field(2, 4096) + field(6, b"x" * 70000), "pipe-too-full")
    allow = field(1, struct.pack("<HBBI", 6, 0, 0, 0x7fff0000))
    for name, filters, indices in (("one", [allow], b"\0"), ("none", [], b"\0"), ("odd", [field(1, b"x" * 9)], b"\0"),
                                   ("long", [field(1, bytes(8 * 4097))], b"\0"), ("deep", [allow], b"\0" * 40000)):
        threads = field(2, field(1, 4) + field(2, indices))
        one(19, 0, b"".join(field(1, f) for f in filters) + threads, "filters-" + name)
    for i in range(len(kinds)):
        put("kinds", bytes([i, 0, 4, 0]) + b"\x12\0" * 3000, "attack-empties-%d" % kinds[i])


def control_seeds():
    def nested(field, body):
        key = bytes([field << 3 | 2]) if field < 16 else bytes([field << 3 & 0x7f | 0x82, field >> 4])
        return key + bytes([len(body)]) + body

    def request(body):
        return struct.pack("<I", len(body)) + body
    send = b"\x08\xe4\x20" + text(2, "host") + b"\x18\x05\x50\2"
    progress = text(1, "id") + text(2, "source") + text(3, "precopy") + text(4, "source") + b"\x28\5"
    done = nested(1, progress) + text(2, "kept") + nested(3, b"\x08\4" + text(3, "why")) + text(5, "warning")
    setup = nested(1, text(1, "SHA256:x"))
    ask = [nested(1, send), nested(2, b"\x08\5"), nested(3, b""), nested(4, text(1, "id")), nested(5, b""),
           nested(5, text(1, "id")), nested(6, text(1, "id")), nested(7, b""),
           nested(8, text(1, "n") + text(2, "h") + text(3, "f")), nested(9, b""), nested(10, text(1, "n"))]
    monitor = [setup, nested(13, progress), nested(14, done), nested(6, b"\x08\1" + text(3, "id")),
               nested(6, b"\x08\2" + nested(2, b"\x08\4" + text(3, "no")))]
    for i, a in enumerate(ask):
        put("control", piece(request(a)) + piece(monitor[i % len(monitor)]) + piece(request(ask[3]))
            + piece(monitor[3]) + piece(request(ask[2])) + piece(monitor[2]), "verb-%d" % i)
    # An unknown field, written so that it is another one when it is written again.
    put("control", piece(request(ask[0] + b"\x82\x00\x00")), "attack-unknown")
    all_ipc = monitor + [nested(i, b"") for i in range(1, 22)] + [
        nested(5, b"\x08\1" + nested(2, ask[0])), nested(8, text(1, "id") + text(2, "h") + b"\x18\1\x3a\1\1"),
        nested(12, text(1, "id") + b"\x10\1" + nested(4, send) + text(8, "any") + text(10, "/var")),
        nested(10, text(1, "id") + b"\x18\1" + text(4, "f") + b"\x48\1")]
    for i, m in enumerate(all_ipc):
        put("ipc", piece(m) + piece(m + b"\0"), "case-%d" % i)


MAPS = """\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
7f0000000000-7f0000001000 rw-s 00000000 00:01 17  /memfd:a\\012b (deleted)
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0   [stack]
7ffd00100000-7ffd00102000 r-xp 00000000 00:00 0   [vdso]
"""
FLAGS = "Rss: 4 kB\nProtectionKey:         0\nVmFlags: rd wr mr mw me ac sd zz \n"


def text_seeds():
    smaps = "".join(line + "\n" + FLAGS for line in MAPS.splitlines())
    with open("/proc/self/status") as f:
        status = f.read()
    with open("/proc/self/stat") as f:
        stat = f.read()
    timers = "ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n"
    for i, t in enumerate((MAPS, smaps, stat, status, timers, "pos:\t0\nflags:\t02004002\nsigmask:\t0000000000000001\n")):
        put("proc", bytes([i]) + t.encode(), "file-%d" % i)
    put("proc", b"\2" + b"1 (a) b) (\n) R 1 1 1 0 -1 4194304" + b" 1" * 60, "stat-name")
    lock = "lock:\t1: POSIX  ADVISORY  WRITE 812 08:01:4711 0 EOF\nlock:\t2: FLOCK  ADVISORY  READ 1 00:01:5 1 2\n"
    head = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1\n"
    for i, t in enumerate(("eventfd-count:               2a\neventfd-id: 3\neventfd-semaphore: 1\n",
                           "tfd:        5 events:       1d data: ffffffffffffffff  pos:0 ino:61af sdev:7\n"
                           "tfd:        5 events: 80000001 data: 5  pos:0 ino:61af sdev:7\n",
                           "clockid: 1\nticks: 3\nsettime flags: 01\nit_value: (0, 49406829)\nit_interval: (1, 0)\n",
                           "sigmask:\t0000000000000006\n")):
        put("fdinfo", bytes([i]) + (head + t + lock).encode(), "link-%d" % i)
    peer = "# peers\nhost-b 10.0.0.2:7420 SHA256:%s\nc [::1]:1 SHA256:%s\n" % ("A" * 43, "B" * 43)
    config = ("listen = 0.0.0.0:7420\nlisten = [::]\nallow_uids = 0, 1000-1999\nmax_memory = 16G # all\n"
              "allow_users = own\nhooks_dir = /etc/h\nkernel_tls = no\nmax_migrations = 4\ntracker = wp\n")
    seen = "host-b 1700000000 SHA256:%s SHA256:%s\n" % ("A" * 43, "B" * 43)
    for i, t in enumerate((peer, config, "[fe80::1%eth0]:7420", "0,1000-1999 5", "16G", seen)):
        put("text", bytes([i]) + t.encode(), "word-%d" % i)
    for i, t in enumerate(("host.example:65535", "::1", "*", ":1")):
        put("text", b"\2" + t.encode(), "address-%d" % i)


def diag_seeds():
    def attribute(kind, data):
        return struct.pack("<HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)

    unix = struct.pack("<BBBBI", 1, 1, 10, 0, 1) + b"\0" * 8
    unix += attribute(2, struct.pack("<I", 5)) + attribute(1, struct.pack("<II", 1, 2))
    unix += attribute(4, struct.pack("<II", 1, 128)) + attribute(6, b"\3")
    inet = struct.pack("<BBBB", 2, 10, 0, 0) + b"\0" * 48 + b"\0" * 20
    inet += attribute(8, b"\1") + attribute(14, b"\1" * 40)
    for i, m in enumerate((unix, unix, inet)):
        put("sockdiag", bytes([i]) + piece(m) + piece(m), "answer-%d" % i)


def journal_seeds():
    """Sums are made right by the target (first byte 1)."""
    def record(seq, mark, destination):
        head = struct.pack("<8sIIIiQqII", b"MIGRJ001", seq, mark, destination, 4242, 77, 1700000000, 0, 7420)
        texts = ((b"xfx7bwtk0y", 64), (b"0e0e0e0e-1111-4222-8333-444444444444", 40), (b"", 40), (b"redis-server", 64),
                 (b"b", 64), (b"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", 64), (b"192.0.2.2", 256))
        return (head + b"".join(t.ljust(n, b"\0") for t, n in texts)).ljust(1024, b"\0")
    for name, marks in (("source", (1, 2, 3)), ("destination", (4, 5, 6, 7))):
        put("journal", b"\1" + b"".join(record(i + 1, m, name != "source") for i, m in enumerate(marks)), name)
    put("journal", b"\1" + record(1, 1, False) + record(3, 2, False), "gap")
    put("journal", b"\0" + record(1, 1, False), "sum")


def main():
    build = os.path.abspath(sys.argv[1])
    for path in glob.glob(os.path.join(CORPUS, "*/seed-*")):
        os.unlink(path)
    by_hand()
    control_seeds()
    text_seeds()
    diag_seeds()
    journal_seeds()
    maker = Maker(kind_numbers(build))
    attacks(maker.kinds)
    for subject in SUBJECTS:
        maker.stream(subject, record(build, subject))
    return 0


sys.exit(main())
