# SPDX-License-Identifier: Apache-2.0
"""The test's end of the fault points (daemon/base/fault.h): a file that all roles of a daemon map."""
import ctypes
import mmap
import os

MAGIC, SLOTS, SEEN, FILES = 0x544c5546, 16, 192, 64
PAUSE, DIE, FAIL = 1, 2, 3
u32 = ctypes.c_uint32


class Slot(ctypes.Structure):
    _fields_ = [("action", u32), ("error", u32), ("skip", u32), ("times", u32), ("hits", u32),
                ("reached", u32), ("go", u32), ("unused", u32), ("name", ctypes.c_char * 48),
                ("role", ctypes.c_char * 16), ("path", ctypes.c_char * 128)]


class Seen(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * 48), ("role", ctypes.c_char * 16), ("count", u32),
                ("used", u32)]


class File(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * 128), ("inode", ctypes.c_uint64), ("used", u32), ("synced", u32), ("named", u32),
                ("size", u32), ("bytes", ctypes.c_uint8 * 16384)]


class Map(ctypes.Structure):
    _fields_ = [("magic", u32), ("slot_bytes", u32), ("seen_bytes", u32), ("file_bytes", u32),
                ("lock", u32), ("broken", u32), ("directory_synced", u32), ("unused", u32),
                ("slots", Slot * SLOTS), ("seen", Seen * SEEN), ("files", File * FILES)]


class Faults:
    """Of one daemon. Arming returns the slot, whose fields tell what came of it."""

    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as f:
            os.chmod(path, 0o600)
            f.truncate(ctypes.sizeof(Map))
            self.memory = mmap.mmap(f.fileno(), ctypes.sizeof(Map))
        self.map = Map.from_buffer(self.memory)
        self.map.slot_bytes = ctypes.sizeof(Slot)
        self.map.seen_bytes = ctypes.sizeof(Seen)
        self.map.file_bytes = ctypes.sizeof(File)
        self.map.magic = MAGIC

    def arm(self, action, name, error=0, skip=0, times=1, role="", path=""):
        for s in self.map.slots:
            if not s.action:
                break
        else:
            raise RuntimeError("all fault slots are armed")
        s.hits = s.reached = s.go = 0
        s.error, s.skip, s.times = error, skip, times
        s.name, s.role, s.path = name.encode(), role.encode(), path.encode()
        s.action = action
        return s

    def pause(self, name, **more):
        return self.arm(PAUSE, name, **more)

    def clear(self):
        """Whoever waits goes on, and nothing is armed."""
        for s in self.map.slots:
            s.go = 1
            s.action = 0

    def unlock(self):
        """Its holder may have been killed."""
        self.map.lock = 0

    def seen(self):
        """{(name, role): how often}"""
        return {(s.name.decode(), s.role.decode()): s.count for s in self.map.seen if s.used}

    # --- what a power cut leaves of the journal

    def durable(self):
        """{name: contents}; a file whose directory was not synced since has no name."""
        return {f.name.decode(): bytes(f.bytes[:f.size]) if f.synced else b""
                for f in self.map.files if f.used and f.named}

    def forget_files(self):
        for f in self.map.files:
            f.used = f.synced = f.named = f.size = f.inode = 0
