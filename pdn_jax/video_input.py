"""Films in, through PyAV: streams, times, and what a file says of its colours.

A film that cannot be read rightly is refused by name, as an `InputError`. PyAV is imported when it
is first needed: it comes with the extra `[video]`.
"""

import contextlib
import importlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from pdn_jax.errors import InputError
from pdn_jax.film_names import EXTENSIONS as EXTENSIONS
from pdn_jax.film_names import is_film as is_film
from pdn_jax.ycbcr import LUMA, RGB, Coding

SAMPLING = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}
"""Pixels across and down that share a sample of colour -> what that is called."""

CURVES = (1, 2, 4, 5, 6, 7, 11, 12, 13, 14, 15)
"""Codes (ITU-T H.273) of the tone curves that resemble sRGB's, and of none said."""

HDR = {16: "PQ", 18: "HLG"}
"""Codes of the tone curves that do not resemble it."""

HD_LINES = 720
"""A film of this many lines, or 1280 columns, that says nothing of its colours is BT.709."""


class Film(NamedTuple):
    """What the first frame and the streams say.

    height, width: of the frames as stored. pixels: the planar format that they are read in, coding:
    what its numbers mean. tags: matrix, primaries, curve and range, with what is not said filled in.
    rate: frames a second on average; seconds: None where the file does not say. matrix: the nine
    numbers by which players turn the picture, or None.
    """

    height: int
    width: int
    stored: str
    pixels: str
    coding: Coding
    tags: tuple[int, int, int, int]
    rate: Fraction
    seconds: float | None
    aspect: Fraction | None
    matrix: tuple[int, ...] | None


def pyav() -> ModuleType:
    """Import PyAV.

    Returns:
        The module `av`.

    Raises:
        InputError: where it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise InputError('films need PyAV: pip install "pdn_jax[video]"') from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a film.

    Args:
        path: of the film.

    Yields:
        Its container, to be read.

    Returns:
        A context.

    Raises:
        InputError: where it cannot be opened.
    """
    av = pyav()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}: give a film")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"cannot read {path}: {said(error)}; is it a whole film?") from error
    with container:
        yield container


def picture_stream(container: Any, path: Path) -> Any:
    """The stream of moving pictures, cover pictures aside.

    Args:
        container: an open film.
        path: its name.

    Returns:
        The first such stream.

    Raises:
        InputError: where there is none, or it cannot be decoded.
    """
    av = pyav()
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams or streams[0].codec_context is None:
        raise InputError(f"{path} holds no film that can be decoded: give one with moving pictures")
    streams[0].thread_type = "AUTO"
    return streams[0]


def examine(path: Path) -> Film:
    """Decode the first frame and say what the film is.

    Args:
        path: of the film.

    Returns:
        `Film`.

    Raises:
        InputError: for what cannot be read, and for what would come out wrong: HDR, transparency,
            interlaced frames, matrices and pixel formats that are not known here.
    """
    with opened(path) as container:
        stream = picture_stream(container, path)
        for _, frame in events(container, stream, path, []):
            if frame is not None:
                break
        else:
            raise InputError(f"{path} holds no frame that can be decoded: is it a whole film?")
        seconds = (container.duration or 0) + (container.start_time or 0)
        coding, pixels, tags = _colours(frame, stream, path)
        return Film(
            frame.height,
            frame.width,
            frame.format.name,
            pixels,
            coding,
            tags,
            stream.average_rate or stream.guessed_rate or Fraction(25),
            seconds / 1e6 if container.duration else None,
            stream.sample_aspect_ratio,
            _display_matrix(frame),
        )


def events(container: Any, stream: Any, path: Path, faults: list[str]) -> Iterator[tuple[Any, Any]]:
    """Everything in a film, in the order of the file.

    Args:
        container: the open film.
        stream: which is decoded.
        path: its name.
        faults: is given a line for every packet that cannot be decoded; those are passed by.

    Returns:
        (None, frame) of `stream` and (packet, None) of every other stream.

    Raises:
        InputError: where the file cannot be read to its end.
    """
    av = pyav()
    packets = container.demux()
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"cannot read {path} to its end: {said(error)}") from error
        if packet is None:
            return
        if packet.stream.index != stream.index:
            if packet.size:  # the last one of a stream is empty
                yield packet, None
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            faults.append(said(error))
            continue
        for frame in frames:
            yield None, frame


def time_of(part: Any) -> float:
    """When a packet or frame is over.

    Args:
        part: as PyAV gives it.

    Returns:
        Seconds from the film's zero; 0 where it does not say.
    """
    if part.pts is None or not part.time_base:
        return 0.0
    return float((part.pts + (part.duration or 0)) * part.time_base)


def _colours(frame: Any, stream: Any, path: Path) -> tuple[Coding, str, tuple[int, int, int, int]]:
    """(what the numbers mean, the planar format to read them in, the tags)."""
    pixels = frame.format
    curve = _tag(frame.color_trc, stream.color_trc)
    kinds = [side.type.name for side in frame.side_data]
    if curve in HDR or any(name.startswith("DOVI") for name in kinds):
        name = HDR.get(curve, "Dolby Vision")
        raise InputError(f"{path} is HDR ({name}): convert it to SDR (BT.709) first")
    if curve not in CURVES:
        raise InputError(f"{path} has tone curve {curve} of H.273: convert it to BT.709 first")
    if frame.interlaced_frame:
        raise InputError(f"{path} is interlaced: deinterlace it first")
    if len(pixels.components) not in (1, 3):
        raise InputError(f"{path} has transparency ({pixels.name}): convert it to yuv420p first")
    full = pixels.name.startswith("yuvj") or _tag(frame.color_range, stream.color_range, 0) == 2
    matrix = RGB if pixels.is_rgb else _tag(frame.colorspace, stream.colorspace)
    usual = _usual(frame.height, frame.width)
    if matrix == 2 or (matrix == RGB and not pixels.is_rgb):
        matrix = usual[0]
    if matrix not in LUMA and matrix != RGB:
        raise InputError(f"{path} has colour matrix {matrix} of H.273: convert it to BT.709 first")
    bits = max(component.bits for component in pixels.components)
    share = (pixels.chroma_width(8), pixels.chroma_height(8))
    across, down = (1, 1) if len(pixels.components) == 1 else (8 // side for side in share)
    name = _planar(pixels, (across, down), bits, path)
    primaries = _tag(frame.color_primaries, stream.color_primaries)
    written = (
        usual[0] if matrix == RGB else matrix,
        usual[1] if primaries == 2 else primaries,
        usual[2] if curve == 2 else curve,
        2 if full else 1,
    )
    return Coding(matrix, full, bits, across, down), name, written


def _tag(of_frame: int, of_stream: int, none: int = 2) -> int:
    """What the frame says, or else the stream."""
    return int(of_stream if int(of_frame) == none else of_frame)


def _usual(height: int, width: int) -> tuple[int, int, int]:
    """Matrix, primaries and curve of a film that does not name them: BT.709, or BT.601 if small."""
    if height >= HD_LINES or width >= 1280:
        return 1, 1, 1
    return (5, 5, 6) if height == 576 else (6, 6, 6)


def _planar(pixels: Any, sampling: tuple[int, int], bits: int, path: Path) -> str:
    """The planar format of the same samples; raises InputError where there is none."""
    tail = f"{bits}le" if bits > 8 else ""
    if pixels.is_rgb:
        name = f"gbrp{tail}"
    elif len(pixels.components) == 1:
        name = f"gray{tail}"
    else:
        name = f"yuv{SAMPLING.get(sampling, '')}p{tail}"
    try:
        return pyav().VideoFormat(name).name
    except ValueError as error:
        text = f"{path} has pixels of format {pixels.name}: convert it to yuv420p first"
        raise InputError(text) from error


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX":
            return struct.unpack("<9i", bytes(side))
    return None


def planes_of(frame: Any, film: Film) -> tuple[np.ndarray, ...]:
    """The samples of a frame.

    Args:
        frame: as PyAV decodes it.
        film: that it is of.

    Returns:
        An array for each plane, uint8 or uint16, as `Film.coding` has them.
    """
    if frame.format.name.replace("yuvj", "yuv") != film.pixels:
        frame = frame.reformat(format=film.pixels)  # repacks, and changes no sample
    kind = np.uint8 if film.coding.bits <= 8 else np.uint16
    return tuple(
        np.frombuffer(p, kind).reshape(p.height, -1)[:, : p.width].copy() for p in frame.planes
    )


def said(error: Exception) -> str:
    """The reason that an error gives, without numbers and names.

    Args:
        error: of PyAV or of the system.

    Returns:
        Its text.
    """
    return getattr(error, "strerror", None) or str(error)
