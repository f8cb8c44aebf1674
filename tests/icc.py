"""Colour profiles for tests, made by hand."""

import struct

import numpy as np


def profile(space, primaries, gamma=1.0):
    """A minimal ICC profile (ICC.1:2001-04): matrix or grey, one gamma, whatever its name says."""
    text = b"sRGB, it says\0"

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 80,
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
    }
    for letter, values in primaries.items():
        tags[letter.encode() + b"TRC"] = curve
        if values:
            tags[letter.encode() + b"XYZ"] = xyz(values)
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02100000, b"mntr", space, b"XYZ ")
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + xyz((0.9642, 1.0, 0.8249))[8:]
    whole = header.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
"""sRGB's primaries as ICC profiles hold them, adapted to D50."""


def rendered(light):
    """IEC 61966-2-1, 8 bits to 8 bits."""
    light = light / 255
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
