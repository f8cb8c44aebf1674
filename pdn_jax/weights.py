"""Trained parameters in and out: one safetensors file that says what network it is for.

    weights.load("small")               # bundled pretrained weights: see `SHIPPED`
    weights.load("runs/mine")           # a file, or a run folder

Leaves keep their dtype and come back as NumPy arrays, so that loading touches no device; the
bundled ones are stored in half precision, and `single` makes float32 of them. Names are the path
in the Flax tree, joined by "/". The file's metadata is one entry, JSON with sorted keys: format
version, variant, the network's keyword arguments, free text of the caller's, and a digest of all.
One, since safetensors writes several in any order: the same weights are the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from pdn_jax import copies, places
from pdn_jax.errors import InputError
from pdn_jax.files import atomic_write

Params = Any
"""A pytree of arrays, as Flax has them."""

FORMAT = "2"
"""Version of the file's layout; another one is refused, not guessed at."""
ENTRY = "pdn_jax"
"""The one entry of the file's metadata."""

FACTS = {"format", "variant", "model", "metadata"}
"""What it says, beside a digest of all."""

FILENAME = "weights.safetensors"
"""What the file is called inside a run folder."""

CARD = "card.json"
"""What is known of bundled weights, beside them."""

SHIPPED = ("tiny", "small", "base")
"""Names of the bundled pretrained weights, from fast to good."""

DEFAULT = "small"
"""The ones that are used where none are named."""

FOLDER = Path(__file__).with_name("weights")
"""Where the bundled weights lie."""


class Weights(NamedTuple):
    """A trained network: which one, how to build it, its parameters, and where they come from.

    variant: a name for people. model: keyword arguments of `ProgressiveDualNetwork`, JSON-able;
    sequences are tuples. params: {"params": {...}} as Flax gives it. metadata: free text.
    """

    variant: str
    model: dict[str, Any]
    params: Params
    metadata: dict[str, str]


def save(path: str | places.Location, weights: Weights) -> None:
    """Write a .safetensors file; whole or not at all, and the same bytes for the same weights.

    Args:
        path: the file, or a folder for `weights.safetensors` in it.
        weights: what to store; leaves keep their dtype.

    Raises:
        InputError: the folder is missing or cannot be written to.
    """
    path = _file(path)
    # Safetensors copies raw memory, so a transposed view must be laid out first.
    flat = flatten(weights.params)
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in flat.items()}
    facts = {
        "format": FORMAT,
        "variant": weights.variant,
        "model": weights.model,
        "metadata": weights.metadata,
    }
    facts["digest"] = _digest(tensors, facts)
    data = safetensors.numpy.save(tensors, {ENTRY: json.dumps(facts, sort_keys=True)})
    try:
        with atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"cannot write weights {path}: {error.strerror}") from error


def load(path: str | places.Location, *, variant: str | None = None) -> Weights:
    """Read weights.

    Args:
        path: a .safetensors file, the folder of a run or of a checkpoint, here or in a store, or a
            name in `SHIPPED`; a folder that is called like one of those is meant by "./small".
        variant: the one that is needed; None for any.

    Returns:
        The weights, leaves as NumPy arrays of the dtype in the file.

    Raises:
        InputError: a missing, damaged or foreign file, another format version, another variant.
    """
    path = _file(FOLDER / path if path in SHIPPED else path)
    metadata, tensors = _read(path)
    facts = _facts(path, metadata)
    digest = facts.pop("digest", None)
    if facts.keys() - FACTS or digest not in (None, _digest(tensors, facts)):
        raise InputError(f"{path} is damaged, it is not what was saved: copy it once more")
    try:
        weights = Weights(
            facts["variant"],
            _keywords(facts["model"]),
            unflatten(tensors),
            facts["metadata"],
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} describes its network badly ({error}): save it anew") from error
    if variant is not None and variant != weights.variant:
        raise InputError(
            f"{path} holds variant {weights.variant!r}, expected {variant!r}: "
            f"give other weights or ask for {weights.variant!r}"
        )
    return weights


def _facts(path: places.Location, metadata: dict[str, str]) -> dict[str, Any]:
    """What a file says of itself; raises InputError unless it is one of ours, of this format."""
    if ENTRY not in metadata:
        foreign = "is a safetensors file but not one of pdn_jax"
        raise InputError(f"{path} {foreign}: give weights saved by training")
    try:
        facts = json.loads(metadata[ENTRY])
    except ValueError as error:
        damage = "is damaged, its metadata is no JSON"
        raise InputError(f"{path} {damage}: copy it once more") from error
    version = facts.get("format") if isinstance(facts, dict) else facts
    if version != FORMAT:
        raise InputError(
            f"{path} has weights format {version}, expected {FORMAT}: update pdn_jax or train anew"
        )
    return facts


def card(name: str) -> dict[str, Any]:
    """What is known of bundled weights: data, command, date, scores, failures.

    Args:
        name: one of `SHIPPED`.

    Returns:
        Its card.json.
    """
    return json.loads((FOLDER / name / CARD).read_text(encoding="utf-8"))


def single(params: Params) -> Params:
    """Parameters in float32.

    Args:
        params: a Flax tree.

    Returns:
        The same tree, leaves of float16 as float32, others as they are.
    """

    def leaf(value):
        return value.astype(np.float32) if value.dtype == np.float16 else value

    return _mapped(leaf, params)


def half(params: Params) -> Params:
    """Parameters in half precision.

    Args:
        params: a Flax tree.

    Returns:
        The same tree, every leaf as float16.

    Raises:
        ValueError: a leaf is not finite in float16.
    """

    def leaf(value):
        with np.errstate(over="ignore"):
            small = np.asarray(value, np.float32).astype(np.float16)
        if not np.isfinite(small).all():
            raise ValueError("parameters are not finite in float16")
        return small

    return _mapped(leaf, params)


def _mapped(function: Callable[[Any], Any], tree: Params) -> Params:
    return unflatten({name: function(leaf) for name, leaf in flatten(tree).items()})


def flatten(tree: Params) -> dict[str, Any]:
    """Nested dictionaries as one.

    Args:
        tree: dictionaries of dictionaries of leaves, named by strings.

    Returns:
        Path, joined by "/" -> leaf, in the order of `jax.tree.leaves`.
    """
    return dict(_leaves(tree))


def _leaves(tree: Params, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for name in sorted(tree):
            yield from _leaves(tree[name], (*path, name))
    else:
        yield "/".join(path), tree


def unflatten(flat: Mapping[str, Any]) -> Params:
    """The inverse of `flatten`.

    Args:
        flat: path, joined by "/" -> leaf.

    Returns:
        Nested dictionaries.
    """
    tree: Params = {}
    for path, leaf in flat.items():
        *folders, name = path.split("/")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = leaf
    return tree


def parse_model(text: str) -> dict[str, Any]:
    """The network's keyword arguments from JSON, lists as tuples.

    Args:
        text: a JSON object.

    Returns:
        Keyword arguments that compare and hash.

    Raises:
        ValueError: it is no JSON, or no object.
    """
    return _keywords(json.loads(text))


def _keywords(model: Any) -> dict[str, Any]:
    if not isinstance(model, dict):
        raise ValueError(f"keyword arguments are a JSON object, got {model}")
    return _tuples(model)


def check(params: Params, expected: Params) -> None:
    """Compare shapes leaf by leaf.

    Args:
        params: a Flax tree of arrays.
        expected: a tree of ShapeDtypeStruct, as `jax.eval_shape` gives it.

    Raises:
        InputError: naming the first leaf, in order of name, that differs, and both shapes.
    """
    given, wanted = (
        {name: tuple(leaf.shape) for name, leaf in flatten(tree).items()}
        for tree in (params, expected)
    )
    for name in sorted(given.keys() | wanted.keys()):
        if given.get(name) != wanted.get(name):
            raise InputError(
                f"weights do not fit the network at {name}: shape {given.get(name, 'missing')}, "
                f"expected {wanted.get(name, 'no such leaf')}: give weights of this variant"
            )


def _file(path: str | places.Location) -> places.Location:
    path = places.place(path)
    stored, within = places.is_url(path), path / "weights" / FILENAME  # as a checkpoint has them
    if places.exists(within) and not places.exists(path / FILENAME):
        return within
    is_folder = path.suffix != ".safetensors" if stored else path.is_dir()
    return path / FILENAME if is_folder else path


def _read(path: places.Location) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    if places.is_url(path):
        with copies.copied(path) as copy:
            return _read(copy)
    if not path.is_file():
        known = f"{', '.join(SHIPPED)}, a .safetensors file, or a run folder holding {FILENAME}"
        raise InputError(f"{path} does not exist: expected {known}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        whole = f"is not a whole safetensors file ({error})"
        raise InputError(f"{path} {whole}: copy or train it anew") from error
    except OSError as error:
        raise InputError(f"cannot read weights {path}: {error}") from error


def _digest(tensors: dict[str, np.ndarray], facts: dict[str, Any]) -> str:
    """A fingerprint of every bit, and of what is said of them."""
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        leaf = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, all the way down, so that keyword arguments compare and hash."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
