"""A trained network as one file that runs without this package, held against JAX before it is kept.

    data = formats.written(weights.load("small"), "onnx")
    formats.largest_difference(loaded, "onnx", data)

Both formats hold the same program: `photograph` [n, h, w, 3], `exposure` and `denoise`, scalars, in;
the restored photograph out; float32, sRGB in [0, 1]. Sides must be divisible by `layout.REDUCTION`:
whoever calls it mirrors the photograph up to that and cuts the result. ONNX is written by
`onnx_network`, StableHLO by `jax.export`.
"""

import dataclasses
import hashlib
import importlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pdn_jax import __version__, layout, shapes
from pdn_jax import weights as files
from pdn_jax.checks import SMALLEST
from pdn_jax.enhancer import Enhancer
from pdn_jax.errors import InputError
from pdn_jax.export import FORMATS as FORMATS
from pdn_jax.export import onnx_network
from pdn_jax.weights import Weights

STABLEHLO = "1.8.0"
"""The version of StableHLO that files are written in: old enough for every jaxlib that this runs with."""

PLATFORMS = ("cpu", "cuda", "tpu")
"""What a StableHLO file is for, all at once."""

ALLOWED = 1.0 / 255.0
"""By how much a file's result may differ from JAX's, of values in [0, 1]."""

DIALS = ((1.0, 1.0), (0.5, 0.6))
"""Exposure and denoise at which it is compared."""

SIZES = ((104, 160), (48, 64), (16, 120))
"""Height and width at which it is compared, where they are open."""

DARK = ("pictures/packaged-dev-1.jpg", (104, 388, 264, 492))
"""A picture among the bundled weights, and where in it there is a dark photograph."""

Size = tuple[int, int]
"""(height, width)."""
Program = Callable[[np.ndarray, float, float], np.ndarray]
"""(photographs, exposure, denoise) -> restored photographs."""


def check_size(height: int | None, width: int | None) -> Size | None:
    """Hold the size that a file is to be for against what the network takes.

    Args:
        height: of photographs, in pixels; None to leave it open.
        width: likewise.

    Returns:
        Both, or None where both are open.

    Raises:
        InputError: for only one of them, a small one, or one that does not divide.
    """
    if height is None and width is None:
        return None
    for name, side in (("--height", height), ("--width", width)):
        if side is None:
            raise InputError(f"{name} is missing: give both, or neither for any size")
        if side < SMALLEST or side % layout.REDUCTION:
            near = max(SMALLEST, layout.up(side))
            raise InputError(
                f"{name} must be a multiple of {layout.REDUCTION} from {SMALLEST}, got {side}: "
                f"take {near} and mirror photographs up to it"
            )
    return height, width


def metadata(weights: Weights, size: Size | None = None) -> dict[str, str]:
    """What a file says of itself.

    Args:
        weights: that are exported.
        size: height and width, or None for any.

    Returns:
        Text by name. `weights` is the SHA-256 of their .safetensors file.
    """
    with tempfile.TemporaryDirectory(prefix="pdn-jax-export-") as folder:
        files.save(folder, weights)
        digest = hashlib.sha256((Path(folder) / files.FILENAME).read_bytes()).hexdigest()
    return {
        "program": "pdn_jax",
        "version": __version__,
        "licence": "Apache-2.0",
        "variant": weights.variant,
        "weights": f"sha256:{digest}",
        "layout": "NHWC, float32, RGB",
        "colour_space": "sRGB",
        "range": "0 to 1",
        "multiple": str(layout.REDUCTION),
        "smallest": str(SMALLEST),
        "size": "any" if size is None else f"{size[0]}x{size[1]}",
        "exposure": "above 0, 1 for the network's own; 2 is one stop brighter",
        "denoise": "0 to 1",
    }


# --- writing ---------------------------------------------------------------------------------


def written(weights: Weights, form: str, size: Size | None = None, *, half: bool = False) -> bytes:
    """The network as a file.

    Args:
        weights: of this network.
        form: one of `FORMATS`.
        size: height and width, as `check_size` gives them; None for any.
        half: whether parameters are stored in half precision, as bundled ones are anyway;
            they are computed with in float32.

    Returns:
        All bytes of the file.

    Raises:
        InputError: weights of another network, or what writes the format is not installed.
    """
    shapes.check(weights.model, weights.params)
    model = {name: value for name, value in weights.model.items() if name != "dtype"}
    params, facts = files.single(weights.params), metadata(weights, size)
    write = {"onnx": onnx_network.model_file, "stablehlo": stablehlo}[form]
    return write(params, model, facts, size, half=half)


def stablehlo(
    params: Any,
    model: Mapping[str, Any],
    facts: Mapping[str, str],
    size: Size | None = None,
    *,
    half: bool = False,
) -> bytes:
    """The whole network with its dials, for `jax.export.deserialize`; `fun_name` is its metadata.

    Args:
        params: {"params": {...}} as Flax gives it, float32.
        model: keyword arguments of the network.
        facts: what the file says of itself.
        size: height and width; None for a batch of any.
        half: whether parameters are stored in half precision.

    Returns:
        The bytes.

    Raises:
        InputError: flatbuffers is not installed.
    """
    _require("flatbuffers", "StableHLO files")
    import jax
    import jax.numpy as jnp
    from jax import export

    from pdn_jax.dial import dial
    from pdn_jax.model import ProgressiveDualNetwork

    network = ProgressiveDualNetwork(**model)
    stored = files.half(params) if half else params

    def restore(photograph, exposure, denoise):
        weights = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float32), stored)
        return jnp.clip(dial(network.apply(weights, photograph), exposure, denoise), 0.0, 1.0)

    least = SMALLEST // layout.REDUCTION
    batch, height, width = (
        (1, *size)
        if size
        else export.symbolic_shape(
            f"n, {layout.REDUCTION}*h, {layout.REDUCTION}*w",
            constraints=[f"h >= {least}", f"w >= {least}"],
        )
    )
    number = jax.ShapeDtypeStruct((), jnp.float32)
    photograph = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    program = export.export(jax.jit(restore), platforms=PLATFORMS)(photograph, number, number)
    bare = without_locations(program.mlir_module_serialized)
    named = dataclasses.replace(program, fun_name=json.dumps(facts), mlir_module_serialized=bare)
    return bytes(named.serialize())


def without_locations(artifact: bytes) -> bytes:
    """A program without the files and lines that it was traced from, whole paths of one's machine.

    Args:
        artifact: a portable artifact of StableHLO.

    Returns:
        The same program, as another.
    """
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo as dialect
    from jaxlib.mlir.passmanager import PassManager

    with ir.Context() as context:
        dialect.register_dialect(context)
        context.load_all_available_dialects()
        module = dialect.deserialize_portable_artifact(context, artifact)
        PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        return dialect.serialize_portable_artifact(module, STABLEHLO)


def _require(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f'{what} need {module}: pip install "pdn_jax[export]"') from error


# --- held against JAX ------------------------------------------------------------------------


def program(form: str, data: bytes) -> Program:
    """A file as those run it who have it.

    Args:
        form: one of `FORMATS`.
        data: its bytes.

    Returns:
        (photograph [h, w, 3] float32, exposure, denoise) -> the restored one.

    Raises:
        InputError: what runs the format is not installed.
    """
    if form == "onnx":
        runtime = _require("onnxruntime", "ONNX files")
        session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])

        def run(photo, exposure, denoise):
            dials = {"exposure": np.array(exposure, np.float32)}
            dials["denoise"] = np.array(denoise, np.float32)
            return session.run(None, {"photograph": photo[None], **dials})[0][0]
    else:
        import jax
        from jax import export

        restore = jax.jit(export.deserialize(bytearray(data)).call)

        def run(photo, exposure, denoise):
            return np.asarray(restore(photo[None], exposure, denoise)[0])

    return run


def dark_photograph(height: int, width: int) -> np.ndarray:
    """A real photograph from among the bundled pictures, brought to a size.

    Args:
        height: in pixels.
        width: in pixels.

    Returns:
        float32 [h, w, 3], sRGB in [0, 1].
    """
    from PIL import Image

    name, box = DARK
    with Image.open(files.FOLDER / name) as picture:
        photo = picture.convert("RGB").crop(box)
    return np.asarray(photo.resize((width, height)), np.float32) / np.float32(255)


def largest_difference(weights: Weights, form: str, data: bytes, size: Size | None = None) -> float:
    """How far a file's results are from `Enhancer`'s, on a real photograph, with both dials moved.

    Args:
        weights: that were exported.
        form: one of `FORMATS`.
        data: the bytes of the file.
        size: that it is for; None to compare at all of `SIZES`.

    Returns:
        The largest difference of any value, of [0, 1].

    Raises:
        InputError: it is more than `ALLOWED`, or what runs the format is not installed.
    """
    run, enhance, largest = program(form, data), Enhancer(weights), 0.0
    for height, width in (size,) if size else SIZES:
        photo = dark_photograph(height, width)
        for exposure, denoise in DIALS:
            wanted = enhance(photo, exposure=exposure, denoise=denoise)
            apart = float(np.abs(run(photo, exposure, denoise) - wanted).max())
            if not apart <= ALLOWED:
                raise InputError(
                    f"the {form} file differs from JAX by {255 * apart:.2g}/255 at {height}x{width}, "
                    f"exposure {exposure:g}, denoise {denoise:g}, more than {255 * ALLOWED:g}/255: "
                    f"nothing is written; try other versions of what reads {form}"
                )
            largest = max(largest, apart)
    return largest
