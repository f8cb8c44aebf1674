"""The page without a server of its own: a folder for any, or a single file that needs none.

    folder.write("public", ["small", "tiny"])
    folder.write("pdn_jax.html", ["small", "tiny"])

The networks, and what runs them in a browser, lie beside the page or in it.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pdn_jax import __version__, layout, page
from pdn_jax import weights as files
from pdn_jax.errors import InputError
from pdn_jax.export import formats, onnx_parts
from pdn_jax.files import atomic_write
from pdn_jax.page import npm

RUNTIMES = {
    "wasm": (
        "ort.wasm.min.mjs",
        "ort-wasm-simd-threaded.mjs",
        "ort-wasm-simd-threaded.wasm",
    ),
    "webgpu": (
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}
"""Files of `npm.RUNTIME`: the small one for processors, and the larger one, which also has WebGPU."""

OFFLINE, SINGLE = "worker-offline.js", "single.js"
"""Scripts of a folder alone, and of a single file alone."""

TITLE = b"<title>pdn_jax</title>"
"""What an index.html of ours has."""

MEGAPIXELS = 40
"""What a photograph may have at most in a browser, whose tabs get a few GB of memory."""


def write(
    folder: str | Path,
    names: Sequence[str],
    *,
    overwrite: bool = False,
    cache: Path | None = None,
) -> int:
    """Make or renew the folder, or a single file where the name ends in .html.

    Args:
        folder: what is there already stays, but for files of these names.
        names: of the weights, as `weights.load` takes them; the first is chosen at first.
        overwrite: whether files may be replaced that are not those of such a page; a single file is
            replaced only with this.
        cache: where packages of JavaScript are kept; by default in the user's cache folder.

    Returns:
        Bytes of all files.

    Raises:
        InputError: for weights that cannot be used, where something is missing, the disk refuses, or a file is
            there that may not be replaced.
    """
    folder, single = Path(folder), Path(folder).suffix.lower() in (".html", ".htm")
    if folder.is_dir() if single else folder.is_file():
        what = "folder: give the name of a file" if single else "file: give the name of a folder"
        raise InputError(f"{folder} is a {what}")
    if not overwrite and (theirs := _theirs(folder, single)):
        raise InputError(f"{theirs} exists: choose another name or allow it (--overwrite)")
    kinds = ["wasm"] if single else list(RUNTIMES)
    config, contents = _networks(names, kinds)
    archive = npm.archive(npm.RUNTIME, cache or npm.cache())
    members = {f"package/dist/{name}": _called(name) for kind in kinds for name in RUNTIMES[kind]}
    contents |= npm.unpacked(archive, members)
    if single:
        contents = {folder.name: _single_file(config, contents)}
        folder = folder.parent
    else:
        contents |= _site(config, contents)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            with atomic_write(folder / name) as file:
                file.write(data)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    return sum(map(len, contents.values()))


def _theirs(folder: Path, single: bool) -> Path | None:
    """A file that is there, would be replaced, and may be a person's own."""
    if single:
        return folder if folder.exists() else None
    try:
        if TITLE in (folder / "index.html").read_bytes():
            return None
    except OSError:
        pass  # none, or none that can be read
    names = [*(path.name for path in page.SITE.iterdir()), "config.json"]
    return next((folder / name for name in sorted(names) if (folder / name).exists()), None)


def _called(name: str) -> str:
    """What a file of the runtime is called beside the page: another version is another file."""
    return f"runtime-{npm.RUNTIME.version}-{name}"


def _networks(names: Sequence[str], kinds: Sequence[str]) -> tuple[dict, dict[str, bytes]]:
    """What the page is told, and the files of the networks."""
    networks, contents = {}, {}
    for name in names:
        described, files_of = variant(name)
        if described["name"] in networks:
            raise InputError(f"{described['name']} is named twice: a page has one of each name")
        networks[described["name"]] = described
        contents |= files_of
    config = {
        "engine": "local",
        "version": __version__,
        "variants": list(networks),
        "chosen": next(iter(networks)),
        "bytes": None,
        "pixels": MEGAPIXELS * 10**6,
        "networks": networks,
        "runtime": {kind: [_called(name) for name in RUNTIMES[kind]] for kind in kinds},
    }
    return config, contents


def _site(config: dict, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The page's own files; the one that keeps them for later knows them all, the runtime aside."""
    site = {path.name: path.read_bytes() for path in sorted(page.SITE.iterdir())}
    del site[SINGLE]
    offline = site.pop(OFFLINE).decode()
    site["config.json"] = json.dumps(config, indent=1).encode()
    kept = {**site, **{name: data for name, data in contents.items() if name.endswith(".onnx")}}
    stamp = hashlib.sha256(b"".join(kept[name] for name in sorted(kept))).hexdigest()[:16]
    offline = offline.replace("__STAMP__", stamp).replace("__FILES__", json.dumps(list(kept)))
    return {**site, OFFLINE: offline.encode()}


def _single_file(config: dict, contents: Mapping[str, bytes]) -> bytes:
    """All of it in one page, which `single.js` starts."""
    inside = {name: base64.b64encode(data).decode() for name, data in contents.items()}
    text = (page.SITE / "index.html").read_text()
    for path in sorted(page.SITE.glob("*.js")):
        if path.name not in (OFFLINE, SINGLE, "served.js"):
            inside[path.name] = path.read_text()
    listed = json.dumps({"config": config, "files": inside}).replace("<", "\\u003c")
    icon = base64.b64encode((page.SITE / "icon.svg").read_bytes()).decode()
    replaced = {
        '<script type="module" src="main.js"></script>\n': "",
        '<link rel="stylesheet" href="page.css">': f"<style>{(page.SITE / 'page.css').read_text()}</style>",
        'href="icon.svg"': f'href="data:image/svg+xml;base64,{icon}"',
        "</body>": f'<script type="application/json" id="embedded">{listed}</script>\n'
        f"<script>{(page.SITE / SINGLE).read_text()}</script>\n</body>",
    }
    for before, after in replaced.items():
        if text.count(before) != 1:
            raise AssertionError(f"index.html has not one {before}")
        text = text.replace(before, after)
    return text.encode()


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
        "levels": len(model["blocks"]),
        "overlap": layout.margin(model["depths"], model["blocks"]),
        "texture": model.get("texture", "both"),
    }
    return described, contents
