# SPDX-License-Identifier: Apache-2.0
"""Debian's postgresql, started on host a with its data in the lab's directory, which both hosts have."""
import os
import pwd

from lab import expect, skip, wait_for

ROOT = "/usr/lib/postgresql"
CONF = "unix_socket_directories='%s'\nlogging_collector=off\nfsync=off\nlisten_addresses='%s'\n"
START = "cd %(d)s; setsid %(bin)s/postgres -D %(d)s/db >%(d)s/log 2>&1 </dev/null & echo $!"
SUMS = ("select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),"
        " (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)")


def binaries():
    for version in sorted(os.listdir(ROOT) if os.path.isdir(ROOT) else [], reverse=True):
        if os.path.exists("%s/%s/bin/postgres" % (ROOT, version)):
            return "%s/%s/bin" % (ROOT, version)
    return skip("no postgresql is installed")


class Postgres:
    def __init__(self, lab, scale, address="", more=""):
        self.lab, self.address = lab, address
        self.of = {"d": os.path.join(lab.dir, "pg"), "bin": binaries()}
        user = pwd.getpwnam("postgres")
        os.chmod(lab.dir, 0o755)
        os.mkdir(self.of["d"])
        os.chown(self.of["d"], user.pw_uid, user.pw_gid)
        self.run("a", "%(bin)s/initdb -D %(d)s/db >/dev/null")
        with open(self.of["d"] + "/db/postgresql.conf", "a") as f:
            f.write(CONF % (self.of["d"], address) + more)
        with open(self.of["d"] + "/db/pg_hba.conf", "a") as f:
            f.write("host all all 10.77.0.0/24 trust\n")
        self.pid = int(self.run("a", START).stdout)
        wait_for("postgres", 60, lambda: self.run(
            "a", "%(bin)s/psql -h %(d)s -c 'select 1' postgres", check=False).returncode == 0)
        self.run("a", "%(bin)s/pgbench -h %(d)s -q -i -s " + scale + " postgres")

    def command(self, text):
        return ["/bin/su", "-s", "/bin/sh", "postgres", "-c", text % self.of]

    def run(self, host, text, check=True):
        return self.lab.exec(host, *self.command(text), check=check)

    def check_sums(self, host):
        sums = self.run(host, "%(bin)s/psql -h %(d)s -At -c '" + SUMS + "' postgres").stdout.strip()
        expect(len(set(sums.split("|"))) == 1, "the sums are %s", sums)

    def check_tables(self, host):
        done = self.run(host, "%(bin)s/pg_amcheck -h %(d)s --install-missing --heapallindexed postgres", check=False)
        expect(done.returncode == 0, "pg_amcheck: %s%s", done.stdout, done.stderr)

    def log(self):
        with open(self.of["d"] + "/log") as f:
            return f.read()

    def end(self, host):
        self.lab.kill(host, self.pid, "INT")
        wait_for("its end", 60, lambda: not self.lab.alive(host, self.pid))
        log = self.log()
        expect("is shut down" in log and "PANIC" not in log, "it logs %s", log[-1500:])
