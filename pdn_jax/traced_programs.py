"""Programs of the bundled weights' networks, traced beforehand for photographs of any size.

Tracing needs jax and Flax, whose import takes longer than what they do here. So beside the bundled
weights lie their networks' programs in StableHLO, with sides that are free. Parameters are arguments:
other weights of the same network use them as well. `fixed` gives one for the shapes at hand, by
jaxlib alone; that is no public interface, and where a version has another, the caller traces.
`python -m pdn_jax.export.trace_programs` writes them.
"""

import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pdn_jax import weights

SUFFIX = ".stablehlo"
"""How the names of the files end: a line of JSON, the network's keyword arguments, and a portable
artifact of StableHLO."""

TYPES = {"float32": "f32", "uint8": "ui8", "int32": "i32"}
"""dtype -> StableHLO's name for it."""

MAIN, FREE = "main", "of_any_size"
"""Functions of a module: what is run, and what that calls."""

Array = tuple[Sequence[int], str]
"""Shape and dtype."""


def path(name: str, kind: str) -> Path:
    """Where a program lies.

    Args:
        name: of the weights, one of `weights.SHIPPED`.
        kind: which program, one of `program_kinds.KINDS`.

    Returns:
        The file, whether it is there or not.
    """
    return weights.FOLDER / name / (kind + SUFFIX)


def written(model: Mapping[str, Any], artifact: bytes) -> bytes:
    """What a file holds.

    Args:
        model: keyword arguments of the network.
        artifact: the program, a portable artifact.

    Returns:
        Both.
    """
    return json.dumps(model, sort_keys=True).encode() + b"\n" + artifact


@functools.cache
def artifact(kind: str, model: str) -> bytes | None:
    """A program with free sides.

    Args:
        kind: which program, one of `program_kinds.KINDS`.
        model: keyword arguments of the network, as JSON with sorted keys.

    Returns:
        A portable artifact, or None where no bundled weights have that network.
    """
    for name in weights.SHIPPED:
        file = path(name, kind)
        if file.exists():
            described, _, content = file.read_bytes().partition(b"\n")
            if described.decode() == model:
                return content
    return None


def fixed(kind: str, model: str, arguments: Sequence[Array]) -> tuple[bytes, list[Array]] | None:
    """A program for arrays of given shapes.

    Args:
        kind: which program, one of `program_kinds.KINDS`.
        model: keyword arguments of the network, as JSON with sorted keys.
        arguments: shape and dtype of each.

    Returns:
        StableHLO in MLIR's bytecode, and shape and dtype of each result; None where `artifact` is.

    Raises:
        Exception: ValueError for arrays of another dtype, whatever jaxlib raises for another shape.
    """
    content = artifact(kind, model)
    if content is None:
        return None
    from jaxlib import _jax
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import func, stablehlo  # noqa: F401 - func gives functions their class

    with ir.Context() as context:
        stablehlo.register_dialect(context)
        context.load_all_available_dialects()
        module = stablehlo.deserialize_portable_artifact(context, content)
        free = _function(module, MAIN)
        takes, gives = (
            [str(one) for one in part] for part in (free.type.inputs, free.type.results)
        )
        free.attributes["sym_name"] = ir.StringAttr.get(FREE)
        free.attributes["sym_visibility"] = ir.StringAttr.get("private")
        given = [_type(*argument) for argument in arguments]
        if list(map(_element, given)) != list(map(_element, takes)):  # it would convert them
            raise ValueError(f"{kind} takes {takes}, not {given}")
        caller = ir.Module.parse(_caller(given, takes, gives))
        module.body.append(_function(caller, MAIN).operation.detach_from_parent())
        whole = io.BytesIO()
        module.operation.write_bytecode(whole)
        refined = _jax.mlir.refine_polymorphic_shapes(
            whole.getvalue(),
            enable_shape_assertions=True,
            validate_static_shapes=True,
            enable_shardy=False,
        )
        static = ir.Module.parse(refined)  # held: functions do not outlive their module
        results = _function(static, MAIN).type.results
        tensors = [ir.RankedTensorType(result) for result in results]
        names = {short: long for long, short in TYPES.items()}
        return refined, [(tuple(t.shape), names[str(t.element_type)]) for t in tensors]


def _function(module: Any, name: str) -> Any:
    return next(op for op in module.body.operations if op.sym_name.value == name)


def _type(shape: Sequence[int], dtype: str) -> str:
    return f"tensor<{''.join(f'{side}x' for side in shape)}{TYPES[dtype]}>"


def _element(tensor: str) -> str:
    return tensor.removesuffix(">").rpartition("x")[-1]


def _caller(given: Sequence[str], takes: Sequence[str], gives: Sequence[str]) -> str:
    """A module whose `MAIN` calls `FREE` with arrays of fixed shapes."""
    names = range(len(given))
    listed = ", ".join
    types = f"({listed(takes)}) -> ({listed(gives)})"
    lines = [f"func.func private @{FREE}{types}"]
    arguments = (f"%a{i}: {kind}" for i, kind in enumerate(given))
    lines.append(f"func.func public @{MAIN}({listed(arguments)}) -> ({listed(gives)}) {{")
    pairs = zip(given, takes, strict=True)
    lines += [f"%b{i} = stablehlo.convert %a{i} : ({a}) -> {b}" for i, (a, b) in enumerate(pairs)]
    lines.append(f"%r:{len(gives)} = call @{FREE}({listed(f'%b{i}' for i in names)}) : {types}")
    results = listed(f"%r#{i}" for i in range(len(gives)))
    return "\n".join([*lines, f"return {results} : {listed(gives)}", "}"])
