"""Nodes and constants of an ONNX graph, collected one by one."""

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from pdn_jax.errors import InputError

OPSET, IR = 18, 9
"""Versions of the operators and of the file."""


def library() -> ModuleType:
    """Import onnx.

    Returns:
        The module `onnx`.

    Raises:
        InputError: where it is not installed.
    """
    try:
        importlib.import_module("onnx.helper")
        return importlib.import_module("onnx")
    except ImportError as error:
        raise InputError('ONNX files need onnx: pip install "pdn_jax[export]"') from error


class Builder:
    """Collects nodes and constants; called with an operator's name it adds one and gives its output.

    Inputs are names of values, or numbers and arrays, which become constants.
    """

    def __init__(self, onnx: ModuleType, half: bool = False, outer: "Builder | None" = None):
        """Nothing is there yet.

        Args:
            onnx: the library.
            half: whether `weight` stores float16.
            outer: of the graph that this one is a branch of.
        """
        self.onnx, self.half = onnx, half
        self.nodes: list[Any] = []
        self.constants: dict[tuple, Any] = outer.constants if outer else {}
        self.count: list[int] = outer.count if outer else [0]

    def __call__(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node.

        Args:
            kind: the operator.
            *inputs: names, numbers or arrays.
            outputs: how many it has.
            **attributes: of the operator.

        Returns:
            The name of its output, or of each.
        """
        names = [self._new(kind) for _ in range(outputs)]
        given = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(self.onnx.helper.make_node(kind, given, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any) -> str:
        """A constant of float32, or of int64 where it is of integers; equal ones are one.

        Args:
            value: numbers.

        Returns:
            Its name.

        Raises:
            ValueError: for anything but numbers.
        """
        array = np.asarray(value)
        if array.dtype.kind != "f" and array.dtype.kind != "i":
            raise ValueError(f"constants are numbers, got {array.dtype}")
        if array.dtype != np.float16:
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        array = np.ascontiguousarray(array) if array.ndim else array
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = self._new("constant")
            self.constants[key] = self.onnx.numpy_helper.from_array(array, name)
        return self.constants[key].name

    def weight(self, value: np.ndarray) -> str:
        """A parameter, stored in half precision if asked for; it is computed with in float32.

        Args:
            value: float32.

        Returns:
            The name of its value in float32.
        """
        if not self.half:
            return self.constant(value)
        return self("Cast", value.astype(np.float16), to=self.onnx.TensorProto.FLOAT)

    def _new(self, kind: str) -> str:
        self.count[0] += 1
        return f"{kind}_{self.count[0]}"


def file_of(
    add: Builder, name: str, inputs: Sequence, outputs: Sequence, facts: Mapping[str, str]
) -> bytes:
    """A graph as a file.

    Args:
        add: has the nodes.
        name: of the graph.
        inputs: onnx's descriptions of them.
        outputs: likewise.
        facts: what the file says of itself.

    Returns:
        The bytes.
    """
    helper = add.onnx.helper
    graph = helper.make_graph(add.nodes, name, inputs, outputs, list(add.constants.values()))
    proto = helper.make_model(
        graph,
        ir_version=IR,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="pdn_jax",
    )
    helper.set_model_props(proto, dict(facts))
    add.onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()
