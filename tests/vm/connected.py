# SPDX-License-Identifier: Apache-2.0
"""A redis-server moves there and back between two virtual machines while a client is connected, which
is outside of both: in a network namespace of b, behind a bridge to the link between them. Then a connection that is full
in both directions, over a link that takes its time and loses packets.
"""
import base64
import json
import os

from vm import OTHER, ROOT, Vm, expect, say_move, wait_for

ADDRESS, PORT = "10.77.0.100", "6379"
CLIENT, SERVER = (os.path.join(ROOT, "tests/e2e", name) for name in ("tcp_client.py", "tcp_server.py"))
STREAM_PORT = "6400"
# Each way.
BAD_LINK = "delay 15ms 5ms loss 1%"
BRIDGE = """
ip link add br0 type bridge forward_delay 0 && ip netns add c &&
ip link add c0 type veth peer name eth0 netns c &&
ip address flush dev eth0 && ip link set eth0 master br0 && ip link set c0 master br0 &&
ip address add 10.77.0.2/24 dev br0 && ip link set br0 up && ip link set c0 up &&
ip -n c address add 10.77.0.3/24 dev eth0 && ip -n c link set eth0 up && ip -n c link set lo up
"""


def put(vm, host, path, target):
    with open(path, "rb") as f:
        text = base64.b64encode(f.read()).decode()
    vm.exec(host, "bash", "-c", "echo %s | base64 -d >%s" % (text, target))


class Client:
    """On c, in the background: ends when it is told to."""

    def __init__(self, vm, *argv):
        self.vm, self.name = vm, argv[0]
        vm.exec("b", "bash", "-c", "exec </dev/null >/dev/null 2>&1; mkfifo /tmp/end.{0}; "
                "setsid sleep 1000 >/tmp/end.{0} & setsid ip netns exec c python3 /tmp/tcp_client.py {1} "
                "</tmp/end.{0} >/tmp/said.{0} 2>&1 &".format(self.name, " ".join(argv)))

    def end(self):
        self.vm.exec("b", "bash", "-c", "echo >/tmp/end." + self.name)
        said = wait_for("the client's end", 120, lambda: self.vm.exec("b", "cat", "/tmp/said." + self.name).stdout)
        expect(said.startswith("{"), "the client says %s", said)
        return json.loads(said)


def move(vm, where, pid, n, what):
    done = json.loads(vm.exec(where, "migratectl", "--json", "send", str(pid), OTHER[where],
                              "--force-switch", "--max-rounds", "4").stdout.splitlines()[-1])
    expect(done["outcome"] == "moved" and done["connections"] >= 1, "%s", done)
    say_move(n, done, ", %s, %d connections" % (what, done["connections"]))
    return OTHER[where]


def redis(vm):
    pid = vm.start("a", "redis-server", "--port", PORT, "--bind", ADDRESS, "--save", "",
                   "--protected-mode", "no")
    wait_for("redis-server", 60, lambda: vm.exec(
        "a", "redis-cli", "-h", ADDRESS, "ping", check=False).stdout.strip() == "PONG")
    client, where = Client(vm, "redis", ADDRESS, PORT), "a"

    def replies():
        return int(vm.exec(where, "redis-cli", "-h", ADDRESS, "get", "counter").stdout.strip() or 0)

    for n in (1, 2):
        before = replies()
        wait_for("the client", 60, lambda: replies() > before)
        where = move(vm, where, pid, n, "redis")
        after = replies()
        wait_for("the client to go on", 60, lambda: replies() > after)
    print("%d replies were right" % client.end()["replies"])
    vm.exec(where, "kill", str(pid))
    return where


def stream(vm, where):
    """Segments are lost, come late and out of order, are confirmed selectively: none of that is carried, all of it is
    mended by the two ends."""
    for tc, device in ("ip netns exec c tc", "eth0"), ("tc", "c0"):
        vm.exec("b", *("%s qdisc add dev %s root netem %s" % (tc, device, BAD_LINK)).split())
    pid = vm.start(where, "python3", "/tmp/tcp_server.py", "stream", ADDRESS, STREAM_PORT)
    wait_for("the server", 60, lambda: vm.exec(
        where, "bash", "-c", "ss -ltn | grep :" + STREAM_PORT, check=False).stdout)
    client = Client(vm, "stream", ADDRESS, STREAM_PORT)
    vm.exec("b", "sleep", "3")
    for n in (3, 4):
        where = move(vm, where, pid, n, "stream over a bad link")
        vm.exec("b", "sleep", "2")
    done = client.end()
    expect(done["sent"] > 1 << 20 and done["got"] > 1 << 20, "it says %s", done)
    print("%.1f MiB there, %.1f MiB back, all the same" % (done["sent"] / 1048576, done["got"] / 1048576))


def connected(kernel):
    # With the first packet filter the kernel patches the code that packets run through. On two emulated
    # processors one of them may still meet the breakpoint that is there meanwhile when the kernel has done
    # with it, and panics (qemu 7.2, __ip_local_out, 1 of 8 runs): so one processor.
    with Vm(kernel, env={"LAB_CPUS": "1"}) as vm:
        vm.exec("b", "bash", "-c", BRIDGE)
        for host in "ab":
            put(vm, host, CLIENT, "/tmp/tcp_client.py")
            put(vm, host, SERVER, "/tmp/tcp_server.py")
        vm.exec("a", "ip", "address", "add", ADDRESS + "/32", "dev", "eth0")
        stream(vm, redis(vm))
