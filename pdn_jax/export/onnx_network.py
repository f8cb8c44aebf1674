"""The network as an ONNX graph, written node by node from its parameters: nothing is traced.

Mirrors `enhancement`, `denoising`, `model` and `dial`. Channels come first inside, which is what
ONNX Runtime is fast with; photographs come and go as [n, h, w, 3].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pdn_jax import image as im
from pdn_jax.dial import SOFTENING
from pdn_jax.enhancement import MAX_BLACK, QUANTIZATION
from pdn_jax.export.onnx_builder import Builder, file_of, library
from pdn_jax.export.onnx_evidence import decided, evidence, limited, lit, means
from pdn_jax.export.onnx_layers import (
    apply_curve,
    differences,
    encode,
    enlarge,
    floored,
    layer,
    look,
    pool,
    summary,
)
from pdn_jax.layout import REDUCTION, cells

_END = np.iinfo(np.int64).max

# --- from dark to light ----------------------------------------------------------------------


class Estimate:
    """What the whole photograph is needed for, by the names of its values, as `layout.GlobalPass`.

    black: its black level [n, 3, 1, 1]. increments: δ of each stage. exponent: of the curve of all,
    and noise: its standard deviation, or "", both [n, 3, h/8, w/8]. context: [n, width, h/8, w/8], with
    evidence a channel more.
    """

    def __init__(self, black: str, increments: list[str], exponent: str, noise: str, context: str):
        self.black, self.increments, self.exponent = black, increments, exponent
        self.noise, self.context = noise, context


def observe(add: Builder, model: Mapping, low: str) -> tuple[str, str]:
    """As `enhancement.observe`.

    Args:
        add: gets the nodes.
        model: keyword arguments of the network.
        low: [n, 3, h, w].

    Returns:
        Means and textures of 8×8 pixels [n, 3, h/8, w/8].
    """
    small, texture = pool(add, low, REDUCTION), differences(add, low, 3)
    if model.get("texture", "both") == "both":
        texture = add("Mul", add("Add", texture, differences(add, low, 2)), 0.5)
    return small, texture


def estimated(add: Builder, tree: Mapping, model: Mapping, small: str, texture: str) -> Estimate:
    """As `enhancement.Enhancement`, on the grid.

    Args:
        add: gets the nodes.
        tree: the enhancement module's parameters.
        model: keyword arguments of the network.
        small: of `observe`.
        texture: of `observe`.

    Returns:
        `Estimate`.
    """
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
    total, current, increments = "", start, []
    for index in range(model["stages"]):
        increment, memory = stage(add, tree["stage"], observed, current, memory)
        room = add("Sub", im.MAX_BRIGHTENING, total) if total else im.MAX_BRIGHTENING
        increments.append(add("Min", increment, room))
        total = add("Add", total, increments[-1]) if total else increments[-1]
        if index + 1 < model["stages"]:
            current = apply_curve(add, start, add("Exp", add("Mul", total, im.CURVE_A)))
    if model.get("evidence", False):
        tried = means(add, small, black, total)
        seen, there = evidence(add, small, texture), lit(add, small)
        amount = decided(add, tree["target"], seen, tried, there)
        increments, total = limited(add, [add("Mul", amount, delta) for delta in increments])
        black = add("Mul", amount, black)
        start = floored(add, add("Sub", small, black))
        everywhere = add("Expand", amount, add("Shape", add("Slice", memory, [0], [1], [1])))
        memory = add("Concat", memory, everywhere, axis=1)
    exponent = add("Exp", add("Mul", total, im.CURVE_A))
    noise = ""
    if model.get("noise_map", True):
        bright = apply_curve(add, start, exponent)
        noise = amplified_noise(add, small, start, bright, exponent, (shot, read))
    return Estimate(black, increments, exponent, noise, memory)


class Brightened:
    """What the enhancement module makes of a photograph, by the names of its values.

    image: x_S [n, 3, h, w]. exponent: of its curve, of that shape. noise: its standard deviation
    [n, 3, h/8, w/8]. context: [n, width, h/8, w/8].
    """

    def __init__(self, image: str, exponent: str, noise: str, context: str):
        self.image, self.exponent, self.noise, self.context = image, exponent, noise, context


def lift(add: Builder, low: str, estimate: Estimate) -> Brightened:
    """As `enhancement.lift`.

    Args:
        add: gets the nodes.
        low: [n, 3, h, w].
        estimate: of the whole photograph, its part under this one.

    Returns:
        `Brightened`.
    """
    exponent = enlarge(add, estimate.exponent, REDUCTION)
    image = apply_curve(add, floored(add, add("Sub", low, estimate.black)), exponent)
    return Brightened(image, exponent, estimate.noise, estimate.context)


def stage(add: Builder, tree: Mapping, observed: str, current: str, memory: str) -> tuple[str, str]:
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


def denoise(
    add: Builder, tree: Mapping, model: Mapping, bright: Brightened
) -> list[tuple[str, str]]:
    """As `denoising.Denoising`.

    Args:
        add: gets the nodes.
        tree: the denoising module's parameters.
        model: keyword arguments of the network.
        bright: of `lift`.

    Returns:
        The brightened photograph and what to add to it at each level, coarse to fine.
    """
    sides, levels = cells(model["blocks"]), len(model["blocks"])
    images, pairs = [bright.image], []
    for _ in range(levels - 1):
        images.append(pool(add, images[-1], 2))
    features, correction, grid = bright.context, "", REDUCTION
    for index, (depth, block) in enumerate(zip(model["depths"], model["blocks"], strict=True)):
        level = levels - 1 - index
        part, lift = tree[f"level{level}"], tree[f"lift{level}"]
        if bright.noise:
            expected = add("Mul", enlarge(add, bright.noise, REDUCTION // grid), 1.0 / 2**level)
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
        pairs.append((images[level], correction))
    if model.get("evidence", False):
        begin = add("Slice", bright.context, [-1, 0, 0], [_END, 1, 1], [1, 2, 3])
        pairs = [(image, add("Mul", begin, correction)) for image, correction in pairs]
    return pairs


# --- the dials, and the file -----------------------------------------------------------------


def dialled(add: Builder, restored: str, bright: Brightened, exposure: str, strength: str) -> str:
    """As `dial.dial`, in a branch that is taken only where a dial is not 1.

    Args:
        add: gets the nodes.
        restored: [n, 3, h, w].
        bright: of `lift`.
        exposure: κ, a scalar.
        strength: of denoising, a scalar.

    Returns:
        [n, 3, h, w], not clipped.
    """
    inner = Builder(add.onnx, outer=add)
    noisy = inner("Mul", bright.image, inner("Sub", 1.0, strength))
    base = inner("Add", inner("Mul", restored, strength), noisy)
    path = inner("Mul", inner("Log", bright.exponent), 1.0 / im.CURVE_A)
    mean = inner("Add", inner("ReduceMean", path, [1, 2, 3]), SOFTENING)
    together = inner("Add", inner("ReduceMean", path, [1]), SOFTENING)
    apart = inner("Sub", 2.0, inner("Div", inner("Mul", together, 4.0), mean))
    apart = inner("Clip", apart, 0.0, 1.0)
    own = inner("Sub", inner("Add", path, SOFTENING), together)
    share = inner("Div", inner("Add", together, inner("Mul", apart, own)), mean)
    exponent = inner("Exp", inner("Mul", share, inner("Mul", inner("Log", exposure), im.CURVE_A)))
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
    estimate = estimated(add, tree["enhancement"], model, *observe(add, model, low))
    bright = lift(add, low, estimate)
    restored = add("Add", *denoise(add, tree["denoising"], model, bright)[-1])
    image = dialled(add, restored, bright, "exposure", "denoise")
    image = add("Transpose", add("Clip", image, 0.0, 1.0), perm=[0, 2, 3, 1])
    add.nodes[-1].output[0] = "restored"

    shape = ("batch", "height", "width", 3) if size is None else (1, *size, 3)
    inputs = [helper.make_tensor_value_info("photograph", kind, shape)]
    inputs += [helper.make_tensor_value_info(name, kind, ()) for name in ("exposure", "denoise")]
    outputs = [helper.make_tensor_value_info("restored", kind, shape)]
    return file_of(add, "restore", inputs, outputs, facts)
