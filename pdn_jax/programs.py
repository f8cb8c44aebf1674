"""The programs of one network: compiled once for each set of shapes, kept in memory and on disk.

Beside every kind stands the function that it is compiled from, which is where jax and Flax come in:
a process in which all programs come from the cache imports neither.
"""

import functools
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from pdn_jax import cache as disk
from pdn_jax import shapes, weights
from pdn_jax.executable import Loaded, Program, Traced, may_load

KEPT = 64
"""How many programs are kept in memory. One takes some 200 maps of memory on a CPU, and Linux gives
a process 65,530 (`vm.max_map_count`)."""

QUICKLY = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
"""Options of XLA's CPU backend (jaxlib 0.10) that compile in half the time; programs made so take up
to a tenth longer."""

TRACING = threading.Lock()
"""Python traces one program after the other, so that XLA has the first while the next is traced."""

logger = logging.getLogger(__name__)


class Request(NamedTuple):
    """A program that is wanted: one of `KINDS`, and shape and dtype of every array it takes."""

    kind: str
    arrays: tuple[tuple[tuple[int, ...], str], ...]


def request(kind: str, arrays: Sequence[np.ndarray]) -> Request:
    """The program of that kind for such arrays."""
    return Request(kind, tuple((array.shape, str(array.dtype)) for array in arrays))


class Shelf:
    """Programs in memory, for all networks and threads; what was not used for longest goes."""

    def __init__(self):
        """Empty."""
        self._lock = threading.Lock()
        self._building: dict[Any, threading.Lock] = {}
        self._programs: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, build: Callable[[], Any]) -> Any:
        """The program of that key, built once however many threads ask for it."""
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
                return self._programs[key]
            building = self._building.setdefault(key, threading.Lock())
        with building:
            with self._lock:
                if key in self._programs:
                    return self._programs[key]
            program = self.put(key, build())
            with self._lock:
                self._building.pop(key, None)
        return program

    def put(self, key: Any, program: Any) -> Any:
        """Keep a program, in place of the one of that key; returns it."""
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > KEPT:
                self._programs.popitem(last=False)
        return program

    def __len__(self) -> int:
        return len(self._programs)


SHELF = Shelf()


class Programs:
    """What one network with its parameters computes; may be called from several threads.

    Attributes:
        compiled: how many programs it has compiled, which were neither in memory nor on disk.
    """

    def __init__(self, model: Mapping[str, Any], params: Any, cache: disk.Cache):
        """model, params: as in `weights.Weights`; raises InputError where they do not fit."""
        self.model = json.dumps(dict(model), sort_keys=True)
        self.cache = cache
        self.compiled = 0
        self._lock = threading.Lock()
        shapes.check(model, params)
        self._leaves = {
            part: list(weights.flatten(params["params"].get(part, {})).values()) for part in PARTS
        }
        self._shapes = {
            part: tuple((leaf.shape, str(leaf.dtype)) for leaf in found)
            for part, found in self._leaves.items()
        }
        self._bound: dict[tuple[type, str], Any] = {}

    def __call__(self, kind: str, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run a program of `KINDS`; what it gives may be read-only."""
        wanted = request(kind, arrays)
        program = self._program(wanted)
        try:
            return program(self._parameters(program, KINDS[kind].part), *arrays)
        except (AttributeError, TypeError) as error:
            if not isinstance(program, Loaded):
                raise
            logger.debug("%s is loaded but does not run: %r", wanted, error)
        program = SHELF.put(self._key(wanted), self._compile(wanted))
        return program(self._parameters(program, KINDS[kind].part), *arrays)

    def prepare(self, requests: Sequence[Request]) -> None:
        """Load or compile several programs at once."""
        with ThreadPoolExecutor(len(requests)) as pool:
            for _ in pool.map(self._program, requests):
                pass

    def _key(self, wanted: Request) -> tuple:
        return wanted, self.model, self._shapes[KINDS[wanted.kind].part]

    def _program(self, wanted: Request) -> Program:
        return SHELF.get(self._key(wanted), lambda: self._load(wanted) or self._compile(wanted))

    def _parameters(self, program: Program, part: str) -> Any:
        key = (type(program), part)
        with self._lock:
            if key not in self._bound:
                self._bound[key] = program.bind(self._leaves[part])
            return self._bound[key]

    def _load(self, wanted: Request) -> Program | None:
        if not may_load():
            return None
        content = self.cache.read(disk.name(*self._key(wanted)))
        try:
            return Loaded(content) if content else None
        except Exception as error:  # another interface of jaxlib: it is compiled instead
            logger.debug("%s is not loaded: %r", wanted, error)
            return None

    def _compile(self, wanted: Request) -> Program:
        import jax

        function = jax.jit(_function(wanted.kind, self.model))
        parameters, arrays = (
            [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in described]
            for described in (self._shapes[KINDS[wanted.kind].part], wanted.arrays)
        )
        with TRACING:
            lowered = function.lower(parameters, *arrays)
        program = Traced(_quickly_compiled(lowered))
        with self._lock:
            self.compiled += 1
        if self.cache.folder is not None:
            try:
                content = program.serialize()
            except Exception as error:  # a backend that cannot
                logger.debug("%s is not kept: %r", wanted, error)
            else:
                self.cache.write(disk.name(*self._key(wanted)), content)
        return program


def _quickly_compiled(lowered: Any) -> Any:
    import jax

    if jax.local_devices()[0].platform != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=QUICKLY)
    except jax.errors.JaxRuntimeError:  # another version of XLA has other options
        return lowered.compile()


# --- what they are compiled from -------------------------------------------------------------


class Kind(NamedTuple):
    """Which parameters a program takes, of `PARTS`, and network -> function of those and arrays."""

    part: str
    make: Callable[[Any], Callable]


PARTS = ("enhancement", "denoising", "none")


@functools.lru_cache(maxsize=8)
def network(model: str) -> Any:
    """Keyword arguments as JSON -> the network."""
    from pdn_jax.model import ProgressiveDualNetwork

    return ProgressiveDualNetwork(**weights.parse_model(model))


def _function(kind: str, model: str) -> Callable:
    """(list of parameters, array, …) -> arrays, to be traced."""

    wanted = KINDS[kind]
    make = wanted.make(network(model))
    prefix = f"params/{wanted.part}/"
    every = shapes.parameters(weights.parse_model(model))
    tree = weights.unflatten({name: name for name in every if name.startswith(prefix)})
    names = list(weights.flatten(tree).values())

    def function(values, *arrays):
        params = weights.unflatten(dict(zip(names, values, strict=True)))
        return make(params.get("params", {}).get(wanted.part), *arrays)

    return function


def _global(network):
    from pdn_jax import tiling

    def function(params, small, texture, mask):
        return tiling.global_pass(network, params, small, texture, mask)

    return function


def _photo(low):
    """Uint8 or float -> float32 in [0, 1]."""
    import jax.numpy as jnp

    return low.astype(jnp.float32) / (255.0 if low.dtype == jnp.uint8 else 1.0)


def _finished(image, dtype):
    """Clipped, and of the photograph's dtype."""
    import jax.numpy as jnp

    image = jnp.clip(image, 0.0, 1.0)
    return jnp.round(255.0 * image).astype(dtype) if dtype == jnp.uint8 else image


def _rendered(network, params, low, *whole):
    from pdn_jax import tiling

    *maps, valid = whole
    black, increments, noise, context = maps
    estimate = tiling.GlobalPass(black, increments, noise, context, None, None)
    return tiling.render_tile(network, params, _photo(low), estimate, valid)


def _render(network):
    def function(params, low, *whole):
        return _finished(_rendered(network, params, low, *whole).denoised[-1], low.dtype)

    return function


def _dialled(network):
    from pdn_jax.dial import dialled

    def function(params, low, *whole_and_dials):
        *whole, mean, exposure, denoise = whole_and_dials
        tile = _rendered(network, params, low, *whole)
        images = (tile.denoised[-1], tile.enhanced[-1], tile.path)
        dials = [value[:, None, None, None] for value in (mean, exposure, denoise)]
        return _finished(dialled(*images, *dials), low.dtype)

    return function


def _stages(network):
    def function(params, low, *whole):
        tile = _rendered(network, params, low, *whole)
        return [_finished(image, low.dtype) for image in (*tile.enhanced, *tile.denoised)]

    return function


def _path_sum(network):
    from pdn_jax import tiling

    def function(params, log_exposure, rows, columns):
        return tiling.path_sum(log_exposure, rows, columns)

    return function


KINDS = {
    "global": Kind("enhancement", _global),
    "render": Kind("denoising", _render),
    "dialled": Kind("denoising", _dialled),
    "stages": Kind("denoising", _stages),
    "path_sum": Kind("none", _path_sum),
}
"""Name -> what `Programs` can run.

global: small, texture, mask -> `tiling.GlobalPass`. render: low, black, increments, noise, context,
valid -> restored. dialled: those, mean path, exposure, denoise -> restored. stages: as render ->
every stage. path_sum: as `tiling.path_sum`.
"""
