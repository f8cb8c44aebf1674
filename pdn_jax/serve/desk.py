"""Photographs that were handed in: kept in one folder, looked at and enhanced one at a time.

Nothing here knows of requests; `app` runs these in a thread, one after the other.
"""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pdn_jax import __version__, photo, weights
from pdn_jax.enhancer import Enhancer
from pdn_jax.errors import InputError
from pdn_jax.photos.formats import most_pixels
from pdn_jax.serve.preview import packed, shrunk

MEGABYTES, MEGAPIXELS = 256, 100
"""What a file, and a photograph, may have at most, unless other limits are asked for."""


class Held(NamedTuple):
    """A photograph on the desk: its key, what its file was called, and where it and its result lie."""

    key: str
    name: str
    job: photo.Job


class Limits(NamedTuple):
    """Bytes of a file and pixels of a photograph, at most."""

    bytes: int = MEGABYTES * 10**6
    pixels: int = MEGAPIXELS * 10**6


class Desk:
    """The photographs of one process and the networks that they are enhanced with.

    Attributes:
        folder: where everything lies.
        limits: of what is taken.
        chosen: the name of the weights that are used unless others are named.
        specs: name -> what `Enhancer` takes, of all weights there are.
        held: key -> photograph.
    """

    def __init__(self, folder: Path, chosen: str, limits: Limits):
        """Load the weights that were chosen.

        Args:
            folder: to keep photographs in.
            chosen: a name, a file or a run folder.
            limits: of what is taken.

        Raises:
            InputError: for weights that cannot be used.
        """
        self.folder, self.limits, self.chosen = folder, limits, chosen
        self.specs = {name: name for name in weights.SHIPPED}
        if chosen not in self.specs:
            self.chosen = Path(chosen).name or "yours"
            self.specs = {self.chosen: chosen, **self.specs}
        self.held: dict[str, Held] = {}
        self._enhancers = {self.chosen: Enhancer(chosen)}

    def enhancer(self, name: str) -> Enhancer:
        """The network of a name, loaded when first asked for.

        Args:
            name: of `specs`.

        Returns:
            It.

        Raises:
            InputError: for another name.
        """
        if name not in self.specs:
            raise InputError(f"there are no weights {name}: choose one of {', '.join(self.specs)}")
        if name not in self._enhancers:
            self._enhancers[name] = Enhancer(self.specs[name])
        return self._enhancers[name]

    # --- coming and going --------------------------------------------------------------------

    def place(self, name: str) -> tuple[str, Path]:
        """Where a photograph that comes is to be written.

        Args:
            name: of the person's file; no more than its ending is used for a path.

        Returns:
            Its key and the path.
        """
        key, ending = secrets.token_hex(8), Path(name).suffix.lower()
        return key, self.folder / f"{key}{ending if ending in photo.EXTENSIONS else ''}"

    def take(self, key: str, name: str, path: Path) -> dict[str, Any]:
        """A photograph that was written to its place.

        Args:
            key: of `place`.
            name: of the person's file.
            path: of `place`.

        Returns:
            What is known of it: id, name, result (the name that its result has), bytes.

        Raises:
            InputError: for one that has too many pixels; it is removed.
        """
        name = "".join(c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable())
        (job, *_), _ = photo.plan([path], self.folder / f"{key}-results")
        held = Held(key, name or "photograph", job)
        try:
            self._check_pixels(held, photo.size(path))
        except InputError:
            path.unlink(missing_ok=True)
            raise
        self.held[key] = held
        result = Path(held.name).stem + job.target.suffix
        return {"id": key, "name": held.name, "result": result, "bytes": path.stat().st_size}

    def remove(self, key: str) -> None:
        """Forget a photograph.

        Args:
            key: of it; one that is not there is as good.
        """
        if held := self.held.pop(key, None):
            held.job.source.unlink(missing_ok=True)
            for made in self.folder.glob(f"{key}-*"):
                made.unlink(missing_ok=True)

    def get(self, key: str) -> Held:
        """A photograph.

        Args:
            key: of it.

        Returns:
            It.

        Raises:
            InputError: there is none.
        """
        if key not in self.held:
            raise InputError("that photograph is not here any more: choose it once more")
        return self.held[key]

    def _check_pixels(self, held: Held, size: tuple[int, int] | None) -> None:
        if size and size[0] * size[1] > self.limits.pixels:
            raise self._too_many(held, f"{size[0] * size[1] / 1e6:.4g} million")

    def _too_many(self, held: Held, count: str) -> InputError:
        most = min(self.limits.pixels, most_pixels()) / 1e6
        return InputError(
            f"{held.name} has {count} pixels: at most {most:.4g} million are taken, scale it down"
        )

    # --- what is made of it ------------------------------------------------------------------

    def preview(self, key: str, name: str) -> bytes:
        """What the page shows a photograph and its stages with, at screen size.

        Args:
            key: of the photograph.
            name: of the weights.

        Returns:
            See `preview.packed`.

        Raises:
            InputError: whatever is wrong with it; it begins with the person's name of the file.
        """
        held, enhancer = self.get(key), self.enhancer(name)
        with self._called(held):
            picture = photo.open(held.job.source)
        self._check_pixels(held, picture.size)
        shown = shrunk(photo.srgb(picture))
        return packed({"full": picture.size[::-1]}, shown, enhancer)

    def result(
        self, key: str, name: str, exposure: float, denoise: float, *, look: bool = False
    ) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
        """A photograph enhanced at full size.

        Args:
            key: of the photograph.
            name: of the weights.
            exposure: as `Enhancer` takes it.
            denoise: likewise.
            look: as a JPEG to be looked at, in place of the format that came.

        Returns:
            A file, to be removed by whoever asked; what it has not; and what is to be said of it.

        Raises:
            InputError: as `preview` does.
        """
        held, enhancer = self.get(key), self.enhancer(name)
        job = held.job._replace(target=self._target(held, look))
        job = job._replace(kind="JPEG") if look else job
        options = photo.Options(
            quality=95 if look else None, strip=look, note=f"pdn_jax {__version__}"
        )

        def restore(low, there):
            return enhancer(low, there=there, exposure=exposure, denoise=denoise)

        with self._called(held):
            self._check_pixels(held, photo.size(job.source))
            outcome = photo.run(job, restore, options)
        self._check_there(key, job.target)
        return job.target, outcome.lost, outcome.notes

    def before(self, key: str) -> Path:
        """A photograph as it came, at full size, as a JPEG to be looked at.

        Args:
            key: of it.

        Returns:
            A file, to be removed by whoever asked.

        Raises:
            InputError: as `preview` does.
        """
        held = self.get(key)
        target = self._target(held, look=True)
        with self._called(held):
            self._check_pixels(held, photo.size(held.job.source))
            picture = photo.open(held.job.source)
            photo.save(target, photo.encoded(picture, picture.pixels, "JPEG", strip=True))
        self._check_there(key, target)
        return target

    def _check_there(self, key: str, made: Path) -> None:
        """What was made of a photograph that is not here any more is not kept."""
        if key not in self.held:
            made.unlink(missing_ok=True)
            self.get(key)

    @contextlib.contextmanager
    def _called(self, held: Held) -> Iterator[None]:
        """In here a photograph's errors call it by its own name, not by where it lies, and name our limit."""
        from PIL import Image

        try:
            yield
        except InputError as error:
            if isinstance(error.__cause__, Image.DecompressionBombError):
                raise self._too_many(held, "too many") from error
            text = str(error).replace(str(held.job.source), held.name)
            raise InputError(text) from error

    def _target(self, held: Held, look: bool) -> Path:
        ending = ".jpg" if look else held.job.target.suffix
        return self.folder / f"{held.key}-{secrets.token_hex(4)}{ending}"
