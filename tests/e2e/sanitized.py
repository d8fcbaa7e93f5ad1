# SPDX-License-Identifier: Apache-2.0
"""A lab whose daemons are sanitized (MIGRATED_BUILD=build-asan or build-tsan): what the sanitizers of all
roles have said is found in the daemons' logs when the test is over, and fails it.

Roles write to the daemon's stderr, whatever user they are and whatever files they cannot open. One
that was ended by SIGKILL says nothing; all others look for leaks as they end.
"""
import json
import os
import re
import time

OPTIONS = {
    # a report ends the role, so what comes of it is seen by the test as well
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:exitcode=66",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
REPORT = re.compile(r"^(?!SUMMARY).*(?:Sanitizer: |Sanitizer:DEADLYSIGNAL|LeakSanitizer has encountered|"
                    r"runtime error: |Sanitizer CHECK failed|FATAL: .*Sanitizer).*$", re.M)
REPORT_LINES = 40
END_SECONDS = 60


def of_build(build):
    """The sanitizers of a build directory; "" for none."""
    try:
        with open(os.path.join(build, "meson-info/intro-buildoptions.json")) as f:
            found = [o["value"] for o in json.load(f) if o["name"] == "b_sanitize"]
    except OSError:
        return ""
    value = found[0] if found else "none"
    value = value if isinstance(value, str) else ",".join(value)
    return "" if value == "none" else value


def reports(text):
    """The beginning of each report in it."""
    found, end = [], 0
    for m in REPORT.finditer(text):
        if m.start() < end:
            continue
        lines = text[m.start():].split("\n", REPORT_LINES)[:REPORT_LINES]
        found.append("\n".join(lines))
        end = m.start() + len(found[-1])
    return found


def ours(build, init):
    """(number, name) of the roles on the host of that process 1."""
    program, space, found = os.path.join(build, "daemon/roles/migrated"), None, []
    try:
        space = os.readlink("/proc/%d/ns/pid" % init)
    except OSError:
        return []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if (os.readlink("/proc/%s/exe" % pid).removesuffix(" (deleted)") == program
                    and os.readlink("/proc/%s/ns/pid" % pid) == space):
                with open("/proc/%s/comm" % pid) as f:
                    found.append((int(pid), f.read().strip()))
        except OSError:
            pass  # it has ended, or is a kernel thread
    return found


def all_ended(build, inits):
    """Waits until no role is left; what is left after that."""
    end = time.monotonic() + END_SECONDS
    while True:
        left = [r for init in inits for r in ours(build, init)]
        if not left or time.monotonic() > end:
            return ["%d (%s)" % r for r in left]
        time.sleep(0.05)
