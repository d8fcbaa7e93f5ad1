# SPDX-License-Identifier: Apache-2.0
"""Moves three programs there and back between two virtual machines while they run: one that writes
all the time and checks what it has written, one that changes its memory in every way (verify.py), and
a redis-server whose keys expire while it moves.
"""
import json
import os
import re

from verify import verify
from vm import OTHER, Vm, expect, say_move, wait_for

PORT, REDIS_PORT = "7500", "6379"
MIB = 16
FAMILY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e/family.py")
KEYS, KEY_BYTES, SHORT_KEYS = 16384, 4096, 30000

# Filled from inside: `DEBUG POPULATE` writes fewer bytes than a client could here.
FILL = """
import socket, sys
s = socket.create_connection(("127.0.0.1", 6379))
f = s.makefile("rb")
def cmd(*args):
    s.sendall(b"*%d\\r\\n" % len(args) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(a), a) for a in
              (a if isinstance(a, bytes) else str(a).encode() for a in args)))
    line = f.readline()
    assert line[:1] not in b"-", line
    return line
cmd("DEBUG", "POPULATE", sys.argv[1], "key", sys.argv[2])
cmd("EVAL", "for i=1,%s do redis.call('SET','t'..i,i,'PX',2000+math.floor(i/2)) end" % sys.argv[3], 0)
"""

DIGEST = """
import hashlib, socket, sys
s = socket.create_connection(("127.0.0.1", 6379))
f = s.makefile("rb")
def reply():
    line = f.readline().strip()
    assert line[:1] != b"-", line
    return [reply() for _ in range(int(line[1:]))] if line[:1] == b"*" else line[1:]
def cmd(*args):
    s.sendall(b"*%d\\r\\n" % len(args) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(a), a) for a in
              (a if isinstance(a, bytes) else a.encode() for a in args)))
    return reply()
keys = [b"key:%d" % i for i in range(int(sys.argv[1]))]
parts = []
for i in range(0, len(keys), 512):
    parts += cmd("DEBUG", "DIGEST-VALUE", *keys[i:i + 512])
print(hashlib.sha256(b"".join(parts)).hexdigest(), len(parts), cmd("DBSIZE").decode())
"""


def ask_writer(vm, host):
    """(rounds, wrong), None if nobody listens."""
    done = vm.exec(host, "bash", "-c", "cat </dev/tcp/127.0.0.1/" + PORT, check=False)
    if "Connection refused" in done.stderr:  # it has just been started
        return None
    text = done.stdout
    m = re.match(r"(\d+) checks (\d+) wrong (\d+)", text)
    expect(m, "the writer says %r", text)
    return int(m.group(1)), int(m.group(3))


def check_writer(vm, host, before):
    rounds, wrong = ask_writer(vm, host)
    expect(wrong == 0, "%d pages were wrong on %s", wrong, host)
    later = wait_for("the writer to go on", 60, lambda: (lambda r: r if r[0] > before else None)(
        ask_writer(vm, host)))
    expect(later[1] == 0, "%d pages were wrong on %s", later[1], host)
    return later[0]


def digest(vm, host):
    words = vm.exec(host, "python3", "-SEBc", DIGEST, str(KEYS)).stdout.split()
    expect(len(words) == 3 and int(words[1]) == KEYS, "digest: %r", words)
    return words[0], int(words[2])


def start_redis(vm):
    pid = vm.start("a", "redis-server", "--port", REDIS_PORT, "--save", "", "--appendonly", "no",
                   "--enable-debug-command", "local", "--dir", "/tmp", "--logfile", "")
    wait_for("redis", 60, lambda: vm.exec("a", "redis-cli", "ping", check=False).stdout.startswith("PONG"))
    vm.exec("a", "python3", "-SEBc", FILL, str(KEYS), str(KEY_BYTES), str(SHORT_KEYS))
    return pid


def check_carriers(vm, host, done, carrier):
    """What carried a move from host, at both ends; pages go by reference where the kernel encrypts."""
    there = vm.status(OTHER[host], done["id"])
    for h, got in ((host, done), (OTHER[host], there)):
        expect(got["stream"] == carrier[h], "on %s it was carried by %s", h, got["stream"])
    want = "pump" if carrier[host] == "ktls" else "copy"
    expect(done["source"] == want, "pages left by %s, not %s: %s", done["source"], want, done["warnings"])


def check_tls(vm, host, carrier, moves):
    """Each move is a connection at least, and no record was damaged."""
    stat = vm.tls_stat(host)
    for name in ("TlsTxSw", "TlsRxSw"):
        good = stat[name] >= moves if carrier[host] == "ktls" else stat[name] == 0
        expect(good, "%s on %s is %d after %d moves", name, host, stat[name], moves)
    expect(stat["TlsDecryptError"] == 0, "%d records on %s were damaged", stat["TlsDecryptError"], host)


def over_many_connections(vm, pid, want):
    """From a daemon whose keys wear out soon: other connections take over, and nobody notices."""
    vm.restart("a", "/build/tests/vm/vm-short-keys")
    before = vm.tls_stat("a")
    say_move(0, vm.send("a", pid), ", redis, over many connections")
    expect(digest(vm, "b")[0] == want, "the keys are others")
    used = vm.tls_stat("a")["TlsTxSw"] - before["TlsTxSw"]
    expect(used >= 5, "%d connections were used", used)
    print("         %d connections" % used)


def worker_dies(vm, pid, side):
    """In the midst of a move from a: it stays there, and each side knows why, as far as it can."""
    script = 'cd /tmp; setsid migratectl --json send "$1" b --bandwidth 1M >send 2>&1 </dev/null & echo $!'
    client = vm.exec("a", "bash", "-c", script, "sh", str(pid)).stdout.strip()
    wait_for("rounds", 60, lambda: any(m["state"] == "precopy" for m in vm.migrations("a")))
    vm.exec(side, "bash", "-c", "kill -9 $(pgrep -x migrated-worker)")
    wait_for("an outcome", 60, lambda: '"outcome"' in vm.exec("a", "cat", "/tmp/send").stdout)
    done = json.loads(vm.exec("a", "cat", "/tmp/send").stdout.splitlines()[-1])
    wait_for("the end there", 60, lambda: not vm.migrations("b"))
    there = vm.status("b", done["id"])
    said = {h: " ".join([d["error"]["message"], *d["error"]["causes"]]) for h, d in (("a", done), ("b", there))}
    print("         worker on %s dies (client %s): a: %s; b: %s" % (side, client, said["a"], said["b"]))
    expect(done["outcome"] == "kept" and done["stream"] == "ktls", "it ended so: %r", done)
    expect("ended by signal 9" in said[side], "on %s: %s", side, said[side])
    # the monitor of b still has the connection, and says what happened; that of a has not, and its kernel
    # resets it if there was something to read
    want = (["ended by signal 9"] if side == "b" else
            ["the other host closed the connection without a word", "connection lost"])
    expect(any(w in said[OTHER[side]] for w in want), "on %s: %s", OTHER[side], said[OTHER[side]])


def family(vm, tracker):
    """A tree of processes that check each other: what they share, who is whose child."""
    with open(FAMILY) as f:
        pid = vm.start("a", "python3", "-c", f.read(), "/tmp/said", "2", "0.02")
    going = wait_for("the family", 60, lambda: vm.exec("a", "cat", "/tmp/said", check=False).stdout)
    for n, host in enumerate(("a", "b")):
        done = vm.send(host, pid)
        say_move(n, done, ", family of %d processes, tracker %s" % (done["processes"], done["tracker"]))
        expect(done["tracker"] == tracker and done["processes"] > 3, "it was moved so: %s", done)
        for h in ("a", "b"):
            failed = vm.exec(h, "cat", "/tmp/said.failed", check=False).stdout
            expect(not failed, "on %s: %s", h, failed)
    vm.exec("a", "kill", "-TERM", str(pid))
    wait_for("its end", 60, lambda: vm.exec("a", "cat", "/tmp/said").stdout.startswith("ended"))
    print("         " + going.strip())


def trackers(vm):
    """Their contract. It is about single pages, and the kernel may move any page at any time, which reads as written:
    so a failure counts when it comes three times."""
    for left in (2, 1, 0):
        done = vm.exec("a", "/build/tests/kernel/kernel-dirty", check=not left)
        if done.returncode == 0:
            return
        print("again: %s" % " ".join(l for l in done.stderr.splitlines() if "LINE" in l or "FAILED" in l), flush=True)


def there_and_back(kernel, tracker, moves=2, relay_on_b=False):
    carrier = {"a": "ktls", "b": "relay" if relay_on_b else "ktls"}
    config_b = "kernel_tls = no" if relay_on_b else ""
    with Vm(kernel, "tracker = " + tracker, config_b=config_b) as vm:
        trackers(vm)
        writer = vm.start("a", "/build/tests/vm/vm-writer", PORT, str(MIB))
        rounds, host = wait_for("the writer", 60, lambda: ask_writer(vm, "a"))[0], "a"
        for side in () if relay_on_b else ("a", "b"):
            worker_dies(vm, writer, side)
            rounds = check_writer(vm, "a", rounds)
        for n in range(moves):
            done = vm.send(host, writer)
            say_move(n, done, ", writer, tracker " + done["tracker"])
            expect(done["tracker"] == tracker, "tracker %s was used", done["tracker"])
            check_carriers(vm, host, done, carrier)
            host = OTHER[host]
            rounds = check_writer(vm, host, rounds)
        vm.exec(host, "kill", "-9", str(writer))
        verify(vm, tracker)
        if kernel == "6.1":
            family(vm, tracker)
        redis = start_redis(vm)
        want, size = digest(vm, "a")
        for n, host in enumerate(("a", "b")):
            done = vm.send(host, redis)
            say_move(n, done, ", redis")
            got, size = digest(vm, OTHER[host])
            expect(got == want, "the keys are others after move %d", n)
            check_carriers(vm, host, done, carrier)
        if not relay_on_b:
            over_many_connections(vm, redis, want)
        for host in ("a", "b"):
            check_tls(vm, host, carrier, moves + 2)
        vm.exec("a", "/build/tests/wire/wire-ktls")  # last: it damages records too
        expect(size < KEYS + SHORT_KEYS, "no key has expired")
