# SPDX-License-Identifier: Apache-2.0
"""Debian's own node: the installed one, or where another vendor's package took its place, Debian's
version with the libraries that are missing, unpacked into the build directory."""
import glob
import os
import re
import subprocess
import tempfile

from lab import BUILD, skip

CACHE = os.path.join(BUILD, "debian-node")
MAJOR = "18."
# what provides a library that the unpacked node does not find
PACKAGE = {"libnode.so": "libnode108", "libuv.so": "libuv1", "libcares.so": "libc-ares2",
           "libnghttp2.so": "libnghttp2-14", "libicui18n.so": "libicu72", "libicuuc.so": "libicu72",
           "libicudata.so": "libicu72", "libbrotlidec.so": "libbrotli1",
           "libbrotlienc.so": "libbrotli1", "libbrotlicommon.so": "libbrotli1"}


def output(*argv, **kw):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          **kw).stdout


def debian_version():
    for line in output("apt-cache", "madison", "nodejs").splitlines():
        version = line.split("|")[1].strip()
        if version.startswith(MAJOR) and "nodesource" not in version:
            return version
    return None


def scripts():
    """Debian's libnode reads parts of itself from /usr/share/nodejs; these packages hold them."""
    return ["node-acorn", "node-busboy", "node-cjs-module-lexer", "node-undici", "node-xtend"]


def unpack(packages):
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        done = subprocess.run(["apt-get", "-q", "download", *packages], cwd=d, capture_output=True,
                              stdin=subprocess.DEVNULL, text=True)
        if done.returncode:
            skip("Debian's node cannot be fetched: " + done.stderr.strip()[-200:])
        for deb in glob.glob(d + "/*.deb"):
            subprocess.run(["dpkg", "-x", deb, CACHE], check=True)


def show(lab):
    """What was unpacked below /usr/share appears there, in the lab's hosts only."""
    share = os.path.join(CACHE, "usr/share")
    for host in ("a", "b") if os.path.isdir(share) else ():
        lab.exec(host, "mount", "-t", "overlay", "overlay", "-o",
                 "lowerdir=%s:/usr/share" % share, "/usr/share")


def find():
    """(path of node, environment for it)."""
    installed = output("dpkg-query", "-W", "-f", "${Version}", "nodejs")
    if installed.startswith(MAJOR) and "nodesource" not in installed:
        return "/usr/bin/node", {}
    node = os.path.join(CACHE, "usr/bin/node")
    libs = os.path.join(CACHE, "usr/lib/x86_64-linux-gnu")
    env = {"LD_LIBRARY_PATH": libs}
    if not os.path.exists(node):
        version = debian_version()
        if not version:
            skip("apt knows no nodejs %s of Debian's" % MAJOR)
        unpack(["nodejs=" + version, "libnode108=" + version] + scripts())
    for _ in range(5):
        lost = re.findall(r"(\S+) => not found", output("ldd", node, env=dict(os.environ, **env)))
        if not lost:
            return node, env
        wanted = {PACKAGE.get(re.sub(r"\.so.*", ".so", l)) for l in lost}
        if None in wanted:
            skip("no package is known for " + ", ".join(lost))
        unpack(sorted(wanted))
    skip("node's libraries cannot be completed")
