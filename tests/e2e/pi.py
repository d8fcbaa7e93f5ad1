# SPDX-License-Identifier: Apache-2.0
# Digits of pi, one after the other (a streaming spigot: the state grows with every digit).
import sys


def digits(n):
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    while n:
        if 4 * q + r - t < m * t:
            yield m
            n -= 1
            q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) // t - 10 * m
        else:
            q, r, t, k, m, x = (q * k, (2 * q + r) * x, t * x, k + 1,
                                (q * (7 * k + 2) + r * x) // (t * x), x + 2)


for d in digits(int(sys.argv[1])):
    sys.stdout.write(str(d))
    sys.stdout.flush()
