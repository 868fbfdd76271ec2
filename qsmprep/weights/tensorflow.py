"""The tensors of a TensorFlow 1 checkpoint, read without TensorFlow.

Such a checkpoint is PREFIX.index, a table of names in the format of LevelDB, and PREFIX.data-00000-of-00001, the
numbers one after another. The table ends with a footer of 48 bytes that tells where its index block is; that block
tells where the others are. A block is entries of a key (the bytes it shares with the key before it left out) and a
value, and is followed by a byte that names its compression and by a checksum. Values are protocol buffers: of the empty
key a header, of all others type, shape and place of a tensor. Nothing in either file is run.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qsmprep.numerics.arrays import Labels
from qsmprep.numerics.jit import jit
from qsmprep.weights.snappy import decompress, varint

FOOTER, MAGIC = 48, 0xDB4775248B80FB57
TRAILER = 5  # bytes after a block: compression and checksum
PLAIN, SNAPPY = 0, 1
FLOAT = 1  # TensorFlow's number of the type float32
LARGEST_INDEX = 1 << 26  # bytes
LARGEST = 50_000_000  # numbers of one tensor
MASK_DELTA = 0xA282EAD8  # by which LevelDB changes a checksum that is stored
ENDING = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
REMEDY = "Give the .index file of a checkpoint of TensorFlow 1, its .data-00000-of-00001 beside it."


@dataclass(frozen=True)
class _Entry:
    """Where a tensor is, and what."""

    kind: int = 0
    shape: tuple[int, ...] = ()
    offset: int = 0
    size: int = 0
    checksum: int = 0


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The single-precision tensors of a checkpoint by name, in alphabetical order; others are left out.

    Parameters
    ----------
    path : of the .index file, or of another of the checkpoint's files.

    Raises
    ------
    ValueError : a file is missing, damaged (its checksums tell), or in another format.
    """
    prefix = ENDING.sub("", str(path))
    index, data = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise ValueError("it is too large")
        entries = dict(_entries(index.read_bytes()))
        numbers = np.memmap(data, np.uint8, "r") if data.stat().st_size else np.zeros(0, np.uint8)
    except OSError as error:
        raise ValueError(f"{error.filename or index} cannot be read ({error.strerror}). {REMEDY}") from None
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{index} is not the index of a checkpoint ({error}). {REMEDY}") from None
    return {name: _tensor(entry, numbers, name, data) for name, entry in entries.items() if entry.kind == FLOAT}


def _tensor(entry: _Entry, numbers: np.ndarray, name: str, data: Path) -> np.ndarray:
    count = int(np.prod(entry.shape, dtype=object)) if entry.shape else 1
    whole = numbers[entry.offset : entry.offset + entry.size] if min(entry.offset, entry.size) >= 0 else numbers[:0]
    if count > LARGEST or entry.size != 4 * count or len(whole) != entry.size:
        raise ValueError(f"{data}: {name} is not all there. {REMEDY}")
    if checksum(np.ascontiguousarray(whole)) != entry.checksum:
        raise ValueError(f"{data} is damaged: the checksum of {name} is wrong. Fetch it again.")
    return np.frombuffer(whole.tobytes(), "<f4").reshape(entry.shape)


def _entries(table: bytes) -> Iterator[tuple[str, _Entry]]:
    footer = table[-FOOTER:]
    if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("its last bytes are not those of a table")
    (_, _), after = _handle(footer, 0)
    (start, size), _ = _handle(footer, after)
    for _, handle in _block(table, start, size):
        (first, length), _ = _handle(handle, 0)
        for key, value in _block(table, first, length):
            if key:
                yield key.decode("utf-8"), _entry(value)
            else:
                _check_header(value)


def _handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    start, at = varint(content, at)
    size, at = varint(content, at)
    return (start, size), at


def _block(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block."""
    content, trailer = table[start : start + size], table[start + size : start + size + TRAILER]
    if len(trailer) != TRAILER:
        raise ValueError("a block lies beyond its end")
    kind, stored = struct.unpack("<BI", trailer)
    if checksum(np.frombuffer(content + trailer[:1], np.uint8)) != stored:
        raise ValueError("a checksum is wrong: it is damaged")
    if kind not in (PLAIN, SNAPPY):
        raise ValueError(f"a block is compressed in a way ({kind}) that is not known")
    content = decompress(content, LARGEST_INDEX) if kind == SNAPPY else content
    (restarts,) = struct.unpack("<I", content[-4:])
    end, at, key = len(content) - 4 * (restarts + 1), 0, b""
    if end < 0:
        raise ValueError("a block is too short")
    while at < end:
        shared, at = varint(content, at)
        fresh, at = varint(content, at)
        length, at = varint(content, at)
        if shared > len(key) or at + fresh + length > end:
            raise ValueError("an entry lies beyond its block")
        key = key[:shared] + content[at : at + fresh]
        yield key, content[at + fresh : at + fresh + length]
        at += fresh + length


def _check_header(message: bytes) -> None:
    header = dict(_fields(message))
    if header.get(1) != 1 or header.get(2, 0) != 0:
        raise ValueError("the checkpoint is in several parts or of another byte order")


def _entry(message: bytes) -> _Entry:
    found = dict(_fields(message))
    if 7 in found:
        raise ValueError("a tensor is in several slices")
    sides = [dict(_fields(_bytes(side))) for number, side in _fields(_bytes(found.get(2, b""))) if number == 2]
    kind, shard, offset, size, stored = (_number(found.get(key, 0)) for key in (1, 3, 4, 5, 6))
    if shard:
        raise ValueError("a tensor is in another part of the checkpoint")
    return _Entry(kind, tuple(_number(side.get(1, 0)) for side in sides), offset, size, stored)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind = tag & 7
        if kind == 0:
            number, at = varint(message, at)
            yield tag >> 3, number
            continue
        length, at = varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if length < 0 or at + length > len(message):
            raise ValueError("a value is cut off")
        part = message[at : at + length]
        yield tag >> 3, part if kind == 2 else int.from_bytes(part, "little")
        at += length


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is not one")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a part is not one")
    return value


def checksum(content: np.ndarray) -> int:
    """LevelDB's masked CRC-32C of bytes (n,) uint8."""
    crc = _crc(content, _TABLE) ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def _table() -> Labels:
    values = np.arange(256, dtype=np.int64)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ 0x82F63B78, values >> 1)
    return values


_TABLE = _table()


@jit()
def _crc(content: Labels, table: Labels) -> int:
    crc = 0xFFFFFFFF
    for i in range(len(content)):
        crc = (crc >> 8) ^ int(table[(crc ^ int(content[i])) & 0xFF])
    return crc
