"""Films through a trained network, frame by frame, in constant memory.

A film is decoded, enhanced and encoded as it is read; sound and subtitles are copied. What the
frames have in common is in `temporal`, files are in `video_input` and `video_output`, colours in
`ycbcr`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pdn_jax import image as im
from pdn_jax import temporal, ycbcr
from pdn_jax import weights as weight_files
from pdn_jax.checks import SMALLEST, check_dials
from pdn_jax.compiled import Compiled
from pdn_jax.enhancer import Enhancer
from pdn_jax.errors import InputError
from pdn_jax.files import atomic_write
from pdn_jax.layout import REDUCTION, GlobalPass
from pdn_jax.video_input import (
    Film,
    events,
    examine,
    opened,
    picture_stream,
    planes_of,
    pyav,
    time_of,
)
from pdn_jax.video_output import check_target, written, written_coding
from pdn_jax.weights import Weights
from pdn_jax.ycbcr import Coding

Planes = tuple[np.ndarray, ...]
"""The planes of a frame: luma, then the two of colour where there are any."""

CUT_SHORT = 2.0
"""Seconds that may be missing at a film's end, of what its head says: not all streams end together."""

SHORTEST = 1e-3
"""Seconds between two frames at least, whatever a file says."""

_start = Compiled(temporal.start)
_step = Compiled(temporal.step)
_to_rgb = Compiled(ycbcr.to_rgb, static_argnums=1)
_from_rgb = Compiled(ycbcr.from_rgb, static_argnums=(1, 2))


class FilmSummary(NamedTuple):
    """What was done.

    frames: how many were written. seconds: from the first of them to the last. cuts: changes of
    scene that were seen. exposure: the mean ln k of all frames, in stops of the exposure curve.
    notes: lines about what could not be kept.
    """

    frames: int
    seconds: float
    cuts: int
    exposure: float
    notes: tuple[str, ...]


class Renderer:
    """Enhances the frames of one film in turn.

    cuts: how many changes of scene there were. stops: the sum of the frames' brightenings.
    """

    def __init__(
        self,
        enhancer: Enhancer,
        size: tuple[int, int],
        read: Coding,
        write: Coding,
        *,
        exposure: float = 1.0,
        denoise: float = 1.0,
        steady: bool = True,
    ):
        """Nothing is compiled yet.

        Args:
            enhancer: the network.
            size: height and width of the frames.
            read, write: coding of the frames that come and go.
            exposure, denoise, steady: as `enhance_film` takes them.
        """
        self.enhancer, self.size, self.read, self.write = enhancer, size, read, write
        self.dials = {"exposure": exposure, "denoise": denoise}
        # What is asked to leave the noise in averages no frames.
        self.frames = 1.0 + (temporal.FRAMES - 1.0) * denoise
        self.steady = steady
        self.cuts, self.stops = 0, 0.0
        self._state: temporal.State | None = None

    def __call__(self, planes: Planes, seconds: float) -> Planes:
        """Enhance the next frame.

        Args:
            planes: as `read` has them.
            seconds: since the frame before.

        Returns:
            The planes of the enhanced frame, as `write` has them.
        """
        rgb = _to_rgb(planes, self.read)
        estimate = self.enhancer.global_pass(np.asarray(rgb))
        if self.steady:
            rgb, estimate = self._steadied(rgb, estimate, seconds)
        self.stops += float(estimate.increments.sum(1).mean()) / math.log(2.0)
        restored = self.enhancer.render(np.asarray(rgb), estimate, **self.dials)
        return jax.device_get(_from_rgb(restored, self.write, len(planes) == 1))

    def _steadied(
        self, rgb: jax.Array, estimate: GlobalPass, seconds: float
    ) -> tuple[np.ndarray, GlobalPass]:
        """The frame and its global pass, averaged with those before."""
        low = im.pad_to_multiple(rgb[None], REDUCTION)
        if self._state is None:
            self._state = _start(estimate, low)
            return np.asarray(rgb), estimate
        numbers = jnp.float32(max(seconds, SHORTEST)), jnp.float32(self.frames)
        self._state, estimate, low, cut = _step(self._state, estimate, low, *numbers)
        self.cuts += int(cut)
        average = np.clip(low[0, : self.size[0], : self.size[1]], 0.0, 1.0)  # less its rounding
        return np.asarray(average), jax.device_get(estimate)


def enhance_film(
    source: str | Path,
    target: str | Path,
    weights: Enhancer | Weights | str | Path = weight_files.DEFAULT,
    *,
    exposure: float = 1.0,
    denoise: float = 1.0,
    steady: bool = True,
    overwrite: bool = False,
    strip: bool = False,
    tile: int | None = None,
    progress: Callable[[float, float | None], None] | None = None,
) -> FilmSummary:
    """A dark film -> the enhanced one, whole or not at all; sound and subtitles are copied.

    Args:
        source: what FFmpeg reads, 8 bits or more, SDR, not interlaced.
        target: .mp4, .m4v, .mov, .mkv or .webm; its folder must be there.
        weights: as `inference.enhance` takes them, or an `Enhancer`, whose programs are shared.
        exposure: relative to the network's own result, > 0; 2 is one stop brighter.
        denoise: from 0, the brightened film with its noise, to 1.
        steady: whether exposure and noise are averaged over the frames; else each is on its own.
        overwrite: whether a file that is there already may be replaced.
        strip: leave title, place, chapters and all other metadata out.
        tile: as `inference.enhance` takes it: a larger frame is processed in tiles.
        progress: is called after every frame with the seconds done and those of the film, or None.

    Returns:
        What was done.

    Raises:
        InputError: for a source, target, weights or dials that cannot be used, in one line.
    """
    source, target = Path(source), Path(target)
    exposure, denoise = check_dials(exposure, denoise)
    pyav()
    check_target(target, overwrite)
    film = examine(source)
    if min(film.height, film.width) < SMALLEST:
        raise InputError(
            f"{source} is {film.width}×{film.height} pixels: {SMALLEST} a side are the least"
        )
    enhancer = weights if isinstance(weights, Enhancer) else Enhancer(weights, tile=tile)
    renderer = Renderer(
        enhancer,
        (film.height, film.width),
        film.coding,
        written_coding(film, target)[0],
        exposure=exposure,
        denoise=denoise,
        steady=steady,
    )
    try:
        with atomic_write(target) as draft:
            return _converted(source, target, film, renderer, draft.name, progress, strip)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error


def _converted(
    source: Path,
    target: Path,
    film: Film,
    renderer: Renderer,
    draft: str,
    progress: Callable[[float, float | None], None] | None,
    strip: bool = False,
) -> FilmSummary:
    """Read, enhance and write every frame, into the file `draft`."""
    faults: list[str] = []
    count, untimed, first, last, end = 0, 0, None, None, 0.0
    with opened(source) as container:
        stream = picture_stream(container, source)
        with written(draft, container, stream, film, target, strip) as writer:
            for packet, frame in events(container, stream, source, faults):
                end = max(end, time_of(packet if frame is None else frame))
                if frame is None:
                    writer.packet(packet)
                    continue
                if frame.pts is None or (last is not None and frame.pts <= last):
                    untimed += 1
                    continue
                _check_like(frame, film, source)
                since = 0.0 if last is None else float((frame.pts - last) * stream.time_base)
                writer.frame(renderer(planes_of(frame, film), since), frame.pts, frame.duration)
                first, last, count = frame.pts if first is None else first, frame.pts, count + 1
                if progress:
                    progress(float((last - first) * stream.time_base), film.seconds)
            if not count:
                raise InputError(f"{source} says of no frame when it is shown: remux it first")
    notes = list(writer.left_out)
    if film.seconds and film.seconds - end > CUT_SHORT:
        notes.append(f"it ends at {end:.1f} of {film.seconds:.1f} s: cut short, copy it again")
    if faults:
        notes.append(f"{len(faults)} packets could not be decoded: {faults[0]}")
    if untimed:
        notes.append(f"left out: {untimed} frames without a time of their own")
    if film.coding.bits > 10:
        notes.append(f"{film.coding.bits} bits became 10")
    seconds = float((last - first) * stream.time_base)
    return FilmSummary(count, seconds, renderer.cuts, renderer.stops / count, tuple(notes))


def _check_like(frame: Any, film: Film, source: Path) -> None:
    """Raises InputError where a frame is not of the film's size and pixel format."""
    if (frame.height, frame.width, frame.format.name) != (film.height, film.width, film.stored):
        raise InputError(
            f"{source} changes from {film.width}×{film.height} {film.stored} to "
            f"{frame.width}×{frame.height} {frame.format.name} at {frame.time:.2f} s: split it there"
        )
