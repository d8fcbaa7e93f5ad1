# SPDX-License-Identifier: Apache-2.0
# Writes a rising number every few ms. The number lies in a System V segment, which a semaphore guards (with
# undo), and in a message queue, and must be the same in both. All of them have keys. A POSIX message queue, too, has
# a name.
import ctypes
import os
import struct
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.msgsnd.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
libc.msgrcv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int]
IPC_CREAT, IPC_EXCL, IPC_NOWAIT, SEM_UNDO, SETVAL = 0o1000, 0o2000, 0o4000, 0x1000, 16
KEY, BYTES = 0x6d696772, 4 << 20


def must(result, what):
    if result in (-1, ctypes.c_void_p(-1).value):
        print("FAIL %s: %s" % (what, os.strerror(ctypes.get_errno())), flush=True)
        os._exit(1)
    return result


def semop(by):
    must(libc.semop(sems, struct.pack("Hhh", 0, by, SEM_UNDO), 1), "semop %d" % by)


def send(n):
    must(libc.msgsnd(queue, struct.pack("ll", 1, n), 8, IPC_NOWAIT), "msgsnd")


def receive():
    buf = ctypes.create_string_buffer(16)
    must(libc.msgrcv(queue, buf, 8, 0, IPC_NOWAIT), "msgrcv")
    return struct.unpack("ll", buf.raw)[1]


shm = must(libc.shmget(KEY, BYTES, IPC_CREAT | IPC_EXCL | 0o600), "shmget")
sems = must(libc.semget(KEY, 2, IPC_CREAT | IPC_EXCL | 0o600), "semget")
queue = must(libc.msgget(KEY, IPC_CREAT | IPC_EXCL | 0o600), "msgget")
at = must(libc.shmat(shm, None, 0), "shmat")
memory = (ctypes.c_char * BYTES).from_address(at)
memory[4096:] = os.urandom(1 << 20) * 3 + os.urandom((1 << 20) - 4096)
copy = memory[4096:]
posix = must(libc.mq_open(b"/migrated-e2e", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK, 0o600, None), "mq_open")
must(libc.semctl(sems, 0, SETVAL, 1), "semctl")
n = 0
send(n)
print("ready", flush=True)
while True:
    semop(-1)
    in_queue, in_memory = receive(), struct.unpack("l", memory[:8])[0]
    if in_queue != n or in_memory != n or (n % 50 == 0 and memory[4096:] != copy):
        print("FAIL %d in the queue, %d in memory, not %d" % (in_queue, in_memory, n), flush=True)
        os._exit(1)
    n += 1
    memory[:8] = struct.pack("l", n)
    send(n)
    os.pwrite(1, b"ready %20d\n" % n, 0)
    time.sleep(0.005 if n % 3 else 0)
    semop(1)
    again = must(libc.mq_open(b"/migrated-e2e", os.O_RDONLY), "mq_open again")
    if os.fstat(again).st_ino != os.fstat(posix).st_ino:
        print("FAIL the name leads elsewhere", flush=True)
        os._exit(1)
    os.close(again)
    for get, args, have in ((libc.shmget, (KEY, 0, 0), shm), (libc.semget, (KEY, 0, 0), sems),
                            (libc.msgget, (KEY, 0), queue)):
        if get(*args) != have:
            print("FAIL the key leads elsewhere", flush=True)
            os._exit(1)
