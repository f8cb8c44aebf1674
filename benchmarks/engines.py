"""What may run the network: XLA as a user gets it, ONNX Runtime, and PyTorch, eager or compiled.

All take the same random weights and the same random photograph, and use as many threads. On a CPU
they are compared there; on a GPU, PyTorch and ONNX Runtime must have one too.
"""

import importlib.util
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import workers
from benchmarks.count import macs
from pdn_jax import enhancer
from pdn_jax.export import onnx_network
from pdn_jax.model import ProgressiveDualNetwork
from pdn_jax.types import Params
from pdn_jax.weights import Weights

ROUND = 0.3
"""Seconds for which a round at least calls an engine that takes less."""


class Task(NamedTuple):
    """A variant and its network's keyword arguments, the photograph's size, where and in what."""

    variant: str
    model: dict[str, Any]
    height: int
    width: int
    platform: str = "cpu"
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """'tiny, 400×600'."""
        return f"{self.variant}, {self.height}×{self.width}"

    @property
    def in_tiles(self) -> bool:
        """Whether XLA processes it in tiles, 8 bits in and out, as `Enhancer` does."""
        return self.dtype == "float32" and self.height * self.width > enhancer.TILE**2


class Engine(NamedTuple):
    """An engine with the weights loaded.

    feed: photograph [h, w, 3] of uint8 -> what `run` takes. run: returns when the result is there.
    image: that result as [h, w, 3], uint8 or float32. memory: peak bytes on an accelerator.
    """

    feed: Callable[[np.ndarray], Any]
    run: Callable[[Any], Any]
    image: Callable[[Any], np.ndarray]
    memory: Callable[[], int | None] = lambda: None


class Round(NamedTuple):
    """The seconds of every call, and the peak of memory so far, of the whole process on a CPU."""

    seconds: tuple[float, ...]
    memory: int | None


# --- the same network for all ------------------------------------------------------------------


def shapes(task: Task) -> Params:
    """The shapes of the parameters; no device is touched."""
    module = ProgressiveDualNetwork(**task.model)
    low = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    return jax.eval_shape(lambda low: module.init(jax.random.key(0), low), low)


def parameters(task: Task) -> Params:
    """Random parameters that leave the restored photograph between 0 and 1 for the most part."""
    random = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        spread = 0.5 / math.sqrt(math.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.05
        return random.normal(0.0, spread, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes(task))


def photograph(task: Task) -> np.ndarray:
    """Dark noise, uint8."""
    return np.random.default_rng(1).integers(0, 50, (task.height, task.width, 3), np.uint8)


def floats(photo: np.ndarray) -> np.ndarray:
    """A batch of one photograph in [0, 1]."""
    return photo[None].astype(np.float32) / np.float32(255)


def cost(task: Task) -> tuple[int, int]:
    """(multiply-accumulates, bytes of the images in and out and the parameters), overlaps aside."""
    module, params = ProgressiveDualNetwork(**task.model), shapes(task)
    low = jax.ShapeDtypeStruct((1, task.height, task.width, 3), jnp.float32)
    needed = macs(lambda params, low: module.apply(params, low).restored, params, low)
    return needed, 4 * (2 * low.size + sum(leaf.size for leaf in jax.tree.leaves(params)))


# --- the engines -------------------------------------------------------------------------------


def xla(task: Task, params: Params, _: Path) -> Engine:
    """The jitted network, or `Enhancer` where that processes in tiles."""

    def memory() -> int | None:
        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    if task.in_tiles:
        weights = Weights(task.variant, task.model, params, {})
        return Engine(
            feed=lambda photo: photo,
            run=enhancer.Enhancer(weights),
            image=lambda photo: photo,
            memory=memory,
        )
    module = ProgressiveDualNetwork(**task.model, dtype=jnp.dtype(task.dtype))
    params = jax.device_put(params)
    restore = jax.jit(lambda params, low: module.apply(params, low).restored)
    return Engine(
        feed=lambda photo: jax.device_put(floats(photo)),
        run=lambda low: restore(params, low).block_until_ready(),
        image=lambda restored: np.asarray(restored[0]),
        memory=memory,
    )


def exported(task: Task, params: Params, _: Path) -> Engine:
    """ONNX Runtime with what `python -m pdn_jax export` writes for any size; its dials left alone."""
    session = _session(task, onnx_network.model_file(params, task.model, {}))
    neutral = {name: np.ones((), np.float32) for name in ("exposure", "denoise")}
    return Engine(
        feed=floats,
        run=lambda low: session.run(None, {"photograph": low, **neutral})[0],
        image=lambda restored: restored[0],
    )


def onnx(task: Task, _: Params, folder: Path) -> Engine:
    """ONNX Runtime with the file that `export` wrote into the folder."""
    session = _session(task, folder / MODEL)
    name = session.get_inputs()[0].name
    return Engine(
        feed=lambda photo: np.ascontiguousarray(floats(photo).transpose(0, 3, 1, 2)),
        run=lambda low: session.run(None, {name: low})[0],
        image=lambda restored: restored[0].transpose(1, 2, 0),
    )


def _session(task: Task, model: Path | bytes):
    import onnxruntime

    provider = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}[task.platform]
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(f"it has no {provider} here")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = workers.threads()
    return onnxruntime.InferenceSession(model, options, providers=[provider])


MODEL = "network.onnx"
"""What the file is called that ONNX Runtime reads."""


def export(task: Task, folder: Path) -> Iterator[None]:
    """Writes the PyTorch port as an ONNX file for photographs of this size; yields once it is there."""
    network, torch = _port(task, parameters(task))
    low = torch.zeros(1, 3, task.height, task.width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(
            network, (low,), folder / MODEL, dynamo=True, verbose=False, external_data=False
        )
    yield None


def eager(task: Task, params: Params, _: Path) -> Engine:
    """PyTorch as it comes, channels last."""
    return _torch(task, params, lambda network: network)


def compiled(task: Task, params: Params, _: Path) -> Engine:
    """PyTorch with `torch.compile`, for photographs of this size, channels last."""
    import torch

    return _torch(task, params, lambda network: torch.compile(network, dynamic=False))


def _torch(task: Task, params: Params, make: Callable) -> Engine:
    network, torch = _port(task, params)
    device = {"cpu": "cpu", "gpu": "cuda"}[task.platform]
    torch.set_num_threads(workers.threads())
    network = make(network.to(device, memory_format=torch.channels_last))
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def run(low):
        with torch.inference_mode():
            restored = network(low)
        wait()
        return restored

    return Engine(
        feed=lambda photo: torch.from_numpy(floats(photo)).permute(0, 3, 1, 2).to(device),
        run=run,
        image=lambda restored: restored[0].permute(1, 2, 0).cpu().numpy(),
        memory=lambda: torch.cuda.max_memory_allocated() if device == "cuda" else None,
    )


def _port(task: Task, params: Params):
    """(the port, PyTorch itself)."""
    import torch

    from benchmarks import torch_port

    logging.getLogger("torch").setLevel(logging.ERROR)  # not what else might be installed
    return torch_port.Network(params, task.model).eval(), torch


ENGINES = {"xla": xla, "exported": exported, "onnx": onnx, "torch": eager, "compiled": compiled}
"""Name on the command line -> what makes it of (task, parameters, folder with the ONNX file)."""

TITLES = {
    "xla": "XLA",
    "exported": "ONNX Runtime, exported",
    "onnx": "ONNX Runtime",
    "torch": "PyTorch",
    "compiled": "PyTorch compiled",
}

NEEDS = {
    "xla": (),
    "exported": ("onnxruntime", "onnx"),
    "onnx": ("onnxruntime", "onnx", "onnxscript", "torch"),
    "torch": ("torch",),
    "compiled": ("torch",),
}
"""What must be installed; PyTorch writes the ONNX file of `onnx`, our port of the network."""


def missing(name: str) -> list[str]:
    """What an engine needs and is not installed."""
    return [package for package in NEEDS[name] if importlib.util.find_spec(package) is None]


# --- one engine in a process of its own --------------------------------------------------------


def serve(name: str, task: Task, folder: Path) -> Iterator[Round]:
    """Yields the first call's `Round`, then one for every question; for a `workers.Worker`.

    What the first call made is left in the folder as NAME.npy.
    """
    if name != "xla":
        jax.config.update("jax_platforms", "cpu")  # an accelerator is for the engine alone
    engine = ENGINES[name](task, parameters(task), folder)
    workers.resident()  # the peak of what went before is nobody's
    highest = 0

    def memory() -> int | None:
        nonlocal highest
        device, process = engine.memory(), workers.peak()
        if task.platform != "cpu" or device is not None:
            return device
        if process is None:
            return None
        highest = max(highest, process)
        return highest

    given = engine.feed(photograph(task))
    started = time.perf_counter()
    result = engine.run(given)
    answer = Round((time.perf_counter() - started,), memory())
    np.save(folder / f"{name}.npy", engine.image(result))
    del result
    workers.resident()  # the peak of what was just saved is nobody's
    while True:
        yield answer
        answer = Round(timed(lambda: engine.run(given)), memory())


def timed(call: Callable[[], Any]) -> tuple[float, ...]:
    """Seconds of calls one after the other until `ROUND` is over, at least one.

    Of several the first does not count: the caches may still hold what is somebody else's.
    """
    seconds: list[float] = []
    while sum(seconds) < ROUND:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return tuple(seconds[1:] or seconds)
