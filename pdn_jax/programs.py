"""The programs of one network: compiled once for each set of shapes, kept in memory and on disk.

Beside every kind stands the function that it is compiled from, which is where jax and Flax come in: a
process in which all programs come from the cache, or were traced before, imports neither.
"""

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from pdn_jax import cache as disk
from pdn_jax import program_kinds, shapes, traced_programs, weights
from pdn_jax.executable import Loaded, Program, Traced, may_load, on_cpu, runtime
from pdn_jax.program_kinds import KINDS, PARTS

KEPT = 64
"""How many programs are kept in memory. One takes some 200 maps of memory on a CPU, and Linux gives
a process 65,530 (`vm.max_map_count`)."""

QUICKLY = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
"""Options of XLA's CPU backend (jaxlib 0.10) that compile in half the time; programs made so take up
to a tenth longer."""

TRACING = threading.Lock()
"""Python traces one program after the other, so that XLA has the first while the next is traced."""

logger = logging.getLogger(__name__)
"""Says what is compiled."""


class Request(NamedTuple):
    """A program that is wanted: one of `KINDS`, and shape and dtype of every array it takes."""

    kind: str
    arrays: tuple[tuple[tuple[int, ...], str], ...]


def request(kind: str, arrays: Sequence[np.ndarray]) -> Request:
    """The program of a kind for given arrays.

    Args:
        kind: one of `KINDS`.
        arrays: what it will be called with, or others like them.

    Returns:
        Its kind and their shapes and dtypes.
    """
    return Request(kind, tuple((array.shape, str(array.dtype)) for array in arrays))


class Shelf:
    """Programs in memory, for all networks and threads; what was not used for longest goes."""

    def __init__(self):
        """Empty."""
        self._lock = threading.Lock()
        self._building: dict[Any, threading.Lock] = {}
        self._programs: OrderedDict[Any, Any] = OrderedDict()

    def get(self, name: Any, build: Callable[[], Any]) -> Any:
        """A program that is there or can be built.

        Args:
            name: what it is called, hashable.
            build: gives it where it is not there; called once however many threads ask.

        Returns:
            The program.
        """
        with self._lock:
            if name in self._programs:
                self._programs.move_to_end(name)
                return self._programs[name]
            building = self._building.setdefault(name, threading.Lock())
        with building:
            with self._lock:
                if name in self._programs:
                    return self._programs[name]
            program = self.put(name, build())
            with self._lock:
                self._building.pop(name, None)
        return program

    def put(self, name: Any, program: Any) -> Any:
        """Keep a program, in place of the one of that name.

        Args:
            name: what it is called, hashable.
            program: any.

        Returns:
            The same program.
        """
        with self._lock:
            self._programs[name] = program
            while len(self._programs) > KEPT:
                self._programs.popitem(last=False)
        return program

    def __len__(self) -> int:
        return len(self._programs)


SHELF = Shelf()
"""The programs of this process."""


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
            part: [
                np.asarray(leaf)
                for leaf in weights.flatten(params["params"].get(part, {})).values()
            ]
            for part in PARTS
        }
        self._shapes = {
            part: tuple((leaf.shape, str(leaf.dtype)) for leaf in values)
            for part, values in self._leaves.items()
        }
        self._bound: dict[tuple[type, str], Any] = {}

    def __call__(self, kind: str, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run a program.

        Args:
            kind: one of `KINDS`.
            *arrays: what it takes beside the parameters.

        Returns:
            What it gives, which may be read-only.
        """
        wanted = request(kind, arrays)
        program = self._program(wanted)
        try:
            return program(self._parameters(program, KINDS[kind].part), *arrays)
        except Exception as error:  # a program from the disk: what is compiled anew says it again
            if not isinstance(program, Loaded):
                raise
            logger.debug("%s is loaded but does not run: %r", wanted, error)
        program = SHELF.put(self._name(wanted), self._compile(wanted, anew=True))
        return program(self._parameters(program, KINDS[kind].part), *arrays)

    def prepare(self, requests: Sequence[Request]) -> None:
        """Load or compile several programs at once.

        Args:
            requests: which ones.
        """
        with ThreadPoolExecutor(len(requests)) as pool:
            for _ in pool.map(self._program, requests):
                pass

    def _name(self, wanted: Request) -> tuple:
        return wanted, self.model, self._shapes[KINDS[wanted.kind].part]

    def _program(self, wanted: Request) -> Program:
        return SHELF.get(self._name(wanted), lambda: self._load(wanted) or self._compile(wanted))

    def _parameters(self, program: Program, part: str) -> Any:
        place = (type(program), part)
        with self._lock:
            if place not in self._bound:
                self._bound[place] = program.bind(self._leaves[part])
            return self._bound[place]

    def _load(self, wanted: Request) -> Program | None:
        if not may_load():
            return None
        content = self.cache.read(disk.name(*self._name(wanted)))
        try:
            return Loaded.from_bytes(content) if content else None
        except Exception as error:  # another interface of jaxlib: it is compiled instead
            logger.debug("%s is not loaded: %r", wanted, error)
            return None

    def _compile(self, wanted: Request, anew: bool = False) -> Program:
        program = None if anew else self._traced_before(wanted)
        program = program or self._traced(wanted)
        with self._lock:
            self.compiled += 1
        if self.cache.folder is not None:
            try:
                content = program.serialize()
            except Exception as error:  # a backend that cannot
                logger.debug("%s is not kept: %r", wanted, error)
            else:
                self.cache.write(disk.name(*self._name(wanted)), content)
        return program

    def _traced_before(self, wanted: Request) -> Program | None:
        """The program as it was traced for the bundled weights' networks, compiled for its shapes."""
        if not (may_load() and on_cpu()):
            return None
        arguments = [*self._shapes[KINDS[wanted.kind].part], *wanted.arrays]
        try:
            runtime()  # the first of jaxlib that is imported, which is to be quiet
            module = traced_programs.fixed(wanted.kind, self.model, arguments)
            return Loaded.from_stablehlo(*module, QUICKLY) if module else None
        except Exception as error:  # another interface of jaxlib, or other arrays: it is traced
            logger.debug("%s is not compiled as it was traced before: %r", wanted, error)
            return None

    def _traced(self, wanted: Request) -> Program:
        import jax

        function = jax.jit(program_kinds.function(wanted.kind, self.model))
        parameters, arrays = (
            [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in described]
            for described in (self._shapes[KINDS[wanted.kind].part], wanted.arrays)
        )
        with TRACING:
            lowered = function.lower(parameters, *arrays)
        return Traced(lambda: _quickly_compiled(lowered))


def _quickly_compiled(lowered: Any) -> Any:
    import jax

    if jax.local_devices()[0].platform != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=QUICKLY)
    except jax.errors.JaxRuntimeError:  # another version of XLA has other options
        return lowered.compile()
