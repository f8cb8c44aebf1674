"""The page as a folder of files: the networks and what runs them in a browser lie beside it.

folder.write("public", ["tiny", "small"])
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pdn_jax import __version__, layout, page
from pdn_jax import weights as files
from pdn_jax.errors import InputError
from pdn_jax.export import formats, onnx_parts
from pdn_jax.files import atomic_write
from pdn_jax.page import npm

RUNTIMES = {
    f"package/dist/{name}": f"runtime-{npm.RUNTIME.version}-{name}"
    for name in (
        "ort.wasm.min.mjs",
        "ort-wasm-simd-threaded.mjs",
        "ort-wasm-simd-threaded.wasm",
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    )
}
"""Files of `npm.RUNTIME`: the small one for processors, the larger one, which also has WebGPU."""

MEGAPIXELS = 40
"""What a photograph may have at most in a browser, whose tabs get a few GB of memory."""


def write(folder: str | Path, names: Sequence[str], *, cache: Path | None = None) -> int:
    """Make or renew the folder.

    Args:
        folder: what is there already stays, but for files of these names.
        names: of the weights, as `weights.load` takes them; the first is chosen at first.
        cache: where packages of JavaScript are kept; by default in the user's cache folder.

    Returns:
        Bytes of all files.

    Raises:
        InputError: for weights that cannot be used, where something is missing, or the disk refuses.
    """
    folder = Path(folder)
    variants, models = [], {}
    for name in names:
        described, contents = variant(name)
        if described["name"] in [each["name"] for each in variants]:
            raise InputError(f"{described['name']} is named twice: a page has one of each name")
        variants.append(described)
        models |= contents
    archive = npm.archive(npm.RUNTIME, cache or npm.cache())
    site = {path.name: path.read_bytes() for path in sorted(page.SITE.iterdir())}
    config = {
        "engine": "local",
        "version": __version__,
        "variants": [each["name"] for each in variants],
        "chosen": variants[0]["name"],
        "bytes": None,
        "pixels": MEGAPIXELS * 10**6,
        "networks": {each["name"]: each for each in variants},
    }
    site["config.json"] = json.dumps(config, indent=1).encode()
    everything = {**site, **models}
    stamp = hashlib.sha256(b"".join([*everything.values(), npm.RUNTIME.digest.encode()]))
    first = [name for name in everything if name != "worker-offline.js"]
    offline = everything["worker-offline.js"].decode()
    offline = offline.replace("__STAMP__", stamp.hexdigest()[:16])
    everything["worker-offline.js"] = offline.replace("__FILES__", json.dumps(first)).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in everything.items():
            with atomic_write(folder / name) as file:
                file.write(data)
        npm.unpack(archive, RUNTIMES, folder)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    return sum((folder / name).stat().st_size for name in [*everything, *RUNTIMES.values()])


def variant(name: str) -> tuple[dict, dict[str, bytes]]:
    """A network as the page takes it.

    Args:
        name: as `weights.load` takes it.

    Returns:
        What the page must know of it, and its files by name.

    Raises:
        InputError: for weights that cannot be used, or where onnx is missing.
    """
    loaded = files.load(name)
    model, params = loaded.model, files.single(loaded.params)
    facts = formats.metadata(loaded)
    called = name if name in files.SHIPPED else Path(name).name
    contents = {
        f"{called}-whole.onnx": onnx_parts.whole(params, model, facts),
        f"{called}-tile.onnx": onnx_parts.tile(params, model, facts),
    }
    described = {
        "name": called,
        "files": list(contents),
        "runtime": npm.RUNTIME.version,
        "levels": len(model["blocks"]),
        "overlap": layout.margin(model["depths"], model["blocks"]),
        "texture": model.get("texture", "both"),
    }
    return described, contents
