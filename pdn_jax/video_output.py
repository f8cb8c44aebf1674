"""Films out, through PyAV: pictures encoded, sound and subtitles copied, tags and times kept."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pdn_jax import files
from pdn_jax.errors import InputError
from pdn_jax.video_input import SAMPLING, Film, pyav, said
from pdn_jax.ycbcr import Coding

FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Extension of a film that can be written -> its format."""

ENCODERS = {
    "libx264": {"crf": "17"},
    "libx265": {"crf": "18", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "22", "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "4"},
}
"""Encoder -> its options, of a quality that shows no difference."""


def check_target(path: str | Path, overwrite: bool = False) -> None:
    """Find out before the work is done whether a film can be written.

    Args:
        path: where.
        overwrite: whether a file may be there already.

    Raises:
        InputError: where it cannot.
    """
    files.check_target(path, overwrite, FORMATS)


def written_coding(film: Film, target: Path) -> tuple[Coding, str, str]:
    """How a film is written: with 8 bits, or 10 for more than 8.

    Colour is sampled as in the source, in full where a side is odd, which H.264 asks for.

    Args:
        film: as it is read.
        target: whose extension says the container.

    Returns:
        The coding, the name of the pixel format and that of the encoder.
    """
    ten = film.coding.bits > 8
    across, down = film.coding.across, film.coding.down
    if film.pixels.startswith("gray"):
        across, down = 2, 2
    if film.height % down or film.width % across:
        across = down = 1
    pixels = f"yuv{SAMPLING[across, down]}p{'10le' if ten else ''}"
    coding = Coding(film.tags[0], film.tags[3] == 2, 10 if ten else 8, across, down)
    if target.suffix.lower() == ".webm":
        return coding, pixels, "libvpx-vp9"
    return coding, pixels, "libx265" if ten else "libx264"


class Writer:
    """A film being written: frames are encoded, packets of the other streams copied.

    left_out: a line for each stream of the source that is not copied.
    """

    def __init__(
        self, output: Any, source: Any, stream: Any, film: Film, target: Path, strip: bool = False
    ):
        self.output, self.target, self.film = output, target, film
        self.coding, self.pixels, encoder = written_coding(film, target)
        self.left_out: list[str] = []
        self.video = output.add_stream(encoder, rate=film.rate, options=dict(ENCODERS[encoder]))
        self.video.width, self.video.height = film.width, film.height
        self.video.pix_fmt = self.pixels
        context = self.video.codec_context
        self.video.time_base = context.time_base = stream.time_base
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
            film.tags
        )
        if film.aspect:
            context.sample_aspect_ratio = film.aspect
        if encoder == "libx265" and FORMATS[target.suffix.lower()] in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # which Apple's players ask for
        if film.matrix:
            self.video.set_display_matrix(film.matrix)
        self.strip = strip
        self.video.metadata.update(self._own(stream.metadata))
        self.copies = {
            other.index: copy
            for other in source.streams
            if other.index != stream.index and (copy := self._copy(other)) is not None
        }
        output.metadata.update(self._own(source.metadata))
        if not strip and (chapters := source.chapters()):
            output.set_chapters(chapters)

    def _copy(self, stream: Any) -> Any:
        """The output's stream for one that is copied, None for one that is left out."""
        if stream.type not in ("audio", "subtitle"):
            self.left_out.append(f"left out: stream {stream.index} ({stream.type})")
            return None
        try:
            copy = self.output.add_stream_from_template(stream)
        except ValueError as error:
            codec = stream.codec_context.name if stream.codec_context else "unknown"
            raise InputError(
                f"cannot copy the {stream.type} ({codec}) into {self.target}: choose .mkv or the "
                "source's own extension"
            ) from error
        copy.metadata.update(self._own(stream.metadata))
        copy.disposition = stream.disposition
        return copy

    def _own(self, metadata: dict[str, str]) -> dict[str, str]:
        return {} if self.strip else _own(metadata)

    def frame(self, planes: tuple[np.ndarray, ...], pts: int, duration: int) -> None:
        """Encode a frame.

        Args:
            planes: as `coding` has them.
            pts: when it is shown, in the source's time base.
            duration: for how long, in the same.
        """
        frame = pyav().VideoFrame(self.film.width, self.film.height, self.pixels)
        for plane, values in zip(frame.planes, planes, strict=True):
            rows = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)
            rows[:, : plane.width] = values
        frame.pts, frame.time_base, frame.duration = pts, self.video.time_base, duration
        frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = self.film.tags
        self.output.mux(self.video.encode(frame))

    def packet(self, packet: Any) -> None:
        """Copy a packet of another stream, if that is copied at all.

        Args:
            packet: as it is read.
        """
        if (copy := self.copies.get(packet.stream.index)) is not None:
            if packet.dts is None:
                packet.dts = packet.pts
            packet.stream = copy
            self.output.mux(packet)

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        self.output.mux(self.video.encode(None))


@contextlib.contextmanager
def written(
    draft: str, source: Any, stream: Any, film: Film, target: Path, strip: bool = False
) -> Iterator[Writer]:
    """Open a film to be written; it is whole when the context ends well.

    Args:
        draft: the file to write.
        source: container of the film that is read.
        stream: its stream of pictures.
        film: what that is.
        target: what the file will be called, whose extension says the container.
        strip: leave all metadata out.

    Yields:
        A `Writer`.

    Returns:
        A context.

    Raises:
        InputError: where writing fails, or a stream cannot be copied.
    """
    av = pyav()
    kind = FORMATS[target.suffix.lower()]
    try:
        # Where a stream begins is written in ticks of the film, by default thousandths.
        ticks = {"movie_timescale": str(stream.time_base.denominator)}
        options = ticks if kind in ("mp4", "mov") else {}
        with av.open(draft, "w", format=kind, container_options=options) as output:
            writer = Writer(output, source, stream, film, target, strip)
            yield writer
            writer.finish()
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"cannot write {target}: {said(error)}") from error


def _own(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata without what speaks of the file that it was in."""
    of_file = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
    return {
        name: text
        for name, text in metadata.items()
        if name.lower() not in of_file and not name.startswith(("_STATISTICS", "NUMBER_OF", "BPS"))
    }
