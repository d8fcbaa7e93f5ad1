# SPDX-License-Identifier: Apache-2.0
"""Where the kernel does the TLS, no page of a moving process enters memory of ours: a redis-server with
64 MiB moves, and the kernel's tracing (not a debugger: the processes are traced by the daemon) counts
what every system call that can carry bytes returned to our processes, and to the moved one.
"""
import json

from soft import KEY_BYTES, KEYS, digest, start_redis
from vm import OTHER, Vm, expect, say_move

COPY = ("read", "pread64", "readv", "preadv", "recvfrom", "recvmsg", "write", "pwrite64", "writev", "pwritev",
        "sendto", "sendmsg", "process_vm_readv", "process_vm_writev")
REFERENCE = ("splice", "vmsplice")
PAYLOAD = KEYS * KEY_BYTES
# Tables, page maps (where soft-dirty bits are read, 8 bytes for each page in each round), mappings; memory
# that the process itself cannot read or write. In all, 1 to 4 in a hundred were seen.
CONTROL = PAYLOAD // 10

# Our daemon, its threads, and all that they start: the worker, and the process that it builds. A program
# that is looked for by its name would be us, too.
START = """
set -e
mount -t tracefs t /sys/kernel/tracing 2>/dev/null || :
cd /sys/kernel/tracing
echo 0 >tracing_on; echo 32768 >buffer_size_kb; echo 1 >options/event-fork; echo >trace
for p in /proc/[0-9]*; do
	read -r name <$p/comm || continue
	case $name in migrated*|redis-server) ls $p/task;; esac
done | tr '\\n' ' ' >set_event_pid
for c in %s; do echo 1 >events/syscalls/sys_exit_$c/enable; done
echo 'cmd == 0xc028aa03' >events/syscalls/sys_enter_ioctl/filter
echo 1 >events/syscalls/sys_enter_ioctl/enable
echo 1 >tracing_on
""" % " ".join(COPY + REFERENCE)

STOP = r"""
import collections, glob, json, re
T = "/sys/kernel/tracing/"
open(T + "tracing_on", "w").write("0")
counts, uffd = collections.defaultdict(int), 0
for line in open(T + "trace"):
    found = re.match(r"\s*(.*)-\d+\s+\[\d+\].*?: sys_(\w+) -> (0x[0-9a-f]+)$", line)
    n = int(found.group(3), 0) if found else 0
    if 0 < n < 1 << 63:  # else an errno
        counts[found.group(1) + " " + found.group(2)] += n
    uffd += ": sys_ioctl(" in line
lost = sum(int(re.search(r"^overrun: (\d+)", open(f).read(), re.M).group(1))
           for f in glob.glob(T + "per_cpu/*/stats"))
print(json.dumps({"bytes": counts, "uffd": uffd, "lost": lost}))
"""


def stop(vm, host):
    """({(process, call): bytes}, calls of UFFDIO_COPY) since the start."""
    told = json.loads(vm.exec(host, "python3", "-SEBc", STOP).stdout)
    expect(told["lost"] == 0, "%d events are lost on %s", told["lost"], host)
    return {tuple(k.rsplit(" ", 1)): n for k, n in told["bytes"].items()}, told["uffd"]


OURS = ("migrated", "pages-")  # names of our threads begin so


def total(counts, calls, ours):
    return sum(n for (who, call), n in counts.items() if call in calls and who.startswith(OURS) == ours)


def check(host, counts, uffd, own_call):
    """Ours move references; own_call is how the process has, or gets, its pages."""
    for key, n in sorted(counts.items(), key=lambda e: -e[1])[:6]:
        print("    %s %-16s%-18s%9.2f MiB" % (host, *key, n / 2**20), flush=True)
    copied, own = total(counts, COPY, True), total(counts, (own_call,), False)
    expect(total(counts, ("splice",), True) > PAYLOAD, "we spliced too little on %s: %r", host, counts)
    expect(own > PAYLOAD, "%d bytes by %s of the process on %s: %r", own, own_call, host, counts)
    expect(copied < CONTROL and uffd == 0, "%d bytes were copied on %s, %d UFFDIO_COPY: %r", copied, host,
           uffd, counts)


def nothing_is_copied(kernel):
    with Vm(kernel) as vm:
        redis = start_redis(vm)
        want, _ = digest(vm, "a")
        for n, (host, streams) in enumerate((("a", 1), ("b", 2))):
            for h in ("a", "b"):
                vm.exec(h, "bash", "-c", START)
            done = vm.send(host, redis, "--streams", str(streams))
            say_move(n, done, ", by %s, %s, %d streams" % (done["stream"], done["source"], done["streams"]))
            expect(done["streams"] == streams, "%d streams", done["streams"])
            there = json.loads(vm.exec(OTHER[host], "migratectl", "--json", "status", done["id"]).stdout)
            sink = there["ended"][0]["sink"]
            expect((done["stream"], done["source"], sink) == ("ktls", "pump", "splice"),
                   "carried by %s, %s, %s", done["stream"], done["source"], sink)
            check(host, *stop(vm, host), "vmsplice")
            check(OTHER[host], *stop(vm, OTHER[host]), "readv")
            got, _ = digest(vm, OTHER[host])
            expect(got == want, "the keys are others after move %d", n)
