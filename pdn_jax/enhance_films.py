"""The `enhance` command on films, and the network that it runs on them and on photographs."""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pdn_jax import copies, places
from pdn_jax.errors import InputError
from pdn_jax.film_names import is_film
from pdn_jax.photos import walk
from pdn_jax.places import Location
from pdn_jax.report import complain, tell

if TYPE_CHECKING:
    from pdn_jax.enhancer import Enhancer


def apart(inputs: Sequence[str]) -> tuple[list[Location], list[str]]:
    """The films among the arguments, patterns opened, and all others.

    A film has the name of one, and does not begin as a photograph does.

    Args:
        inputs: as the command line has them.

    Returns:
        Paths of films, and the arguments that are something else.
    """
    films, others = [], []
    for given in inputs:
        left_out: list[walk.LeftOut] = []
        matched = walk.opened(given, False, left_out) if is_film(given) else []
        some = [path for path, _ in matched if not path.is_dir() and not walk.is_photo(path)]
        if not some:
            others.append(given)
            continue
        films += some
        others += [str(path) for path, _ in matched if path not in some]
        for path, reason in left_out:
            complain(f"left out: {path} ({reason})")
    return films, others


def run(films: Sequence[Location], arguments: argparse.Namespace) -> int:
    """Enhance films one after the other; options that they do not have are refused.

    Args:
        films: of `apart`.
        arguments: what the command's parser gives, its `input` without the films.

    Returns:
        The exit code, 0, or 1 where one of several failed.

    Raises:
        InputError: for arguments that cannot be, and where a single film cannot.
    """
    asked = {
        "--stages": arguments.stages,
        "--format": arguments.format not in (None, "same"),
        "--quality": arguments.quality,
        "--auto": arguments.auto,
        "--compare": arguments.compare,
        "--json": arguments.json,
        "--jobs": arguments.jobs,
    }
    for option, value in asked.items():
        if value:
            raise InputError(f"{option} is for photographs, {films[0]} is a film")
    output, several = places.place(arguments.output), len(films) > 1 or bool(arguments.input)
    ends = str(arguments.output).endswith(("/", os.sep))
    stored = places.is_url(output)
    is_folder = not is_film(str(output)) if stored else output.is_dir()
    into = is_folder or ends or several
    called_a_film = is_film(str(output)) and not is_folder and not ends
    if into and (called_a_film or (not stored and output.exists() and not is_folder)):
        raise InputError(f"{output} is a file: with several films or photos -o names a folder")
    pairs = [
        (film, output / f"{film.stem}{arguments.suffix}{film.suffix}" if into else output)
        for film in films
    ]
    if len({str(target).casefold() for _, target in pairs}) < len(pairs):
        raise InputError("two films have the same name: enhance them into folders of their own")
    from pdn_jax.photos import job

    enhancer, failed = None, False
    for source, target in pairs:
        if arguments.skip_existing and places.exists(target):
            complain(f"left out: {source} (its result exists)")
            continue
        try:
            if arguments.dry_run:
                job.check_target(walk.Job(source, target, ""), arguments.overwrite)
                tell(f"{source} -> {target}")
                continue
            enhancer = enhancer or network(arguments)
            _film(source, target, enhancer, arguments, into)
        except InputError as error:
            if not several:
                raise
            complain(f"error: {error}")
            failed = True
    return int(failed)


def _film(source: Location, target: Location, enhancer: "Enhancer", arguments, into: bool) -> None:
    """into: whether the folder of the target is made."""
    from pdn_jax import video
    from pdn_jax.photos import job

    if into:
        job.make_folder(target.parent)
    job.remove_litter([target.parent])
    with tempfile.TemporaryDirectory() as folder:
        stored = places.is_url(target)
        done = video.enhance_film(
            copies.fetched(source),
            Path(folder, target.name) if stored else target,
            enhancer,
            exposure=arguments.exposure,
            denoise=arguments.denoise,
            overwrite=arguments.overwrite,
            strip=arguments.strip,
        )
        if stored:
            places.send(Path(folder, target.name), target, new=not arguments.overwrite)
    for note in done.notes:
        complain(f"{source}: {note}")


def network(arguments: argparse.Namespace) -> "Enhancer":
    """The network that the command line asks for.

    Args:
        arguments: with `weights`, `variant` and the dials.

    Returns:
        It, with nothing compiled yet.
    """
    from pdn_jax import weights
    from pdn_jax.checks import check_dials
    from pdn_jax.enhancer import Enhancer

    check_dials(arguments.exposure, arguments.denoise)
    return Enhancer(weights.load(named(arguments), variant=arguments.variant))


def named(arguments: argparse.Namespace) -> str:
    """The weights that the command line asks for, by name, file or variant.

    Args:
        arguments: with `weights` and `variant`, either None.

    Returns:
        What `weights.load` takes.

    Raises:
        InputError: for a variant that is not among the bundled ones.
    """
    from pdn_jax import weights

    if arguments.weights or not arguments.variant:
        return arguments.weights or weights.DEFAULT
    if arguments.variant not in weights.SHIPPED:
        raise InputError(
            f"no weights of variant {arguments.variant!r} come with the package, only of "
            f"{', '.join(weights.SHIPPED)}: name a file with --weights"
        )
    return arguments.variant
