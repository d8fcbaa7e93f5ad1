# SPDX-License-Identifier: Apache-2.0
"""Frames and protobuf messages, as far as tests need them: to say what no daemon would say."""
import struct

HELLO, HELLO_OK = 1, 2
BEGIN, OBJECTS, LAYOUT, PAGES, ROUND, REHEARSED, FINAL, COMMIT, ABORT, PING = range(16, 26)
STREAMS, SPREAD, TREE = 26, 27, 30
ACCEPT, CHECKED, ROUND_OK, READY, RUNNING, ERROR, PONG = range(48, 55)
ALIVE, NEXT, BYE = 61, 62, 63
ANSWER = {PING: PONG, BEGIN: ACCEPT, REHEARSED: CHECKED, ROUND: ROUND_OK, FINAL: READY, COMMIT: RUNNING}
DATA, ZERO, DROP = 0, 1, 2
PAGE = 4096


def frame(kind, body=b"", flags=0, length=None, arg=0):
    return struct.pack("<IHHQ", len(body) if length is None else length, kind, flags, arg) + body


def frames(data):
    """(kind, argument, body) of each"""
    at = 0
    while at < len(data):
        length, kind, _, arg = struct.unpack_from("<IHHQ", data, at)
        yield kind, arg, data[at + 16:at + 16 + length]
        at += 16 + length


def pages(runs, data=b""):
    """A PAGES body; runs are (address, pages, kind)."""
    return struct.pack("<II", len(runs), 0) + b"".join(
        struct.pack("<QQ", start | kind, n) for start, n, kind in runs) + data


# --- protobuf

def varint(value):
    out = b""
    while value > 0x7f:
        out, value = out + bytes([value & 0x7f | 0x80]), value >> 7
    return out + bytes([value])


def field(number, value):
    """An integer, bytes, or text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value & 2 ** 64 - 1)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(*pairs):
    return b"".join(field(n, v) for n, v in pairs)


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7f) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def fields(data):
    """(number, value): integers, or bytes"""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        elif key & 7 == 2:
            n, at = read_varint(data, at)
            value, at = data[at:at + n], at + n
        else:
            n = {1: 8, 5: 4}[key & 7]
            value, at = data[at:at + n], at + n
        yield key >> 3, value


def get(data, number, default=None):
    return dict(fields(data)).get(number, default)


def changed(data, **values):
    """The message with other values for some fields: _1=..., None removes it."""
    new = {int(k[1:]): v for k, v in values.items()}
    rest = message(*((n, v) for n, v in fields(data) if n not in new))
    return rest + message(*((n, v) for n, v in new.items() if v is not None))
