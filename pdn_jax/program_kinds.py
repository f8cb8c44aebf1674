"""What the programs of a network are compiled from: functions of parameters and arrays, by name."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from pdn_jax import shapes, weights
from pdn_jax.checks import white


class Kind(NamedTuple):
    """Which parameters a program takes, of `PARTS`, and network -> function of those and arrays."""

    part: str
    make: Callable[[Any], Callable]


PARTS = ("enhancement", "denoising", "none")
"""Which parameters a program takes: of a module, or none."""


@functools.lru_cache(maxsize=8)
def network(model: str) -> Any:
    """The network that keyword arguments describe.

    Args:
        model: keyword arguments of `ProgressiveDualNetwork` as JSON.

    Returns:
        The module.
    """
    from pdn_jax.model import ProgressiveDualNetwork

    return ProgressiveDualNetwork(**weights.parse_model(model))


def function(kind: str, model: str) -> Callable:
    """The function that a program is compiled from.

    Args:
        kind: a name in `KINDS`.
        model: keyword arguments of `ProgressiveDualNetwork` as JSON.

    Returns:
        (list of parameters, array, …) -> arrays, to be traced.
    """
    wanted = KINDS[kind]
    make = wanted.make(network(model))
    prefix = f"params/{wanted.part}/"
    every = shapes.parameters(weights.parse_model(model))
    tree = weights.unflatten({name: name for name in every if name.startswith(prefix)})
    names = list(weights.flatten(tree).values())

    def of_list(values, *arrays):
        params = weights.unflatten(dict(zip(names, values, strict=True)))
        return make(params.get("params", {}).get(wanted.part), *arrays)

    return of_list


def _global(network):
    from pdn_jax import tiling

    def function(params, small, texture, mask):
        return tiling.global_pass(network, params, small, texture, mask)

    return function


def _photo(low):
    """Integers or float -> float32 in [0, 1]."""
    import jax.numpy as jnp

    return low.astype(jnp.float32) / white(low.dtype)


def _finished(image, dtype):
    """Clipped, and of the photograph's dtype."""
    import jax.numpy as jnp

    image = jnp.clip(image, 0.0, 1.0)
    largest = white(dtype)
    return image if largest == 1 else jnp.round(largest * image).astype(dtype)


def _rendered(network, params, low, *whole):
    from pdn_jax import tiling

    *maps, valid = whole
    black, increments, noise, context = maps
    estimate = tiling.GlobalPass(black, increments, noise, context, None, None)
    return tiling.render_tile(network, params, _photo(low), estimate, valid)


def _render(network):
    def function(params, low, *whole):
        return _finished(_rendered(network, params, low, *whole).denoised[-1], low.dtype)

    return function


def _dialled(network):
    from pdn_jax.dial import dialled

    def function(params, low, *whole_and_dials):
        *whole, mean, exposure, denoise = whole_and_dials
        tile = _rendered(network, params, low, *whole)
        images = (tile.denoised[-1], tile.enhanced[-1], tile.path)
        dials = [value[:, None, None, None] for value in (mean, exposure, denoise)]
        return _finished(dialled(*images, *dials), low.dtype)

    return function


def _stages(network):
    def function(params, low, *whole):
        tile = _rendered(network, params, low, *whole)
        return [_finished(image, low.dtype) for image in (*tile.enhanced, *tile.denoised)]

    return function


def _path_sum(network):
    from pdn_jax import tiling

    def function(params, log_exposure, rows, columns):
        return tiling.path_sum(log_exposure, rows, columns)

    return function


KINDS = {
    "global": Kind("enhancement", _global),
    "render": Kind("denoising", _render),
    "dialled": Kind("denoising", _dialled),
    "stages": Kind("denoising", _stages),
    "path_sum": Kind("none", _path_sum),
}
"""Name -> what `Programs` can run.

global: small, texture, mask -> `tiling.GlobalPass`. render: low, black, increments, noise, context,
valid -> restored. dialled: those, mean path, exposure, denoise -> restored. stages: as render ->
every stage. path_sum: as `tiling.path_sum`.
"""
