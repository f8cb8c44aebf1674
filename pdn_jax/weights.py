"""Trained parameters in and out: one safetensors file that says what network it is for.

    weights.load("small")               # one of those that come with the package: see `SHIPPED`
    weights.load("runs/mine")           # a file, or a run folder

Leaves keep their dtype and come back as NumPy arrays, so that loading touches no device; those
that come with the package are stored in half the bytes, and `single` makes float32 of them. Names
are the path in the Flax tree, joined by "/". The file's metadata holds the format version, the
variant, the network's keyword arguments as JSON, and free text of the caller's.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from pdn_jax.types import InputError, Params

FORMAT = "1"
"""Version of the file's layout; another one is refused, not guessed at."""

FACTS = {"pdn_jax", "variant", "model", "metadata"}
"""What the file's metadata says of the network, beside a digest of all."""

FILENAME = "weights.safetensors"
"""What the file is called inside a run folder."""

CARD = "card.json"
"""What is known of weights that come with the package, beside them."""

SHIPPED = ("tiny", "small", "base")
"""Names of the weights that come with the package, from fast to good."""

DEFAULT = "small"
"""The ones that are used where none are named."""

FOLDER = Path(__file__).with_name("weights")


class Weights(NamedTuple):
    """A trained network: which one, how to build it, its parameters, and where they come from.

    variant: a name for people. model: keyword arguments of `ProgressiveDualNetwork`, JSON-able;
    sequences are tuples. params: {"params": {...}} as Flax gives it. metadata: free text.
    """

    variant: str
    model: dict[str, Any]
    params: Params
    metadata: dict[str, str]


def save(path: str | Path, weights: Weights) -> None:
    """Write a .safetensors file, or `weights.safetensors` in a folder; whole or not at all.

    Raises InputError where the folder is missing or cannot be written to.
    """
    path = _file(path)
    # Safetensors copies raw memory, so a transposed view must be laid out first.
    flat = flatten_dict(weights.params, sep="/")
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in flat.items()}
    facts = {
        "pdn_jax": FORMAT,
        "variant": weights.variant,
        "model": json.dumps(weights.model),
        "metadata": json.dumps(weights.metadata),
    }
    facts["digest"] = _digest(tensors, facts)
    data = safetensors.numpy.save(tensors, facts)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write weights {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path, *, variant: str | None = None) -> Weights:
    """Read a .safetensors file, the one of a run folder or of a checkpoint, or one of `SHIPPED` by name.

    A folder that is called like one of those is meant by "./small". With `variant`, insists on that
    one. Raises InputError for a missing, damaged or foreign file, another format version, or
    another variant.
    """
    path = _file(FOLDER / path if path in SHIPPED else path)
    facts, tensors = _read(path)
    version = facts.get("pdn_jax")
    if version is None:
        raise InputError(
            f"{path} is a safetensors file but not one of pdn_jax: give weights saved by training"
        )
    if version != FORMAT:
        raise InputError(
            f"{path} has weights format {version}, expected {FORMAT}: update pdn_jax or train again"
        )
    known = facts.pop("digest", None)
    if facts.keys() - FACTS or known not in (None, _digest(tensors, facts)):
        raise InputError(f"{path} is damaged, it is not what was saved: copy it again")
    try:
        found = Weights(
            facts["variant"],
            parse_model(facts["model"]),
            unflatten_dict(tensors, sep="/"),
            json.loads(facts["metadata"]),
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} describes its network badly ({error}): save it again") from error
    if variant is not None and variant != found.variant:
        raise InputError(
            f"{path} holds variant {found.variant!r}, expected {variant!r}: "
            f"give other weights or ask for {found.variant!r}"
        )
    return found


def card(name: str) -> dict[str, Any]:
    """What is known of one of `SHIPPED`: data, command, date, scores, failures, as its JSON says it."""
    return json.loads((FOLDER / name / CARD).read_text(encoding="utf-8"))


def single(params: Params) -> Params:
    """The same parameters, those of half precision as float32."""

    def leaf(value):
        return value.astype(np.float32) if value.dtype == np.float16 else value

    return _mapped(leaf, params)


def half(params: Params) -> Params:
    """The same parameters as float16, which half the bytes hold; raises ValueError past its range."""

    def leaf(value):
        with np.errstate(over="ignore"):
            small = np.asarray(value, np.float32).astype(np.float16)
        if not np.isfinite(small).all():
            raise ValueError("parameters are not finite in float16")
        return small

    return _mapped(leaf, params)


def _mapped(function: Callable[[Any], Any], tree: Params) -> Params:
    flat = flatten_dict(tree, sep="/")
    return unflatten_dict({name: function(leaf) for name, leaf in flat.items()}, sep="/")


def parse_model(text: str) -> dict[str, Any]:
    """JSON -> the network's keyword arguments, lists as tuples; ValueError if it is no object."""
    model = _tuples(json.loads(text))
    if not isinstance(model, dict):
        raise ValueError(f"keyword arguments are a JSON object, got {text}")
    return model


def check(params: Params, expected: Params) -> None:
    """Compare shapes leaf by leaf with a tree of ShapeDtypeStruct, as `jax.eval_shape` gives it.

    Raises InputError naming the first leaf, in order of name, that differs, and both shapes.
    """
    found = {name: tuple(leaf.shape) for name, leaf in flatten_dict(params, sep="/").items()}
    wanted = {name: tuple(leaf.shape) for name, leaf in flatten_dict(expected, sep="/").items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InputError(
                f"weights do not fit the network at {name}: shape {found.get(name, 'missing')}, "
                f"expected {wanted.get(name, 'no such leaf')}: give weights of this variant"
            )


def _file(path: str | Path) -> Path:
    path = Path(path)
    within = path / "weights" / FILENAME  # where a checkpoint has them
    if within.is_file() and not (path / FILENAME).exists():
        return within
    return path / FILENAME if path.is_dir() else path


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: expected {', '.join(SHIPPED)}, a .safetensors file, "
            f"or a run folder holding {FILENAME}"
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}): copy or train it again"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read weights {path}: {error}") from error


def _digest(tensors: dict[str, np.ndarray], facts: dict[str, str]) -> str:
    """A fingerprint of every bit, and of what is said of them."""
    found = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        leaf = np.ascontiguousarray(tensors[name])
        found.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        found.update(leaf.tobytes())
    return found.hexdigest()


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, all the way down, so that keyword arguments compare and hash."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
