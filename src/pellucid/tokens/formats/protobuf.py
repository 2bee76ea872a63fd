"""Protocol Buffers' wire format, as much of it as a SentencePiece model needs, read without trusting it.

A message is a row of fields: a number that says which field it is and of which wire type, then the value.

    0  a whole number of up to ten bytes, seven bits in each      1  eight bytes      5  four bytes
    2  a length and as many bytes: a text, or a message inside

A field that is given twice has its last value, and one that is not known is passed over, as the format wants it. It is
*not* a library: the types of fields, which stand in a schema and not in the file, are said by whoever reads.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 1 << 23  # of one message: Python needs some 150 bytes for each, the file only two
MOST_VARINT = 10  # bytes of a whole number

Value = int | bytes


def fields(data: bytes) -> Iterator[tuple[int, int, Value]]:
    """(field number, wire type, value) of each field of a message, in order.

    >>> list(fields(bytes([0x08, 0x96, 0x01, 0x12, 0x02, 0x68, 0x69])))
    [(1, 0, 150), (2, 2, b'hi')]

    Raises ValueError for bytes that are no message. The four or eight bytes of the fixed types come as they lie there.
    """
    at = count = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0 or number >= 1 << 29:
            raise ValueError(f"no field has the number {number}, at byte {at:,}")
        value: Value
        if wire == VARINT:
            value, at = _varint(data, at)
        elif wire in (BYTES, FIXED64, FIXED32):
            length, at = _varint(data, at) if wire == BYTES else (8 if wire == FIXED64 else 4, at)
            if length > len(data) - at:
                raise ValueError(f"a field of {length:,} bytes where {len(data) - at:,} are left, at byte {at:,}")
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"a field of the wire type {wire}, at byte {at:,}")
        count += 1
        if count > MOST_FIELDS:
            raise ValueError(f"more than {MOST_FIELDS:,} fields")
        yield number, wire, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number and the place after it."""
    value = 0
    for place in range(MOST_VARINT):
        if at + place >= len(data):
            raise ValueError("it ends within a number")
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & (1 << 64) - 1, at + place + 1
    raise ValueError(f"a number of more than {MOST_VARINT} bytes, at byte {at:,}")
