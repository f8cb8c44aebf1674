"""The network as an ONNX graph, written node by node from its parameters: no tracing, no JAX.

Mirrors `enhancement`, `denoising`, `model` and `dial`. Channels come first inside, which is what
ONNX Runtime is fast with; photographs come and go as [n, h, w, 3].
"""

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from pdn_jax.errors import InputError
from pdn_jax.layout import REDUCTION, cells

OPSET, IR = 18, 9
"""Versions of the operators and of the file: ONNX Runtime 1.17 and later read them."""

CURVE_A, CURVE_B, FLOOR = -0.3293, 1.1258, 1.0 / 1020.0
MAX_BLACK, MAX_BRIGHTENING, QUANTIZATION = 0.1, 12.0, 1.0 / (12.0 * 255.0**2)
SOFTENING = 0.05
"""As `image`, `enhancement` and `dial` have them, which import jax; a test holds them equal."""

Leaf = Mapping[str, np.ndarray]
"""A layer's parameters in the Flax tree: `kernel` and `bias`."""


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


# --- layers and images -----------------------------------------------------------------------


def layer(add: Builder, leaf: Leaf, features: str, inputs: slice = slice(None)) -> str:
    """A 3×3 convolution with zeros around the image, or a dense layer of every pixel.

    Args:
        add: gets the nodes.
        leaf: kernel [3, 3, c, d] or [c, d], and bias [d].
        features: [n, c, h, w].
        inputs: which of the kernel's c are there, where others are known to be zeros.

    Returns:
        [n, d, h, w].
    """
    kernel = np.asarray(leaf["kernel"], np.float32)
    kernel = (kernel[None, None] if kernel.ndim == 2 else kernel)[:, :, inputs]
    side = kernel.shape[0]
    given = (add.weight(kernel.transpose(3, 2, 0, 1)), add.weight(np.float32(leaf["bias"])))
    return add("Conv", features, *given, kernel_shape=[side, side], pads=[side // 2] * 4)


def pool(add: Builder, image: str, factor: int) -> str:
    """As `image.pool`.

    Args:
        add: gets the nodes.
        image: [n, c, h, w].
        factor: f.

    Returns:
        [n, c, h/f, w/f].
    """
    if factor == 1:
        return image
    return add("AveragePool", image, kernel_shape=[factor, factor], strides=[factor, factor])


def enlarge(add: Builder, image: str, factor: int, mode: str = "linear") -> str:
    """As `image.upsample`, or as `denoising.repeat`.

    Args:
        add: gets the nodes.
        image: [n, c, h, w].
        factor: f.
        mode: "linear" or "nearest".

    Returns:
        [n, c, f·h, f·w].
    """
    if factor == 1:
        return image
    how = {"linear": "half_pixel", "nearest": "asymmetric"}[mode]
    scales = np.float32([1, 1, factor, factor])
    options = {"nearest_mode": "floor"} if mode == "nearest" else {}
    return add(
        "Resize",
        image,
        "",
        scales,
        mode=mode,
        coordinate_transformation_mode=how,
        **options,
    )


def look(add: Builder, leaf: Leaf, images: Sequence[tuple[str, int]]) -> str:
    """A 3×3 convolution over blocks of pixels, as one of 3f×3f pixels that moves by f.

    So that no pixel is moved into channels first.

    Args:
        add: gets the nodes.
        leaf: kernel [3, 3, c, d] and bias [d], c those of the blocks of all images.
        images: [n, 3, f·h, f·w] and f of each.

    Returns:
        [n, d, h, w].
    """
    kernel, total, begin = np.asarray(leaf["kernel"], np.float32), "", 0
    for image, block in images:
        part = kernel[:, :, begin : begin + 3 * block**2].reshape(3, 3, block, block, 3, -1)
        part = part.transpose(0, 2, 1, 3, 4, 5).reshape(3 * block, 3 * block, 3, -1)
        given = [image, add.weight(part.transpose(3, 2, 0, 1))]
        given += [] if total else [add.weight(np.float32(leaf["bias"]))]
        sides = {"kernel_shape": [3 * block] * 2, "strides": [block] * 2, "pads": [block] * 4}
        seen = add("Conv", *given, **sides)
        total, begin = add("Add", total, seen) if total else seen, begin + 3 * block**2
    return total


def encode(add: Builder, image: str) -> str:
    """As `enhancement.encode`.

    Args:
        add: gets the nodes.
        image: any shape.

    Returns:
        That shape.
    """
    stops = add("Log", add("Add", image, 1.0 / 255.0))
    return add("Mul", add("Add", stops, 2.75), 1.0 / 2.75)


def summary(add: Builder, features: str) -> str:
    """As `enhancement.summary`.

    Args:
        add: gets the nodes.
        features: [n, c, h, w].

    Returns:
        [n, 2c, 1, 1].
    """
    mean, largest = add("GlobalAveragePool", features), add("GlobalMaxPool", features)
    return add("Concat", mean, largest, axis=1)


def apply_curve(add: Builder, image: str, exponent: str) -> str:
    """As `image.apply_curve`, of an image that is above the floor: exp(b + c·(ln x − b)).

    Args:
        add: gets the nodes.
        image: [n, 3, h, w].
        exponent: c, of that shape.

    Returns:
        That shape.
    """
    stops = add("Mul", add("Sub", add("Log", image), CURVE_B), exponent)
    return add("Exp", add("Add", stops, CURVE_B))


def floored(add: Builder, image: str) -> str:
    """What the exposure curve can take.

    Args:
        add: gets the nodes.
        image: any shape.

    Returns:
        That shape, nothing below the floor.
    """
    return add("Max", image, FLOOR)


# --- from dark to light ----------------------------------------------------------------------


def differences(add: Builder, low: str, axis: int) -> str:
    """Means over 8×8 pixels of |difference| to the next along an axis; the last takes the one before.

    Args:
        add: gets the nodes.
        low: [n, 3, h, w].
        axis: 2 or 3.

    Returns:
        [n, 3, h/8, w/8].
    """
    end = np.iinfo(np.int64).max
    following = add("Slice", low, [1], [end], [axis])
    here = add("Slice", low, [0], [-1], [axis])
    apart = add("Abs", add("Sub", following, here))
    widths = np.zeros(8, np.int64)
    widths[4 + axis] = 1
    return pool(add, add("Pad", apart, widths, mode="edge"), REDUCTION)


class Brightened:
    """What the enhancement module makes of a photograph, by the names of its values.

    image: x_S [n, 3, h, w]. exponent: of its curve, of that shape. noise: its standard deviation
    [n, 3, h/8, w/8]. context: [n, width, h/8, w/8].
    """

    def __init__(self, image: str, exponent: str, noise: str, context: str):
        self.image, self.exponent, self.noise, self.context = image, exponent, noise, context


def brighten(add: Builder, tree: Mapping, model: Mapping, low: str) -> Brightened:
    """As `enhancement.Enhancement` and `enhancement.lift`.

    Args:
        add: gets the nodes.
        tree: the enhancement module's parameters.
        model: keyword arguments of the network.
        low: [n, 3, h, w].

    Returns:
        `Brightened`.
    """
    small, texture = pool(add, low, REDUCTION), differences(add, low, 3)
    if model.get("texture", "both") == "both":
        texture = add("Mul", add("Add", texture, differences(add, low, 2)), 0.5)
    both = add("Concat", encode(add, small), encode(add, texture), axis=1)
    observed = layer(add, tree["first"], both)
    memory = add("Tanh", observed)

    facts = add("Relu", layer(add, tree["facts"], summary(add, memory)))
    black = add("Mul", add("Sigmoid", layer(add, tree["black"], facts)), MAX_BLACK)
    logs = add("Sub", layer(add, tree["noise"], facts), np.float32([7.5, 14.0])[:, None, None])
    least, most = (np.float32(ends)[:, None, None] for ends in ([-14.0, -24.0], [-2.0, -4.0]))
    sigmas = add("Exp", add("Min", add("Max", logs, least), most))
    shot, read = add("Split", sigmas, outputs=2, axis=1, num_outputs=2)

    start = floored(add, add("Sub", small, black))
    total, current = "", start
    for index in range(model["stages"]):
        increment, memory = stage(add, tree["stage"], observed, current, memory)
        room = add("Sub", MAX_BRIGHTENING, total) if total else MAX_BRIGHTENING
        increment = add("Min", increment, room)
        total = add("Add", total, increment) if total else increment
        exponent = add("Exp", add("Mul", total, CURVE_A))
        if index + 1 < model["stages"] or model.get("noise_map", True):
            current = apply_curve(add, start, exponent)
    noise = ""
    if model.get("noise_map", True):
        noise = amplified_noise(add, small, start, current, exponent, (shot, read))
    exponent = enlarge(add, exponent, REDUCTION)
    image = apply_curve(add, floored(add, add("Sub", low, black)), exponent)
    return Brightened(image, exponent, noise, memory)


def stage(
    add: Builder, tree: Mapping, observed: str, current: str, memory: str
) -> tuple[str, str]:
    """As `enhancement.Stage`.

    Args:
        add: gets the nodes.
        tree: its parameters.
        observed: features of y.
        current: x_{s−1}.
        memory: all [n, c, h/8, w/8].

    Returns:
        δ_s ≥ 0 and the new memory.
    """
    a = add("Add", layer(add, tree["look"], memory), observed)
    a = add("Add", a, layer(add, tree["current"], encode(add, current)))
    a = add("Add", a, layer(add, tree["whole"], summary(add, memory)))
    a = add("Relu", layer(add, tree["think"], add("Relu", a)))
    gate = add("Sigmoid", layer(add, tree["gate"], a))
    new = add("Tanh", layer(add, tree["remember"], a))
    memory = add("Add", memory, add("Mul", gate, add("Sub", new, memory)))
    return add("Softplus", layer(add, tree["step"], memory)), memory


def amplified_noise(
    add: Builder, small: str, start: str, bright: str, exponent: str, sigmas: tuple[str, str]
) -> str:
    """As `enhancement.amplified_noise`, of an image in [0, 1].

    Args:
        add: gets the nodes.
        small: the observation.
        start: less its black level.
        bright: that after the brightening.
        exponent: of the curve; all [n, 3, h/8, w/8].
        sigmas: σs and σr [n, 1, 1, 1].

    Returns:
        The standard deviation, of that shape.
    """
    base = add("Mul", add("Add", add("Max", small, 0.04045), 0.055), 1.0 / 1.055)
    dark = add("LessOrEqual", small, 0.04045)
    light = add("Where", dark, add("Mul", small, 1.0 / 12.92), add("Pow", base, 2.4))
    steep = add("Mul", add("Pow", base, 1.4), 2.4 / 1.055)
    slope = add("Where", dark, 1.0 / 12.92, steep)
    shot, read = sigmas
    variance = add("Add", add("Mul", light, shot), read)
    variance = add("Add", add("Div", variance, add("Mul", slope, slope)), QUANTIZATION)
    gain = add("Div", add("Mul", exponent, bright), start)
    return add("Mul", add("Sqrt", variance), gain)


# --- from coarse to fine ---------------------------------------------------------------------


def denoise(add: Builder, tree: Mapping, model: Mapping, bright: Brightened) -> str:
    """As `denoising.Denoising`.

    Args:
        add: gets the nodes.
        tree: the denoising module's parameters.
        model: keyword arguments of the network.
        bright: of `brighten`.

    Returns:
        The restored photograph [n, 3, h, w].
    """
    sides, levels = cells(model["blocks"]), len(model["blocks"])
    images = [bright.image]
    for _ in range(levels - 1):
        images.append(pool(add, images[-1], 2))
    features, correction, grid = bright.context, "", REDUCTION
    for index, (depth, block) in enumerate(zip(model["depths"], model["blocks"], strict=True)):
        level = levels - 1 - index
        part, lift = tree[f"level{level}"], tree[f"lift{level}"]
        if bright.noise:
            expected = add(
                "Mul", enlarge(add, bright.noise, REDUCTION // grid), 1.0 / 2**level
            )
            condition = layer(add, lift, add("Concat", features, expected, axis=1))
        else:
            condition = layer(add, lift, features, slice(0, -3))
        condition = enlarge(add, condition, grid // sides[index], "nearest")
        seen = [(images[level], block)]
        seen += [(correction, block // 2)] if correction else []
        a = add("Relu", add("Add", look(add, part["look"], seen), condition))
        for pair in range(depth):
            b = add("Relu", layer(add, part[f"a{pair}"], a))
            a = add("Add", a, layer(add, part[f"b{pair}"], b))
        residual = layer(add, part["residual"], add("Relu", a))
        residual = add("DepthToSpace", residual, blocksize=block, mode="DCR")
        if correction:
            residual = add("Add", enlarge(add, correction, 2), residual)
        features, correction, grid = a, residual, sides[index]
    return add("Add", bright.image, correction)


# --- the dials, and the file -----------------------------------------------------------------


def dialled(add: Builder, restored: str, bright: Brightened, exposure: str, strength: str) -> str:
    """As `dial.dial`, in a branch that is taken only where a dial is not 1.

    Args:
        add: gets the nodes.
        restored: [n, 3, h, w].
        bright: of `brighten`.
        exposure: κ, a scalar.
        strength: of denoising, a scalar.

    Returns:
        [n, 3, h, w], not clipped.
    """
    inner = Builder(add.onnx, outer=add)
    noisy = inner("Mul", bright.image, inner("Sub", 1.0, strength))
    base = inner("Add", inner("Mul", restored, strength), noisy)
    path = inner("Mul", inner("Log", bright.exponent), 1.0 / CURVE_A)
    mean = inner("Add", inner("ReduceMean", path, [1, 2, 3]), SOFTENING)
    together = inner("Add", inner("ReduceMean", path, [1]), SOFTENING)
    apart = inner("Sub", 2.0, inner("Div", inner("Mul", together, 4.0), mean))
    apart = inner("Clip", apart, 0.0, 1.0)
    own = inner("Sub", inner("Add", path, SOFTENING), together)
    share = inner("Div", inner("Add", together, inner("Mul", apart, own)), mean)
    exponent = inner("Exp", inner("Mul", share, inner("Mul", inner("Log", exposure), CURVE_A)))
    curve = apply_curve(inner, floored(inner, base), exponent)
    inner("Where", inner("Equal", exposure, 1.0), base, curve)

    outer = Builder(add.onnx, outer=add)
    outer("Identity", restored)
    neutral = add("And", add("Equal", exposure, 1.0), add("Equal", strength, 1.0))
    return add(
        "If", neutral, then_branch=_branch(outer, "neutral"), else_branch=_branch(inner, "dialled")
    )


def _branch(add: Builder, name: str) -> Any:
    helper, kind = add.onnx.helper, add.onnx.TensorProto.FLOAT
    output = helper.make_tensor_value_info(add.nodes[-1].output[0], kind, (None, 3, None, None))
    return helper.make_graph(add.nodes, name, [], [output])


def model_file(
    params: Mapping,
    model: Mapping[str, Any],
    facts: Mapping[str, str],
    size: Sequence[int] | None = None,
    *,
    half: bool = False,
) -> bytes:
    """The whole network with its dials as an ONNX file.

    Args:
        params: {"params": {...}} as Flax gives it, float32.
        model: keyword arguments of the network.
        facts: what the file says of itself.
        size: height and width, divisible by 8; None for a batch of any such.
        half: whether parameters are stored in half precision.

    Returns:
        The bytes. Inputs: photograph [n, h, w, 3], exposure and denoise, scalars; output: restored
        [n, h, w, 3]; float32, sRGB in [0, 1].

    Raises:
        InputError: where onnx is not installed.
    """
    onnx = library()
    helper, kind, tree = onnx.helper, onnx.TensorProto.FLOAT, params["params"]
    add = Builder(onnx, half)
    low = add("Transpose", "photograph", perm=[0, 3, 1, 2])
    bright = brighten(add, tree["enhancement"], model, low)
    restored = denoise(add, tree["denoising"], model, bright)
    image = dialled(add, restored, bright, "exposure", "denoise")
    image = add("Transpose", add("Clip", image, 0.0, 1.0), perm=[0, 2, 3, 1])
    add.nodes[-1].output[0] = "restored"

    shape = ("batch", "height", "width", 3) if size is None else (1, *size, 3)
    inputs = [helper.make_tensor_value_info("photograph", kind, shape)]
    inputs += [helper.make_tensor_value_info(name, kind, ()) for name in ("exposure", "denoise")]
    outputs = [helper.make_tensor_value_info("restored", kind, shape)]
    graph = helper.make_graph(
        add.nodes, "restore", inputs, outputs, list(add.constants.values())
    )
    proto = helper.make_model(
        graph, ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="pdn_jax"
    )
    helper.set_model_props(proto, dict(facts))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()
