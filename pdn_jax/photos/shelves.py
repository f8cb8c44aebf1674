"""Which objects of a store are photographs to be enhanced, as `walk` does it for folders."""

import glob
import itertools
from pathlib import Path

from pdn_jax import places
from pdn_jax.errors import InputError
from pdn_jax.photos import kinds
from pdn_jax.places import Location


def objects(given: str) -> list[tuple[Location, Path]]:
    """The objects that a URL stands for, with the folders they lie in below it.

    Args:
        given: an object, a folder (a prefix) with all below it, or a pattern with `*` and `**`.

    Returns:
        (object, folder within) of each, by name.

    Raises:
        InputError: where there is none, or the store does not answer.
    """
    parts = given.split("/")
    fixed = "/".join(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    root = places.place(fixed)
    if fixed == given:
        some = places.objects(root)
    else:
        with places.explained("read", given):
            names = root.fs.glob(places.place(given).path, detail=True)
        some = {
            places.place(root.fs.unstrip_protocol(name)): about
            for name, about in sorted(names.items())
            if about["type"] == "file"
        }
    if not some:
        raise InputError(
            f"{given} does not exist: give a photo, or a folder of a store that has some"
        )
    return [(path, _within(path, root)) for path in some]


def _within(path: Location, root: Location) -> Path:
    below = str(path).removeprefix(str(root)).strip("/")
    return Path(below).parent if below else Path()


def not_a_photo(path: Location) -> str:
    """Why an object in a folder is passed by; what it is called is all that is looked at.

    Args:
        path: an object.

    Returns:
        The reason in words, '' for a photograph.
    """
    if kinds.by_extension(path.suffix):
        return ""
    return (
        f"its name ends in {path.suffix}" if path.suffix else "its name does not end as a photo's"
    )
