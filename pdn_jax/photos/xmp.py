"""XMP packets, changed only where the result would make them untrue (ISO 16684-1)."""

import re
from xml.etree import ElementTree

TIFF, EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
NOTE, THUMBNAILS = "http://ns.adobe.com/xmp/note/", "http://ns.adobe.com/xap/1.0/"
GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
"""The namespace of Adobe's gain maps."""

PROMISES = {
    GAIN_MAP: "gain map",
    "http://ns.apple.com/HDRGainMap/1.0/": "gain map",
    "http://ns.google.com/photos/1.0/container/": "container",
    "http://ns.google.com/photos/1.0/container/item/": "container",
    "http://ns.google.com/photos/1.0/camera/": "motion video",
    "http://ns.google.com/photos/1.0/image/": "embedded picture",
    "http://ns.google.com/photos/1.0/depthmap/": "depth map",
    "http://ns.google.com/photos/1.0/audio/": "embedded sound",
}
"""Namespace that speaks of what lies behind the picture -> what that is."""


def orientation(packet: bytes) -> int:
    """tiff:Orientation, 1 to 8; 1 where there is none."""
    match = re.search(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])""", packet)
    return int(match.group(1)) if match else 1


def promises(packet: bytes) -> list[str]:
    """What a packet says lies behind the picture, each once."""
    named = [what for space, what in PROMISES.items() if space.encode() in packet]
    return list(dict.fromkeys(what for what in named if what != "container"))


def renewed(packet: bytes, size: tuple[int, int]) -> bytes:
    """A packet for the result: upright, of its size, without thumbnails and promises of what is gone.

    Args:
        packet: as it was in the file, in UTF-8.
        size: (height, width) of the result.

    Raises:
        ValueError: where it is not well-formed, or would not be afterwards.
    """
    try:
        text = packet.rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise ValueError("it is not in UTF-8") from error
    _check(text)
    prefixes = {
        uri: prefix for prefix, uri in re.findall(r"""xmlns:([\w.-]+)\s*=\s*["'](.*?)["']""", text)
    }
    height, width = size
    for uri, name, value in (
        (TIFF, "Orientation", 1),
        (TIFF, "ImageWidth", width),
        (TIFF, "ImageLength", height),
        (EXIF, "PixelXDimension", width),
        (EXIF, "PixelYDimension", height),
    ):
        if uri in prefixes:
            text = _set(text, f"{prefixes[uri]}:{name}", value)
    for uri in PROMISES:
        if uri in prefixes:
            text = _without(text, re.escape(prefixes[uri]) + r":[\w.-]+")
            text = re.sub(rf"""\s+xmlns:{re.escape(prefixes[uri])}\s*=\s*["'].*?["']""", "", text)
    if THUMBNAILS in prefixes:
        text = _without(text, f"{re.escape(prefixes[THUMBNAILS])}:Thumbnails")
    if NOTE in prefixes:
        text = _without(text, f"{re.escape(prefixes[NOTE])}:HasExtendedXMP")
    _check(text)
    return text.encode()


def _check(text: str) -> None:
    try:
        ElementTree.fromstring(text[text.index("<") :].strip())
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError("it is not well-formed") from error


def _set(text: str, name: str, value: int) -> str:
    text = re.sub(rf"""(\b{name}\s*=\s*)(["'])\s*\d+\s*\2""", rf"\g<1>\g<2>{value}\g<2>", text)
    return re.sub(rf"(<{name}\s*>)\s*\d+\s*(</{name}\s*>)", rf"\g<1>{value}\g<2>", text)


def _without(text: str, pattern: str) -> str:
    """The packet without the attributes and the elements whose name matches."""
    text = re.sub(rf"""\s+{pattern}\s*=\s*("[^"]*"|'[^']*')""", "", text)
    text = re.sub(rf"""<({pattern})\b[^<>]*/>""", "", text)
    # The innermost of one name first, so that what is nested goes too.
    element = re.compile(rf"<({pattern})\b[^<>]*(?<!/)>(?:(?!<\1\b).)*?</\1\s*>", re.DOTALL)
    while element.search(text):
        text = element.sub("", text)
    return text
