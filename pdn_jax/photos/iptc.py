"""Photoshop's image resources, among them IPTC records (Adobe's file format specification)."""

import struct
from collections.abc import Iterator

RECORDS, THUMBNAILS = 0x0404, {0x0409, 0x040C}
"""Resources: IPTC-IIM, and small copies of the picture."""


def resources(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, its bytes with their head, content) of every sound resource in order."""
    place = 0
    while data[place : place + 4] == b"8BIM" and place + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, place + 4)
        name = data[place + 6] + 1
        head = place + 6 + name + name % 2
        if head + 4 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, head)
        end = head + 4 + length
        if end > len(data):
            return
        padded = end + length % 2
        yield number, data[place:padded].ljust(padded - place, b"\0"), data[head + 4 : end]
        place = padded


def without_thumbnails(data: bytes) -> bytes:
    """The resources without copies of the dark picture."""
    return b"".join(raw for number, raw, _ in resources(data) if number not in THUMBNAILS)


def records(data: bytes) -> bytes:
    """The IPTC records among resources; b'' where there are none."""
    return next((content for number, _, content in resources(data) if number == RECORDS), b"")


def wrapped(content: bytes) -> bytes:
    """IPTC records as a resource."""
    head = b"8BIM" + struct.pack(">HHI", RECORDS, 0, len(content))
    return head + content + b"\0" * (len(content) % 2)
