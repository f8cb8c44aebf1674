"""The network as two ONNX graphs, for photographs that no memory holds whole: as `tiling` has them.

`whole` sees the 1/8 grid of all of a photograph, `tile` a part of it with what `whole` said there;
tiles overlap by `layout.margin`. Everything is [1, c, h, w], float32, sRGB from 0 to 1. Dials are not
in them: `dial.dialled` takes what `tile` gives, and so does the page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pdn_jax import image as im
from pdn_jax import shapes
from pdn_jax.export.onnx_builder import Builder, file_of, library
from pdn_jax.export.onnx_network import Estimate, denoise, estimated, lift


def whole(params: Mapping, model: Mapping[str, Any], facts: Mapping[str, str]) -> bytes:
    """What the network estimates from the whole of a photograph, as a file.

    Args:
        params: {"params": {...}} as Flax gives it, float32.
        model: keyword arguments of the network.
        facts: what the file says of itself.

    Returns:
        The bytes. Inputs: small and texture, as `layout.observe` has them, channels first. Outputs:
        black [1, 3, 1, 1], stages [1, 3·S, h/8, w/8], ln k after each, the last of all of them; noise
        [1, 3, h/8, w/8], where the network has it, and context [1, `context_channels`, h/8, w/8].

    Raises:
        InputError: where onnx is not installed.
    """
    add = Builder(library(), half=True)
    estimate = estimated(add, params["params"]["enhancement"], model, "small", "texture")
    totals = estimate.increments[:1]
    for increment in estimate.increments[1:]:
        totals.append(add("Add", totals[-1], increment))
    named = {"black": (estimate.black, 3)}
    named["stages"] = (add("Concat", *totals, axis=1), 3 * len(totals))
    if estimate.noise:
        named["noise"] = (estimate.noise, 3)
    named["context"] = (estimate.context, shapes.context_channels(model))
    return _file(add, "whole", {"small": 3, "texture": 3}, named, facts)


def tile(params: Mapping, model: Mapping[str, Any], facts: Mapping[str, str]) -> bytes:
    """A part of a photograph, brightened and denoised, as a file.

    Args:
        params: {"params": {...}} as Flax gives it, float32.
        model: keyword arguments of the network.
        facts: what the file says of itself.

    Returns:
        The bytes. Inputs: low [1, 3, h, w], sides divisible by 8; black; path, the last three
        channels of `stages`; noise, where there is one, and context, as `whole` gives them, their part
        under this one. Outputs, not clipped: brightened and restored [1, 3, h, w], and level1, level2 …
        at 1/2, 1/4 … of the size, where the network has such levels.

    Raises:
        InputError: where onnx is not installed.
    """
    add, tree = Builder(library(), half=True), params["params"]
    inputs = {"low": 3, "black": 3, "path": 3}
    if model.get("noise_map", True):
        inputs["noise"] = 3
    inputs["context"] = shapes.context_channels(model)
    exponent = add("Exp", add("Mul", "path", im.CURVE_A))
    noise = "noise" if "noise" in inputs else ""
    bright = lift(add, "low", Estimate("black", [], exponent, noise, "context"))
    images = [add("Add", *pair) for pair in denoise(add, tree["denoising"], model, bright)]
    named = {"brightened": (bright.image, 3), "restored": (images[-1], 3)}
    for level, image in enumerate(reversed(images[:-1]), 1):
        named[f"level{level}"] = (image, 3)
    return _file(add, "tile", inputs, named, facts)


def _file(
    add: Builder,
    name: str,
    inputs: Mapping[str, int],
    outputs: Mapping[str, tuple[str, int]],
    facts: Mapping[str, str],
) -> bytes:
    """A file whose values have these names and channels; sizes are open, each value's its own."""
    helper, kind = add.onnx.helper, add.onnx.TensorProto.FLOAT
    for called, (value, _) in outputs.items():
        add.nodes.append(helper.make_node("Identity", [value], [called]))

    def described(channels: Mapping[str, int]) -> Sequence:
        return [
            helper.make_tensor_value_info(key, kind, (1, count, f"{key}_rows", f"{key}_columns"))
            for key, count in channels.items()
        ]

    counts = {called: count for called, (_, count) in outputs.items()}
    return file_of(add, name, described(inputs), described(counts), facts)
