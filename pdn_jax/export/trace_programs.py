"""Trace the bundled weights' networks for photographs of any size, and write their programs.

    python -m pdn_jax.export.trace_programs

To be run where the network or what its programs take has changed; `pdn_jax.traced_programs` reads them.
"""

import json

import jax
from jax import export

from pdn_jax import program_kinds, shapes, traced_programs, weights
from pdn_jax.export.formats import without_locations
from pdn_jax.files import atomic_write
from pdn_jax.program_kinds import KINDS

SIDES = {
    "global": ("1, r, c, 3", "1, r, c, 3", "1, r, c, 1"),
    "render": (
        *("1, 8*r, 8*c, 3", "1, 3", "1, 1, r, c, 3", "1, r, c, 3", "1, r, c, {context}", "1, 2"),
    ),
}
"""Kind -> shape of each array beside the parameters; `program_inputs` makes them."""

DTYPES = {"global": ("float32",) * 3, "render": ("uint8", *("float32",) * 4, "int32")}
"""Kind -> dtype of each of those: photographs of 8 bits."""


def traced(kind: str, model: dict) -> bytes:
    """A program for arrays of any size.

    Args:
        kind: a name in `SIDES`.
        model: keyword arguments of the network.

    Returns:
        A portable artifact of StableHLO.

    Raises:
        RuntimeError: the program does not use all arrays, so that jax would leave some out.
    """
    prefix, scope = f"params/{KINDS[kind].part}/", export.SymbolicScope()
    parameters = [
        jax.ShapeDtypeStruct(shape, "float32")
        for name, shape in _in_order(shapes.parameters(model))
        if name.startswith(prefix)
    ]
    arrays = [
        jax.ShapeDtypeStruct(
            export.symbolic_shape(
                sides.format(context=shapes.context_channels(model)), scope=scope
            ),
            dtype,
        )
        for sides, dtype in zip(SIDES[kind], DTYPES[kind], strict=True)
    ]
    function = jax.jit(program_kinds.function(kind, json.dumps(model, sort_keys=True)))
    program = export.export(function, platforms=["cpu"])(parameters, *arrays)
    if len(program.module_kept_var_idx) != len(parameters) + len(arrays):
        raise RuntimeError(f"{kind} does not use all that it is given")
    return without_locations(program.mlir_module_serialized)


def _in_order(named: dict) -> list:
    """(name, value) in the order in which `Programs` has parameters."""
    return list(weights.flatten(weights.unflatten({k: (k, v) for k, v in named.items()})).values())


def main() -> None:
    """Write all of them."""
    for name in weights.SHIPPED:
        model = dict(weights.load(name).model)
        for kind in SIDES:
            with atomic_write(traced_programs.path(name, kind)) as file:
                file.write(traced_programs.written(model, traced(kind, model)))


if __name__ == "__main__":
    main()
