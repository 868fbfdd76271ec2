"""Writes checkpoints as TensorFlow 1 does: a table of names and a file of numbers."""

import struct

import numpy as np

from qsmprep.weights.tensorflow import MAGIC, checksum


def masked_crc(content):
    return checksum(np.frombuffer(content, np.uint8))


def number(value):
    """A whole number of variable length."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(place, value):
    """A field of a protocol buffer."""
    if isinstance(value, bytes):
        return number(place << 3 | 2) + number(len(value)) + value
    return number(place << 3) + number(value)


def entry(array, offset, kind=1):
    shape = b"".join(field(2, field(1, n)) for n in array.shape)
    content = array.tobytes()
    crc = number(6 << 3 | 5) + struct.pack("<I", masked_crc(content))
    return field(1, kind) + field(2, shape) + field(4, offset) + field(5, len(content)) + crc


def block(pairs, restart=16):
    """Keys that share their beginnings, but for every 16th."""
    out, restarts, before = bytearray(), [], b""
    for place, (key, value) in enumerate(pairs):
        shared = 0
        if place % restart:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        out += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        before = key
    return bytes(out) + b"".join(struct.pack("<I", at) for at in restarts) + struct.pack("<I", len(restarts))


def squeezed(content):
    """Snappy: runs of one byte as copies, all else as literals."""
    out, at = bytearray(number(len(content))), 0
    while at < len(content):
        run = 1
        while at + run < len(content) and content[at + run] == content[at] and run < 12:
            run += 1
        if run > 5:
            out += bytes([0, content[at], (run - 1 - 4) << 2 | 1, 1])
        else:
            run = min(70, len(content) - at) if not at else 1
            out += bytes([60 << 2, run - 1]) if run > 60 else bytes([(run - 1) << 2])
            out += content[at : at + run]
        at += run
    return bytes(out)


def write_checkpoint(prefix, arrays, *, snappy=False, per_block=40, header=b"\x08\x01"):
    """PREFIX.index and PREFIX.data-00000-of-00001; returns the former's path."""
    pairs, numbers = [(b"", header)], bytearray()
    for name in sorted(arrays):
        array = np.array(arrays[name], order="C")
        pairs.append((name.encode(), entry(array, len(numbers), 1 if array.dtype == np.float32 else 9)))
        numbers += array.tobytes()
    table, handles = bytearray(), []

    def put(content):
        kind = bytes([snappy])
        content = squeezed(content) if snappy else content
        at = len(table)
        table.extend(content + kind + struct.pack("<I", masked_crc(content + kind)))
        return number(at) + number(len(content))

    for at in range(0, len(pairs), per_block):
        part = pairs[at : at + per_block]
        handles.append((part[-1][0] + b"~", put(block(part))))
    footer = put(block([])) + put(block(handles, 1))
    table += footer + bytes(40 - len(footer)) + struct.pack("<Q", MAGIC)
    index = prefix.with_name(prefix.name + ".index")
    index.write_bytes(table)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(numbers)
    return index
