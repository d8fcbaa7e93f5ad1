# SPDX-License-Identifier: Apache-2.0
"""What multiprocessing gives a program: parallel.py FILE. Workers take numbers from a queue and give their squares
back by another; a lock, a semaphore, an event, an array in shared memory, a pool and a block of shared
memory are used all the time. FILE tells how many rounds were right; SIGTERM ends it."""
import multiprocessing as mp
import os
import signal
import sys
import time
from multiprocessing import shared_memory

WORKERS, SLOTS = 3, 64


def work(tasks, results, lock, permits, counts, slot, name):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    block = shared_memory.SharedMemory(name)
    results.put(("ready", slot))
    while True:
        n = tasks.get()
        if n is None:
            return
        with permits:
            block.buf[slot] = (block.buf[slot] + 1) % 251
            with lock:
                counts[slot] += 1
        results.put((n, n * n))


def square(n):
    return n * n


def main(out):
    ended = []
    signal.signal(signal.SIGTERM, lambda *a: ended.append(1))
    tasks, results, lock, permits = mp.Queue(), mp.Queue(), mp.Lock(), mp.Semaphore(2)
    counts = mp.Array("q", SLOTS)
    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    block.buf[4096:8192] = bytes(range(256)) * 16
    workers = [mp.Process(target=work, args=(tasks, results, lock, permits, counts, i, block.name))
               for i in range(WORKERS)]
    for w in workers:
        w.start()
    assert sorted(results.get()[1] for _ in workers) == list(range(WORKERS))
    block.unlink()  # all who need it have it
    pool, rounds = mp.Pool(2, signal.signal, (signal.SIGTERM, signal.SIG_DFL)), 0
    while not ended:
        numbers = range(rounds, rounds + 10)
        for n in numbers:
            tasks.put(n)
        pooled = pool.map_async(square, numbers)
        got = dict(results.get(timeout=60) for _ in numbers)
        assert got == {n: n * n for n in numbers}, got
        assert pooled.get(timeout=60) == [n * n for n in numbers]
        rounds += 1
        with lock:
            assert sum(counts) == rounds * 10, list(counts)
            assert [counts[i] % 251 for i in range(WORKERS)] == list(block.buf[:WORKERS])
        assert bytes(block.buf[4096:8192]) == bytes(range(256)) * 16
        assert all(w.is_alive() for w in workers)
        with open(out + ".new", "w") as f:
            f.write("%d" % rounds)
        os.rename(out + ".new", out)
        time.sleep(0.01)
    for _ in workers:
        tasks.put(None)
    for w in workers:
        w.join(60)
        assert w.exitcode == 0, w.exitcode
    pool.terminate()
    pool.join()
    with open(out, "w") as f:
        f.write("ended")


if __name__ == "__main__":
    main(sys.argv[1])
