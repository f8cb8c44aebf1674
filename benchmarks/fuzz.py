"""Damaged photo files, thousands of them: each is enhanced or refused by name, and nothing else.

    python -m benchmarks.fuzz --files 4000

Seeds are made here, of every format with all that it may hold. Each is damaged at random (bits,
bytes, lengths, parts doubled, cut out, moved, taken from another file), read, brightened by a stand-in
for the network and written. That is done in a process of its own, so that a crash, a hang of more
than 20 s, a traceback and memory beyond the bound are seen, named and counted.
"""

import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks import fuzz_seeds
from pdn_jax.cli import Parser
from pdn_jax.errors import InputError
from pdn_jax.photos import kinds, presence, writer
from pdn_jax.photos.reader import from_bytes

HANG = 20.0
"""Seconds that a file may take."""

MEMORY = 1500
"""MB that the process may have had at most after a file."""


def damaged(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A file with one to six faults, most of them near its beginning, where the formats are."""
    content = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if len(content) < 8:
            break
        reach = chance.choice((64, 512, 4096, len(content)))
        place = chance.randrange(min(reach, len(content)))
        length = chance.choice((1, 2, 4, 16, 200))
        fault = chance.randrange(9)
        if fault == 0:
            content[place] ^= 1 << chance.randrange(8)
        elif fault == 1:
            content[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif fault == 2:
            content[place : place + 4] = chance.choice(
                (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff")
            )
        elif fault == 3:
            content[place : place + length] = chance.randbytes(length)
        elif fault == 4:
            del content[place : place + length]
        elif fault == 5:
            content[place:place] = content[place : place + length] * chance.choice((1, 2, 50))
        elif fault == 6:
            del content[place:]
        elif fault == 7:
            other = chance.choice(others)
            start = chance.randrange(len(other))
            content[place : place + length] = other[start : start + length]
        else:
            start = chance.randrange(len(content))
            content[place : place + length] = content[start : start + length]
    return bytes(content)


def case(seeds: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """The name of a seed, and that seed damaged; the same for the same number."""
    chance = random.Random(number)
    name = list(seeds)[number % len(seeds)]
    return name, damaged(seeds[name], list(seeds.values()), chance)


def stand_in(low: np.ndarray, there: np.ndarray | None) -> np.ndarray:
    """Twice as bright."""
    return np.clip(low * low.dtype.type(2), low, 255 if low.dtype == np.uint8 else 1)


def outcome(name: str, data: bytes) -> str:
    """'enhanced', 'refused', or what went wrong."""
    file = f"{name}.photo"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what a warning would print is a fault too
            photo = from_bytes(data, file)
            result = presence.developed(photo, stand_in)
            form = photo.kind if kinds.KINDS[photo.kind].written else kinds.INSTEAD[photo.kind]
            written = writer.encoded(photo, result.pixels, form)
            back = from_bytes(written.data, file)
            if back.size != photo.size:
                return f"FAULT: {photo.size} became {back.size}"
        return "enhanced"
    except InputError as error:
        message = str(error)
        if "\n" in message or not message.startswith((file, "cannot be written")):
            return f"FAULT: a message without the name: {message!r}"
        return "refused"
    except BaseException:
        return f"FAULT: {traceback.format_exc()}"


def worker(pipe, seeds: dict[str, bytes]) -> None:
    """Take numbers of cases, give (outcome, seconds, MB) of each."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # decoders in C complain there
    pipe.send("ready")
    while True:
        number = pipe.recv()
        start = time.perf_counter()
        said = outcome(*case(seeds, number))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        pipe.send((said, time.perf_counter() - start, used))


class Process:
    """A worker that is replaced where it ends or hangs."""

    def __init__(self, seeds: dict[str, bytes]):
        """Start it."""
        self.seeds = seeds
        self.start()

    def start(self) -> None:
        """A new process in place of the old."""
        here, there = multiprocessing.Pipe()
        self.pipe = here
        context = multiprocessing.get_context("spawn")  # LibRaw's threads do not outlive a fork
        self.process = context.Process(target=worker, args=(there, self.seeds), daemon=True)
        self.process.start()
        there.close()
        self.pipe.recv()  # it has imported what it needs

    def run(self, number: int) -> tuple[str, float, int]:
        """(outcome, seconds, MB) of a case."""
        self.pipe.send(number)
        try:
            if self.pipe.poll(HANG):
                said, seconds, used = self.pipe.recv()
                if used > MEMORY:
                    said = f"FAULT: {used} MB"
                    self.end()
                return said, seconds, used
            said = f"FAULT: more than {HANG:g} s"
        except EOFError:
            self.process.join()
            said = f"FAULT: ended by {self.process.exitcode}"
        self.end()
        return said, HANG, 0

    def end(self) -> None:
        """Start anew."""
        self.process.kill()
        self.process.join()
        self.start()


def main(argv: list[str]) -> int:
    """Run as many cases as asked for; 1 where one of them was neither enhanced nor refused."""
    parser = Parser(prog="python -m benchmarks.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=4000, help="damaged files (default 4000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (default 0)")
    parser.add_argument("--keep", type=Path, help="a folder for files that were faults")
    arguments = parser.parse_args(argv)
    seeds = fuzz_seeds.seeds()
    for name, data in seeds.items():
        said = outcome(name, data)
        if said != "enhanced":
            print(f"the seed {name} itself: {said}", file=sys.stderr)
            return 1
    process, counts, faults, slowest, most = Process(seeds), {}, 0, 0.0, 0
    for number in range(arguments.first, arguments.first + arguments.files):
        said, seconds, used = process.run(number)
        name, data = case(seeds, number)
        kind = said.split(":")[0]
        counts.setdefault(kinds.recognise(seeds[name]), Counter())[kind] += 1
        slowest, most = max(slowest, seconds), max(most, used)
        if kind == "FAULT":
            faults += 1
            print(f"case {number}, {name}: {said}", file=sys.stderr)
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{number}-{name}").write_bytes(data)
    process.process.kill()
    for form, count in sorted(counts.items()):
        print(f"{form:5} enhanced {count['enhanced']:5}, refused {count['refused']:5}")
    total = sum(counts.values(), Counter())
    print(
        f"{arguments.files} files: {total['enhanced']} enhanced, {total['refused']} refused, ",
        end="",
    )
    print(f"{faults} faults; slowest {slowest:.1f} s, at most {most} MB")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
