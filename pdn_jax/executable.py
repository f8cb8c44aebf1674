"""A compiled program that takes and gives NumPy arrays, fresh from jax or loaded from its bytes.

A program that was compiled before needs neither tracing nor the libraries that trace. Loaded in a
process where jax is not, it runs on jaxlib alone, which imports in a tenth of the time. That is no
public interface: where a version of jaxlib has another one, loading raises, and the caller compiles.
"""

import abc
import functools
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

PLUGINS = ("jax_plugins", "libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")
"""Packages that bring jax another device than the CPU."""


Outputs = Sequence[tuple[Sequence[int], str]]
"""Shape and dtype of each result."""

Options = Mapping[str, bool | int]
"""Options of XLA's, by name."""


class Program(abc.ABC):
    """A compiled function of arrays, the first of which are bound beforehand."""

    @abc.abstractmethod
    def bind(self, arrays: Sequence[np.ndarray]) -> Any:
        """Lay out arrays on the device, once for many calls.

        Args:
            arrays: of the shapes and dtypes that it was compiled for.

        Returns:
            What calls take as their first argument.
        """

    @abc.abstractmethod
    def __call__(self, bound: Any, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run it.

        Args:
            bound: what `bind` gave.
            *arrays: the other arguments, of the shapes and dtypes that it was compiled for.

        Returns:
            The results, which may be read-only.
        """


class Traced(Program):
    """A program that jax has compiled in this process."""

    def __init__(self, compile_: Callable[[], Any]):
        """compile_: gives `jax.stages.Compiled` of a function (list of arrays, …) -> arrays."""
        _listen_to_jax()
        _COMPILING.reloaded = False
        self.compiled = compile_()
        self.reloaded = _COMPILING.reloaded

    def bind(self, arrays: Sequence[np.ndarray]) -> Any:
        """As `Program.bind`.

        Args:
            arrays: of the shapes and dtypes that it was compiled for.

        Returns:
            What calls take as their first argument.
        """
        import jax

        return jax.device_put(list(arrays))

    def __call__(self, bound: Any, *arrays: np.ndarray) -> list[np.ndarray]:
        """As `Program.__call__`.

        Args:
            bound: what `bind` gave.
            *arrays: the other arguments.

        Returns:
            The results.
        """
        import jax

        return [np.asarray(leaf) for leaf in jax.tree.leaves(self.compiled(bound, *arrays))]

    def serialize(self) -> bytes:
        """What `Loaded` takes; raises whatever a backend does that cannot."""
        import jax

        if self.reloaded:  # jaxlib 0.10 writes such a program without its kernels
            raise RuntimeError("it came from jax's own compilation cache")
        outputs = [
            (leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(self.compiled.out_info)
        ]
        return _entry(outputs, self.compiled.runtime_executable())


def _entry(outputs: Outputs, executable: Any) -> bytes:
    described = json.dumps(outputs).encode()
    return len(described).to_bytes(4, "little") + described + executable.serialize()


_COMPILING = threading.local()


@functools.cache
def _listen_to_jax() -> None:
    """Note for each thread when jax's own compilation cache gives a program."""
    import jax

    def note(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            _COMPILING.reloaded = True

    jax.monitoring.register_event_listener(note)


class Loaded(Program):
    """A program that jaxlib runs by itself; its making raises anything at all where it does not load."""

    def __init__(self, executable: Any, outputs: Outputs):
        """executable: of jaxlib's. outputs: shape and dtype of each result."""
        self.runtime = runtime()
        self.outputs, self.executable = outputs, executable
        self.handlers = [self.runtime.handler(tuple(shape), dtype) for shape, dtype in outputs]

    @classmethod
    def from_bytes(cls, content: bytes) -> "Loaded":
        """What was compiled before.

        Args:
            content: of `serialize`, by the same versions, device and processor.

        Returns:
            The program.
        """
        end, at = 4 + int.from_bytes(content[:4], "little"), runtime()
        executable = at.client.deserialize_executable(content[end:], executable_devices=at.devices)
        return cls(executable, [(shape, dtype) for shape, dtype in json.loads(content[4:end])])

    @classmethod
    def from_stablehlo(cls, module: bytes, outputs: Outputs, options: Options) -> "Loaded":
        """What XLA makes of a program that was traced before.

        Args:
            module: StableHLO in MLIR's bytecode, of fixed shapes.
            outputs: shape and dtype of each result.
            options: of XLA's.

        Returns:
            The program.
        """
        at = runtime()
        from jaxlib import xla_client

        wanted = xla_client.CompileOptions()
        wanted.env_option_overrides = list(options.items())
        return cls(at.client.compile_and_load(module, at.devices, wanted), outputs)

    def serialize(self) -> bytes:
        """What `from_bytes` takes."""
        return _entry(self.outputs, self.executable)

    def bind(self, arrays: Sequence[np.ndarray]) -> Any:
        """As `Program.bind`.

        Args:
            arrays: of the shapes and dtypes that it was compiled for.

        Returns:
            What calls take as their first argument.
        """
        return [self.runtime.put(array) for array in arrays]

    def __call__(self, bound: Any, *arrays: np.ndarray) -> list[np.ndarray]:
        """As `Program.__call__`.

        Args:
            bound: what `bind` gave.
            *arrays: the other arguments.

        Returns:
            The results.
        """
        given = [*bound, *map(self.runtime.put, arrays)]
        results = self.executable.execute_sharded(given).consume_with_handlers(self.handlers)
        return [np.asarray(memoryview(result)) for result in results]


class Runtime(NamedTuple):
    """jaxlib's client of one device, and how an array gets there."""

    client: Any
    device: Any
    devices: Any
    sharding: Any
    library: Any

    def handler(self, shape: tuple[int, ...], dtype: str) -> Any:
        """What makes an array of a result.

        Args:
            shape: of the result.
            dtype: of the result.

        Returns:
            An object of jaxlib's.
        """
        kind = _Abstract(shape, np.dtype(dtype))
        try:  # the checks are jax's, which need not be there
            unchecked = {"_skip_checks": True}
            return self.library.array_result_handler(kind, self.sharding, True, **unchecked)
        except TypeError:  # jaxlib from 0.11 on
            return self.library.array_result_handler(kind, self.sharding, True)

    def put(self, array: np.ndarray) -> Any:
        """An array on the device; one that lies in memory as wanted is not copied.

        Args:
            array: any.

        Returns:
            An object of jaxlib's.
        """
        array = np.ascontiguousarray(array)
        return self.library.batched_device_put(
            _Abstract(array.shape, array.dtype),
            self.sharding,
            [array],
            [self.device],
            enable_x64=False,
        )


class _Abstract(NamedTuple):
    """What jaxlib asks of an array's type."""

    shape: tuple[int, ...]
    dtype: np.dtype
    weak_type: bool = False


_STARTING = threading.Lock()


def runtime() -> Runtime:
    """The first device, as jax sees it where that is imported, else the CPU by jaxlib alone.

    One for all threads. Raises RuntimeError where jax is not imported and might see another device.
    """
    with _STARTING:
        return _started()


@functools.cache
def _started() -> Runtime:
    if not may_load():
        raise RuntimeError("jax decides which device it is")
    # jaxlib's notes on its devices are not for the user; jax silences them the same way.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    from jaxlib import _hlo, _jax, xla_client

    if "jax" in sys.modules:
        import jax

        device = jax.local_devices()[0]
        client = device.client
    else:
        client = xla_client.make_cpu_client()
        device = client.local_devices()[0]

    class Sharding(_jax.SingleDeviceSharding):
        memory_kind = None

        def _to_xla_hlo_sharding(self, rank):
            return _hlo.HloSharding.replicate()

    devices = _jax.DeviceList((device,))
    return Runtime(client, device, devices, Sharding(device, None), _jax)


def may_load() -> bool:
    """Whether it is known which device programs run on: jax is there, or could see the CPU alone."""
    return "jax" in sys.modules or _only_cpu()


def on_cpu() -> bool:
    """Whether programs run on the CPU; imports jax where that alone can tell."""
    if "jax" not in sys.modules and _only_cpu():
        return True
    import jax

    return jax.local_devices()[0].platform == "cpu"


@functools.cache
def _only_cpu() -> bool:
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms.lower() == "cpu"
    return not any(importlib.util.find_spec(plugin) for plugin in PLUGINS)
