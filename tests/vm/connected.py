# SPDX-License-Identifier: Apache-2.0
"""A redis-server moves there and back between two virtual machines while a client is connected, which
is outside of both: in a network namespace of b, behind a bridge to the link between them.
"""
import base64
import json
import os

from vm import OTHER, ROOT, Vm, expect, say_move, wait_for

ADDRESS, PORT = "10.77.0.100", "6379"
CLIENT = os.path.join(ROOT, "tests/e2e/tcp_client.py")
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


def connected(kernel):
    # With the first packet filter the kernel patches the code that packets run through. On two emulated
    # processors one of them may still meet the breakpoint that is there meanwhile when the kernel has done
    # with it, and panics (qemu 7.2, __ip_local_out, 1 of 8 runs): so one processor.
    with Vm(kernel, env={"LAB_CPUS": "1"}) as vm:
        vm.exec("b", "bash", "-c", BRIDGE)
        put(vm, "b", CLIENT, "/tmp/client.py")
        vm.exec("a", "ip", "address", "add", ADDRESS + "/32", "dev", "eth0")
        pid = vm.start("a", "redis-server", "--port", PORT, "--bind", ADDRESS, "--save", "",
                       "--protected-mode", "no")
        wait_for("redis-server", 60, lambda: vm.exec(
            "a", "redis-cli", "-h", ADDRESS, "ping", check=False).stdout.strip() == "PONG")
        vm.exec("b", "bash", "-c", "exec </dev/null >/dev/null 2>&1; mkfifo /tmp/end; "
                "setsid sleep 1000 >/tmp/end & "
                "setsid ip netns exec c python3 /tmp/client.py redis %s %s </tmp/end >/tmp/said 2>&1 &" % (
                    ADDRESS, PORT))
        where = "a"

        def replies():
            text = vm.exec(where, "redis-cli", "-h", ADDRESS, "get", "counter").stdout.strip()
            return int(text or 0)

        for n in (1, 2):
            before = replies()
            wait_for("the client", 60, lambda: replies() > before)
            done = json.loads(vm.exec(where, "migratectl", "--json", "send", str(pid), OTHER[where],
                                      "--force-switch", "--max-rounds", "4")
                              .stdout.splitlines()[-1])
            expect(done["outcome"] == "moved" and done["connections"] >= 1, "%s", done)
            where = OTHER[where]
            say_move(n, done, ", %d connections" % done["connections"])
            after = replies()
            wait_for("the client to go on", 60, lambda: replies() > after)
        vm.exec("b", "bash", "-c", "echo >/tmp/end")
        said = wait_for("the client's end", 60, lambda: vm.exec("b", "cat", "/tmp/said").stdout)
        expect(said.startswith("{"), "the client says %s", said)
        print("%d replies were right" % json.loads(said)["replies"])
