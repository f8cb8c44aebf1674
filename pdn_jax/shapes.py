"""Which parameters a network has, worked out from its keyword arguments: no tracing, no Flax."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pdn_jax import weights
from pdn_jax.errors import InputError

REQUIRED = ("stages", "width", "widths", "depths", "blocks")
"""Keyword arguments of `ProgressiveDualNetwork` that have no default."""
OPTIONAL = ("noise_map", "texture", "evidence", "dtype")
"""Keyword arguments of `ProgressiveDualNetwork`."""

EVIDENCE, HEAD = 92, 32
"""Numbers that `evidence.evidence` gives, and the width of `evidence.Target`."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]
"""(name of a parameter, its shape), one after the other."""


def parameters(model: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's parameters.

    Args:
        model: keyword arguments of `ProgressiveDualNetwork`.

    Returns:
        Path in the Flax tree, joined by "/" -> shape.

    Raises:
        InputError: for keyword arguments that are not its own, or missing.
    """
    names = model.keys() ^ {*REQUIRED, *(model.keys() & {*OPTIONAL})}
    if names:
        raise InputError(
            f"weights are for another network: {', '.join(sorted(names))} of its keyword arguments "
            f"{', '.join(sorted(model))}; expected {', '.join(REQUIRED)}"
        )
    parts = {"enhancement": _enhancement(model), "denoising": _denoising(model)}
    return {
        f"params/{part}/{name}": shape for part, shapes in parts.items() for name, shape in shapes
    }


def context_channels(model: Mapping[str, Any]) -> int:
    """How many channels the context has.

    Args:
        model: keyword arguments of the network.

    Returns:
        Its width, and one for the amount where evidence decides it.
    """
    return model["width"] + bool(model.get("evidence", False))


def check(model: Mapping[str, Any], params: Any) -> None:
    """Hold parameters against the network that they are for.

    Args:
        model: keyword arguments of `ProgressiveDualNetwork`.
        params: {"params": {...}} as Flax gives it.

    Raises:
        InputError: naming the first leaf, in order of name, that differs, and both shapes; or as
            `parameters` does.
    """
    wanted = {name: Leaf(shape) for name, shape in parameters(model).items()}
    weights.check(params, weights.unflatten(wanted))


class Leaf(NamedTuple):
    """A parameter that is not there."""

    shape: tuple[int, ...]


def _layer(name: str, *kernel: int) -> Shapes:
    yield f"{name}/kernel", kernel
    yield f"{name}/bias", kernel[-1:]


def _enhancement(model: Mapping[str, Any]) -> Shapes:
    width = model["width"]
    yield from _layer("first", 3, 3, 6, width)
    yield from _layer("facts", 2 * width, width)
    yield from _layer("black", width, 3)
    yield from _layer("noise", width, 2)
    for name in ("look", "think"):
        yield from _layer(f"stage/{name}", 3, 3, width, width)
    for name, size in (("current", 3), ("whole", 2 * width), ("gate", width), ("remember", width)):
        yield from _layer(f"stage/{name}", size, width)
    yield from _layer("stage/step", width, 3)
    if model.get("evidence", False):
        yield from _layer("target/first", EVIDENCE + 1, HEAD)
        yield from _layer("target/second", HEAD, HEAD)
        yield from _layer("target/change", HEAD, 1)


def _denoising(model: Mapping[str, Any]) -> Shapes:
    levels, before = len(model["widths"]), context_channels(model)
    sizes = zip(model["widths"], model["depths"], model["blocks"], strict=True)
    for index, (width, depth, block) in enumerate(sizes):
        level = levels - 1 - index
        pixels = 3 * block**2
        yield from _layer(f"lift{level}", before + 3, width)
        correction = 3 * (block // 2) ** 2 if index else 0
        yield from _layer(f"level{level}/look", 3, 3, pixels + correction, width)
        for pair in range(depth):
            yield from _layer(f"level{level}/a{pair}", 3, 3, width, width)
            yield from _layer(f"level{level}/b{pair}", 3, 3, width, width)
        yield from _layer(f"level{level}/residual", 3, 3, width, pixels)
        before = width
