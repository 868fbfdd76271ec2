"""Google's Snappy compression of blocks, and the variable-length whole numbers it shares with other formats."""

from __future__ import annotations


def varint(content: bytes, at: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, lowest first, and where it ends; ValueError where it does not end."""
    number = 0
    for place in range(10):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at
    raise ValueError("a number does not end")


def decompress(content: bytes, largest: int) -> bytes:
    """A block as it was before its compression.

    Parameters
    ----------
    content : length, then literals and copies of what came before.
    largest : bytes that it may grow to.

    Raises
    ------
    ValueError : it is damaged or grows too large.

    Examples
    --------
    >>> decompress(bytes([9, 8]) + b"abc" + bytes([(6 - 4) << 2 | 1, 3]), 100)
    b'abcabcabc'
    """
    length, at = varint(content, 0)
    if length > largest:
        raise ValueError("a block is too large")
    found = bytearray()
    while at < len(content):
        tag = content[at]
        at += 1
        if tag & 3 == 0:
            size, at = _literal(content, tag >> 2, at)
            found += content[at : at + size]
            at += size
        else:
            size, back, at = _copy(content, tag, at)
            if not 0 < back <= len(found) or len(found) + size > length:
                raise ValueError("a compressed block is damaged")
            for _ in range(size):  # byte by byte: a copy may reach into itself
                found.append(found[-back])
    if len(found) != length:
        raise ValueError("a compressed block is damaged")
    return bytes(found)


def _literal(content: bytes, told: int, at: int) -> tuple[int, int]:
    """Bytes of a literal and where they begin."""
    more = max(0, told - 59)  # bytes that tell the length
    size = 1 + (int.from_bytes(content[at : at + more], "little") if more else told)
    if at + more + size > len(content):
        raise ValueError("a compressed block is cut off")
    return size, at + more


def _copy(content: bytes, tag: int, at: int) -> tuple[int, int, int]:
    """Bytes of a copy, how far back they are, and where what follows begins."""
    more = {1: 1, 2: 2, 3: 4}[tag & 3]
    if at + more > len(content):
        raise ValueError("a compressed block is cut off")
    back = int.from_bytes(content[at : at + more], "little")
    if tag & 3 == 1:
        return 4 + (tag >> 2 & 7), back | (tag >> 5) << 8, at + more
    return 1 + (tag >> 2), back, at + more
