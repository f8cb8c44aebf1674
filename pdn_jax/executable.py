"""A compiled program that takes and gives NumPy arrays, fresh from jax or loaded from its bytes.

A program that was compiled before needs neither tracing nor the libraries that trace. Loaded in a
process where jax is not, it runs on jaxlib alone, which imports in a tenth of the time. That is no
public interface: where a version of jaxlib has another one, loading raises, and the caller compiles.
"""

import functools
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

PLUGINS = ("jax_plugins", "libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")
"""Packages that bring jax another device than the CPU."""


@runtime_checkable
class Program(Protocol):
    """A compiled function of arrays, the first of which are bound beforehand."""

    def bind(self, arrays: Sequence[np.ndarray]) -> Any:
        """Arrays laid out on the device, to be handed to every call."""

    def __call__(self, bound: Any, *arrays: np.ndarray) -> list[np.ndarray]:
        """The function of both; the result may be read-only."""


class Traced:
    """A program that jax has compiled in this process."""

    def __init__(self, compiled: Any):
        """compiled: `jax.stages.Compiled` of a function (list of arrays, array, …) -> arrays."""
        self.compiled = compiled

    def bind(self, arrays: Sequence[np.ndarray]) -> Any:
        """See `Program`."""
        import jax

        return jax.device_put(list(arrays))

    def __call__(self, bound: Any, *arrays: np.ndarray) -> list[np.ndarray]:
        """See `Program`."""
        import jax

        return [np.asarray(leaf) for leaf in jax.tree.leaves(self.compiled(bound, *arrays))]

    def serialize(self) -> bytes:
        """What `Loaded` takes; raises whatever a backend does that cannot."""
        return self.compiled.runtime_executable().serialize()


class Loaded:
    """A program from `Traced.serialize`'s bytes; raises anything at all where they do not load."""

    def __init__(self, content: bytes):
        """content: bytes of the same versions, device and processor."""
        self.runtime = runtime()
        self.executable = self.runtime.client.deserialize_executable(
            content, executable_devices=self.runtime.devices
        )

    def bind(self, arrays: Sequence[np.ndarray]) -> Any:
        """See `Program`."""
        return [self.runtime.put(array) for array in arrays]

    def __call__(self, bound: Any, *arrays: np.ndarray) -> list[np.ndarray]:
        """See `Program`."""
        given = [*bound, *map(self.runtime.put, arrays)]
        results = self.executable.execute_sharded(given).disassemble_into_single_device_arrays()
        return [shards[0]._single_device_array_to_np_array_did_copy()[0] for shards in results]


class Runtime(NamedTuple):
    """jaxlib's client of one device, and how an array gets there."""

    client: Any
    device: Any
    devices: Any
    sharding: Any
    put_many: Any

    def put(self, array: np.ndarray) -> Any:
        """An array on the device; one that lies in memory as wanted is not copied."""
        array = np.ascontiguousarray(array)
        return self.put_many(
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


@functools.cache
def runtime() -> Runtime:
    """The first device, as jax sees it where that is imported, else the CPU by jaxlib alone.

    Raises RuntimeError where jax is not imported and might see another device.
    """
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
    return Runtime(client, device, devices, Sharding(device, None), _jax.batched_device_put)


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
