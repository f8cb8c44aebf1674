"""Batches read ahead of the training, by threads of this process or by processes of their own."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import grain
import numpy as np
from absl import flags


@contextlib.contextmanager
def prefetched(
    dataset: grain.MapDataset, start: int, *, threads: int, workers: int = 0
) -> Iterator[Iterator[dict[str, np.ndarray]]]:
    """`with prefetched(…) as batches`: those from step `start` on, read by `threads` threads.

    With `workers`, in that many processes of as many threads. How many there are of either changes
    nothing in what comes.
    """
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    batches = dataset[start:].to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its own, and this program sets none
        # Through a pipe: what is left in shared memory at the end is warned of.
        batches = grain.experimental.WithOptionsIterDataset(
            batches, grain.experimental.DatasetOptions(min_shm_size=2**62)
        )
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=follow_parent
        )
    iterator = iter(batches)
    try:
        yield iterator
    finally:
        iterator.close()


def follow_parent(index: int, count: int) -> None:
    """Have a worker process leave signals to its parent, and end when that is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
