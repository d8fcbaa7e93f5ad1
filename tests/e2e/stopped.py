# SPDX-License-Identifier: Apache-2.0
"""Two children that job control has stopped: "waited", of which the parent knows (with two threads that count, and a
signal that waits for it), and "unwaited", of which it has yet to learn. Each SIGUSR1 has the parent check them, and
SIGTERM sends them on. Says what it finds on stdout.
"""
import os
import signal
import sys
import threading
import time


def count(at, slot):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    while True:
        at[slot] += 1
        time.sleep(0.001)


def waited():
    """Ends when it has counted on, by the signal that came while it was stopped."""
    at = [0, 0]
    usr1 = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: usr1.set())
    for slot in range(2):
        threading.Thread(target=count, args=(at, slot), daemon=True).start()
    usr1.wait()
    before = list(at)
    while not all(now > then + 10 for now, then in zip(at, before)):
        time.sleep(0.01)
    os._exit(7)


def unwaited():
    os.kill(os.getpid(), signal.SIGTSTP)
    os._exit(8)


def child(run):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        run()
    return pid


def state(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def stop_of(pid):
    got = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    return got and got.si_status


def until(test):
    while not test():
        time.sleep(0.01)


signals = {signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
a = child(lambda: (signal.pthread_sigmask(signal.SIG_UNBLOCK, signals), waited()))
time.sleep(0.5)
os.kill(a, signal.SIGSTOP)
os.waitpid(a, os.WUNTRACED)
os.kill(a, signal.SIGUSR1)
b = child(lambda: (signal.pthread_sigmask(signal.SIG_UNBLOCK, signals), unwaited()))
until(lambda: stop_of(b))
while signal.sigtimedwait({signal.SIGCHLD}, 0):
    pass
print(a, b, flush=True)
while True:
    got = signal.sigwaitinfo(signals).si_signo
    print(signal.Signals(got).name, state(a), state(b), stop_of(a), stop_of(b), flush=True)
    if got == signal.SIGTERM:
        break
os.waitpid(b, os.WUNTRACED)
for pid in (a, b):
    os.kill(pid, signal.SIGCONT)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
sys.exit(0)
