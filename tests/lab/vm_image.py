# SPDX-License-Identifier: Apache-2.0
"""What the virtual machines boot from, made once and kept outside the tree: Debian's own cloud
kernels, an initial ram disk with their modules, and one read-only image with Debian's programs at
their usual places, copied from the packages that this machine has installed.
"""
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

CACHE = os.environ.get("MIGRATED_LAB_CACHE", "/var/cache/migrated-lab")
# Their dependencies come along.
PACKAGES = ("bash", "coreutils", "grep", "sed", "mawk", "procps", "util-linux", "mount", "iproute2",
            "python3", "redis-server", "redis-tools", "strace", "libevent-core-2.1-7", "libprotobuf-c1",
            "libssl3", "libsystemd0", "libmnl0", "libseccomp2", "libcap-ng0", "libjansson4", "libxxhash0",
            "libcmocka0", "openssl")
TOOLS = ("qemu-system-x86", "qemu-system-x86_64"), ("busybox-static", "busybox"), ("cpio", "cpio"), \
        ("e2fsprogs", "mke2fs"), ("strace", "strace"), ("redis-server", "redis-server")
# In the order in which they are loaded; what a kernel has built in is not there.
MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
           "failover", "net_failover", "virtio_net", "crc16", "mbcache", "jbd2", "crc32c_generic", "ext4",
           "gf128mul", "ghash-generic", "gcm", "libaes", "cryptd", "crypto_simd", "aesni-intel",
           "ghash-clmulni-intel", "ctr", "tls", "inet_diag", "tcp_diag", "udp_diag", "unix_diag",
           "libcrc32c", "nfnetlink", "nf_tables", "veth", "llc", "stp", "bridge", "sch_netem")
SKIP_DIRS = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/usr/share/lintian",
             "/usr/share/bash-completion", "/usr/share/zoneinfo", "/etc/systemd", "/usr/lib/systemd",
             "/usr/share/perl", "/usr/lib/x86_64-linux-gnu/perl")

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
for m in $(cat /modules/order); do insmod /modules/$m; done
for i in $(seq 100); do [ -b /dev/vdb ] && break; sleep 0.1; done
mount -t ext4 -o ro /dev/vda /root
mount -t ext4 -o ro /dev/vdb /root/build
exec switch_root /root /bin/bash /build/boot
"""


class Missing(Exception):
    """What this machine lacks."""


def run(*argv, **how):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, **how)
    if done.returncode:
        raise Missing("%s: %s" % (" ".join(argv[:4]), (done.stderr or done.stdout).strip()[-500:]))
    return done.stdout


def check_tools():
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lack = [package for package, program in TOOLS if not shutil.which(program, path=path)]
    if lack:
        raise Missing("not installed: " + " ".join(lack))


def keep(name, make):
    """The cached file or directory of that name; make(path) makes it when it is not there."""
    path = os.path.join(CACHE, name)
    if os.path.exists(path):
        return path
    os.makedirs(CACHE, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".new-") as work:
        new = os.path.join(work, "new")
        make(new)
        try:
            os.rename(new, path)
        except OSError:
            if not os.path.exists(path):  # somebody else was quicker
                raise
    return path


# --- kernels

def kernel_package(series):
    """The newest cloud kernel of a series ("6.1") that Debian has here."""
    form = re.compile(r"linux-image-%s\.[0-9.]+(?:[-+~][\w.]*)?-cloud-amd64$" % re.escape(series))
    names = {n for n in run("apt-cache", "pkgnames", "linux-image-" + series).split() if form.match(n)}
    if not names:
        raise Missing("no package of a %s cloud kernel is known to apt" % series)
    return max(names, key=lambda n: [int(d) for d in re.findall(r"\d+", n)])


def kernel(series):
    """A directory with boot/vmlinuz-* and lib/modules of it."""
    have = [n for n in (os.listdir(CACHE) if os.path.isdir(CACHE) else ())
            if n.startswith("linux-image-%s." % series)]
    if have:
        return os.path.join(CACHE, max(have))
    name = kernel_package(series)

    def make(path):
        where = os.path.dirname(path)
        os.chmod(where, 0o755)
        run("apt-get", "-o", "APT::Sandbox::User=root", "download", name, cwd=where)
        deb = [f for f in os.listdir(where) if f.endswith(".deb")][0]
        run("dpkg-deb", "-x", os.path.join(where, deb), path)
    return keep(name, make)


def vmlinuz(directory):
    boot = os.path.join(directory, "boot")
    return os.path.join(boot, [f for f in os.listdir(boot) if f.startswith("vmlinuz-")][0])


def add_modules(directory, target):
    files = {}
    for base, _, names in os.walk(os.path.join(directory, "lib/modules")):
        for n in names:
            m = re.match(r"(.*)\.ko(\.xz)?$", n)
            if m:
                files[m.group(1).replace("_", "-")] = os.path.join(base, n)
    order = []
    for name in MODULES:
        source = files.get(name.replace("_", "-"))
        if not source:
            continue  # built in
        with open(os.path.join(target, name + ".ko"), "wb") as out:
            argv = ["xz", "-dc", source] if source.endswith(".xz") else ["cat", source]
            subprocess.run(argv, stdout=out, check=True)
        order.append(name + ".ko")
    with open(os.path.join(target, "order"), "w") as f:
        f.write("\n".join(order) + "\n")


def initrd(directory):
    def make(path):
        root = path + ".d"
        for d in ("bin", "proc", "sys", "dev", "root", "modules"):
            os.makedirs(os.path.join(root, d))
        shutil.copy(shutil.which("busybox"), os.path.join(root, "bin/busybox"))
        add_modules(directory, os.path.join(root, "modules"))
        with open(os.path.join(root, "init"), "w") as f:
            f.write(INIT)
        os.chmod(os.path.join(root, "init"), 0o755)
        files = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        cpio = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=files,
                              capture_output=True, check=True).stdout
        with gzip.open(path, "wb", 1) as f:
            f.write(cpio)
    return keep("initrd-%s-%s" % (os.path.basename(directory), digest(INIT + repr(MODULES))), make)


# --- the programs

def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def closure():
    """All packages that ours need, with their versions, as installed here."""
    form = "${db:Status-Status}\t${Package}\t${Version}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    packages, provides = {}, {}
    for line in run("dpkg-query", "-W", "-f", form).splitlines():
        status, name, version, given, needs = line.split("\t")
        if status != "installed":
            continue
        packages[name] = (version, needs)
        for p in re.findall(r"([a-z0-9.+-]+)(?: \([^)]*\))?", given):
            provides.setdefault(p, name)
    todo, found = list(PACKAGES), {}
    while todo:
        name = todo.pop()
        name = name if name in packages else provides.get(name)
        if not name or name in found:
            continue
        found[name] = packages[name][0]
        for need in packages[name][1].split(","):
            for choice in need.split("|"):
                todo.append(re.sub(r"[ :(].*", "", choice.strip()))
    lack = [p for p in PACKAGES if p not in found]
    if lack:
        raise Missing("not installed: " + " ".join(lack))
    return found


def fill_root(packages, root):
    names = run("dpkg-query", "-L", *packages).split("\n")
    wanted = sorted({n for n in names if n.startswith("/") and os.path.lexists(n)
                     and not n.startswith(SKIP_DIRS) and (os.path.islink(n) or not os.path.isdir(n))}
                    | {"/etc/ld.so.cache", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"})
    for d in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink("/" + d):
            os.makedirs(os.path.join(root, os.readlink("/" + d)), exist_ok=True)
            os.symlink(os.readlink("/" + d), os.path.join(root, d))
    for name in wanted:
        target = root + name
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.lexists(target):
            shutil.copy2(name, target, follow_symlinks=False)
    for d in ("proc", "sys", "dev", "tmp", "run", "var", "build", "root", "etc"):
        os.makedirs(os.path.join(root, d), exist_ok=True)
    # links that no package owns (alternatives)
    for link in ("/usr/bin/awk",):
        if not os.path.lexists(root + link):
            os.symlink("mawk", root + link)


def make_ext4(directory, path):
    used = int(run("du", "-sk", directory).split()[0])
    run("/sbin/mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", directory, path,
        "%dk" % (used * 5 // 4 + 16384))


def root_image():
    packages = closure()
    name = "root-%s.ext4" % digest(repr(sorted(packages.items())) + repr(SKIP_DIRS))

    def make(path):
        root = path + ".d"
        os.makedirs(root)
        fill_root(packages, root)
        make_ext4(root, path)
    return keep(name, make)
