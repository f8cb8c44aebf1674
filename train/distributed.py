"""Several processes, one run: joining, agreeing, and ending together.

Every process runs the same program, on its own devices and its own share of each batch. Process 0
alone prints and writes; at a checkpoint all meet. Where there is one process, nothing here
does anything.

An InputError of one process before the first step, `same_outcome` raises on all. A process that
ends without a word is missed by the others: their next all-reduce fails, or after
`parallel.heartbeat` seconds JAX ends them.
"""

import contextlib
import itertools
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from pdn_jax.cli import explained
from pdn_jax.types import InputError
from train.config import differences, validate

OWN = (
    *("parallel.coordinator", "parallel.process"),
    *("data.directory", "data.threads", "data.workers", "data.cache"),
)
"""Options that may differ between the processes of a run."""

DAY = 86400
"""Seconds; a data set may take hours to build."""

GO_ON = "the same command with --config.resume=true goes on from the newest checkpoint"

Result = TypeVar("Result")

_turns = itertools.count()  # a barrier's name is used once


def is_first() -> bool:
    """Whether this is process 0, which alone prints and writes."""
    return jax.process_index() == 0


class Silent:
    """Stands where process 0 has its log: whatever is called, nothing happens; a context too."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


# --- joining and leaving -------------------------------------------------------------------------


@contextlib.contextmanager
def joined(config) -> Iterator[None]:
    """Join the other processes where `config.parallel.distributed` says so, before any array is made.

    At the end every process waits for the others. After an error this one ends at once, with its
    exit code and without the usual farewell, since that would wait for processes that wait for it.
    Raises InputError for options that cannot be.
    """
    if not config.parallel.distributed:
        yield
        return
    validate(config)
    address = coordinator(config)
    try:
        connect(config, address)
    except InputError as error:
        leave(error, met=False)
    try:
        yield
        wait("the end")
    except BaseException as error:
        leave(error, met=True)


def coordinator(config) -> str:
    """HOST:PORT of process 0 as options or environment say it, or ''.

    Raises InputError for another form, and for a process beyond their number.
    """
    options = config.parallel
    address = options.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if address:
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise InputError(
                f"parallel.coordinator is {address!r}; expected HOST:PORT of process 0, "
                "with a port from 1 to 65535"
            )
        try:
            socket.getaddrinfo(host.strip("[]"), int(port))
            if options.process == 0:
                with socket.socket() as probe:  # JAX would fall over it
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("", int(port)))
        except OSError as error:
            raise InputError(
                f"parallel.coordinator: {address} cannot be used ({error.strerror}); "
                "expected a host that is known here, and a port that is free on it"
            ) from error
    if 0 < options.processes <= options.process:
        raise InputError(
            f"parallel.process is {options.process}, but parallel.processes is "
            f"{options.processes}; processes count from 0"
        )
    return address


def connect(config, address: str) -> None:
    """`jax.distributed.initialize`; what the options leave open is asked of SLURM, MPI, TPU, ….

    Raises InputError for what nobody says. Where the processes do not find each other this one ends
    with exit code 2: JAX would abort it.
    """
    options = config.parallel
    alone = InputError(
        f"not all of the processes met at {address or 'process 0'} within parallel.patience="
        f"{options.patience} s; start every one, with the same coordinator and number of processes"
    )
    begun = time.monotonic()
    given_up = threading.Timer(options.patience, leave, (alone, False))
    given_up.daemon = True
    given_up.start()
    try:
        jax.distributed.initialize(
            coordinator_address=address or None,
            num_processes=options.processes or None,
            process_id=options.process if options.process >= 0 else None,
            initialization_timeout=2 * options.patience + 60,
            heartbeat_timeout_seconds=options.heartbeat,
            shutdown_timeout_seconds=options.heartbeat,
        )
    except ValueError as error:
        raise InputError(
            f"parallel.distributed: {str(error).rstrip('.')}; give --config.parallel.coordinator="
            "HOST:PORT, processes and process, or start under SLURM, Open MPI or on a TPU pod"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        if time.monotonic() - begun > options.patience / 2:
            raise alone from error
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"parallel.distributed: joining at {address or 'process 0'} failed ({reason}); "
            "is the port free, and has each process a number of its own?"
        ) from error
    finally:
        given_up.cancel()


def leave(error: BaseException, met: bool) -> NoReturn:
    """Say what went wrong, and end this process; met: whether there are others to think of."""

    def fail():
        raise error

    code = 1
    with contextlib.suppress(OSError):  # nobody reads any more
        try:
            code = explained(fail)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
            print(
                "pdn_jax: this process ends, and the others of the run with it; where another was "
                f"lost first, its own log says why; {GO_ON}",
                file=sys.stderr,
            )
        sys.stdout.flush()
        sys.stderr.flush()
    if met and code == 2:
        linger()
    os._exit(code)


def linger(seconds: int = 5) -> None:
    """Let the others say it too, if they know: JAX ends them at once when process 0 is gone."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        wait("leaving", seconds)
        time.sleep(1.0 if is_first() else 0.0)


# --- agreeing ------------------------------------------------------------------------------------


def wait(name: str, seconds: int = DAY) -> None:
    """Until every process is here, so long at most; `name` says where, for messages.

    Not through the devices: what they send each other may fail after 30 s (gloo, when processes
    find each other) or 30 minutes (XLA's CPU backend).
    """
    if jax.process_count() > 1:
        barrier = ocp.multihost.get_barrier_sync_fn()
        barrier(key=f"pdn_jax {next(_turns)}: {name}", timeout_ms=1000 * seconds)


def connect_devices(devices: Sequence[jax.Device]) -> None:
    """One all-reduce over these devices of all processes, so that later ones find the way open.

    On CPUs the first must be entered by all within 30 s, too soon for processes that compile.
    """
    if jax.process_count() == 1:
        return
    wait("devices")
    add = jax.pmap(lambda x: jax.lax.psum(x, "all"), axis_name="all", devices=devices)
    own = sum(device.process_index == jax.process_index() for device in devices)
    jax.block_until_ready(add(np.zeros(own, np.float32)))


def broadcast(tree: Any) -> Any:
    """Process 0's numbers, on every process; shapes must be the same everywhere."""
    if jax.process_count() == 1:
        return tree
    wait("numbers")
    return multihost_utils.broadcast_one_to_all(tree)


def broadcast_json(content: Any) -> Any:
    """What process 0 has, as JSON can say it, on every process."""
    if jax.process_count() == 1:
        return content
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    room = np.zeros(int(broadcast(np.int32(len(text)))), np.uint8)
    room[: len(text)] = text[: len(room)]
    return json.loads(bytes(np.asarray(broadcast(room))))


@contextlib.contextmanager
def same_outcome() -> Iterator[None]:
    """Where what is done within raises InputError on one process, it is raised on all of them."""
    if jax.process_count() == 1:
        yield
        return
    said = None
    try:
        yield
    except InputError as error:
        said = error
    wait("a task")
    failed = np.flatnonzero(multihost_utils.process_allgather(np.int32(said is not None)))
    if said is not None:
        raise said
    if failed.size:
        raise InputError(f"process {failed[0]} of {jax.process_count()} stops; it says why")


def first(task: Callable[[], Result]) -> Result | None:
    """What a task gives on process 0 while the others wait; raises InputError on all where it does."""
    with same_outcome():
        return task() if is_first() else None


def first_then_others(task: Callable[[], None]) -> None:
    """Run a task on process 0, then on the others, which find its work done where disks are shared."""
    first(task)
    with same_outcome():
        if not is_first():
            task()


def check_same(what: str, mine: dict[str, Any], remedy: str, free: Collection[str] = ()) -> None:
    """Raise InputError on every process where one has something else than process 0.

    mine: by name, as JSON can say it; free: names that may differ. what, remedy: for the message.
    """
    if jax.process_count() == 1:
        return
    changed = differences(broadcast_json(mine), mine, free)
    with same_outcome():
        if changed:
            raise InputError(
                f"process {jax.process_index()} has other {what} than process 0 "
                f"({', '.join(changed)}); {remedy}"
            )
