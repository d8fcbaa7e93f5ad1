// SPDX-License-Identifier: Apache-2.0
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Threads that compute the same sum again and again, and leave garbage; each result is compared. */
public class Sum {
    private static final int PARTS = 8;
    private static final long PART = 500_000;

    private static long part(long from) {
        long sum = 0;
        for (long i = from; i < from + PART; i++) {
            sum += i * i % 7919;
        }
        return sum;
    }

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        long first = -1;
        for (int round = 1;; round++) {
            List<Future<Long>> parts = new ArrayList<>();
            for (int i = 0; i < PARTS; i++) {
                final long from = i * PART;
                parts.add(pool.submit(() -> part(from)));
            }
            long sum = 0;
            for (Future<Long> p : parts) {
                sum += p.get();
            }
            if (round == 1) {
                first = sum;
            }
            System.out.println(sum == first ? round + " right" : "wrong");
            byte[][] garbage = new byte[64][100_000];
            garbage[round % 64][0] = 1;
        }
    }
}
