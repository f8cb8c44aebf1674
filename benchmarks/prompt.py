"""From Enter to file: seconds of whole commands, in processes of their own.

    python -m benchmarks.prompt
    python -m benchmarks.prompt --against ../another-checkout --repeats 3

Each case is run in turn with the checkout named by --against, in that folder and with a cache folder
that is as new as ours, and beside two peers that a user might pick instead, where they are installed:
the same network as an ONNX file in ONNX Runtime and as an exported program in PyTorch, photograph to
photograph. Written are the fastest runs, and their ratio. The pure forward pass is `Enhancer` on the
decoded pixels, in this process, with all programs compiled.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.data
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import engines, timing
from benchmarks.command import Run, timed
from benchmarks.count import positive_integer
from pdn_jax.cli import Parser, explained
from pdn_jax.enhancer import Enhancer
from pdn_jax.model import VARIANTS

ROOT = Path(__file__).parents[1]

CASES = ("first", "second", "sizes", "folder", "large", "huge", "talk")
"""Methods of `Bench`: one photograph with nothing kept, another size after it, forty sizes, many of one
size, 12 Mpixel after a first one, 100 Mpixel, and what needs no photograph."""

TALK = {
    "--help": (["--help"], 0),
    "--version": (["--version"], 0),
    "a wrong option": (["enhance", "a.jpg", "-o", "b.jpg", "--exposre", "2"], 2),
    "a missing file": (["enhance", "missing.jpg", "-o", "b.jpg"], 2),
}
"""What is asked -> arguments, exit code."""

PEERS = {
    "ONNX Runtime": """
import sys
import numpy as np, onnxruntime
from PIL import Image
model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
low = np.asarray(Image.open(source), np.float32).transpose(2, 0, 1)[None] / np.float32(255)
high = session.run(None, {session.get_inputs()[0].name: low})[0][0].transpose(1, 2, 0)
Image.fromarray((high.clip(0, 1) * 255).round().astype(np.uint8)).save(target, quality=95)
""",
    "PyTorch": """
import sys
import numpy as np, torch
from PIL import Image
model, source, target = sys.argv[1:]
network = torch.export.load(model).module()
low = np.asarray(Image.open(source), np.float32).transpose(2, 0, 1)[None] / np.float32(255)
with torch.inference_mode():
    high = network(torch.from_numpy(low))[0].permute(1, 2, 0).numpy()
Image.fromarray((high.clip(0, 1) * 255).round().astype(np.uint8)).save(target, quality=95)
""",
}
"""Name -> program that takes a file of the network, a photograph and where to put the other."""


class Side(NamedTuple):
    """A checkout, and the folder in which it may keep what it compiles."""

    folder: Path
    home: Path

    def command(self, *arguments: str | Path, code: int = 0) -> Run:
        """Run `python -m pdn_jax` there, as `timed` does."""
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "PDN_JAX"))},
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "PYTHONPATH": str(self.folder),
        }
        return timed([sys.executable, "-m", "pdn_jax", *arguments], self.folder, environment, code)


# --- photographs ---------------------------------------------------------------------------------


def photograph(height: int, width: int) -> np.ndarray:
    """A dark photograph of that size, uint8: scikit-image's cup of coffee at a fifth of its value."""
    picture = Image.fromarray(skimage.data.coffee()).resize((width, height), Image.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 2, (256, 256, 3)).astype(np.float32)
    times = (-(-height // 256), -(-width // 256), 1)
    grain = np.tile(noise, times)[:height, :width]
    return (np.asarray(picture) * np.float32(0.2) + grain).clip(0, 255).astype(np.uint8)


def put(path: Path, height: int, width: int) -> Path:
    """Writes such a photograph as JPEG; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(height, width)).save(path, quality=92)
    return path


def forward(variant: str, height: int, width: int, repeats: int = 3) -> float:
    """Seconds of the pure forward pass of a photograph, the median of some after the first."""
    enhancer, low = Enhancer(variant), photograph(height, width)
    return timing.in_turn({"forward": lambda: enhancer(low)}, repeats)["forward"].median


# --- the cases -----------------------------------------------------------------------------------


class Bench:
    """The cases, each -> rows of (what, limit in words, name -> `Run`, remark)."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        """options: of the command line. folder: for photographs, results and caches."""
        self.options, self.place = options, folder
        self.variant = options.variant
        self.checkouts = {"this": ROOT}
        if options.against:
            self.checkouts["against"] = options.against.resolve()
        self.homes = 0

    def side(self, name: str) -> Side:
        """A checkout with nothing kept."""
        self.homes += 1
        home = self.place / f"home{self.homes}"
        home.mkdir()
        return Side(self.checkouts[name], home)

    def enhance(self, side: Side, *sources: Path) -> Run:
        """Enhance photographs into a new folder."""
        target = side.home / f"out{time.monotonic_ns()}"
        target.mkdir()
        output = target if len(sources) > 1 or sources[0].is_dir() else target / "out.jpg"
        return side.command("enhance", *sources, "-o", output, "--weights", self.variant)

    def best(self, calls: dict[str, Callable[[], Run]], repeats: int) -> dict[str, Run]:
        """The fastest of some runs of each, in turn, every other round backwards."""
        names, runs = list(calls), {name: [] for name in calls}
        for _ in range(repeats):
            for name in names:
                runs[name].append(calls[name]())
            names.reverse()
        return {
            name: Run(min(r.seconds for r in many), max(r.memory for r in many))
            for name, many in runs.items()
        }

    def each(self, call: Callable[[Side], Run], repeats: int, kept: Path | None = None) -> dict:
        """`best` of a call with every checkout, after an untimed one of `kept` where that is given."""

        def run(name):
            side = self.side(name)
            if kept:
                self.enhance(side, kept)
            return call(side)

        return self.best({name: lambda name=name: run(name) for name in self.checkouts}, repeats)

    def first(self):
        """One small photograph, nothing kept."""
        low = put(self.place / "first.jpg", 400, 600)
        runs = self.each(lambda side: self.enhance(side, low), self.options.repeats)
        yield "one 600×400 JPEG, nothing kept", "0.6 of against", runs, ""

    def second(self):
        """Another size, and the peers."""
        first, low = put(self.place / "first.jpg", 400, 600), put(self.place / "b.jpg", 410, 620)
        runs = self.each(lambda side: self.enhance(side, low), self.options.repeats, kept=first)
        peers = self.peers(low)
        if peers:
            runs |= self.best(peers, self.options.repeats)
        yield "620×410 after 600×400", "0.25 of against, 1.5 of ONNX Runtime", runs, ""

    def peers(self, low: Path) -> dict[str, Callable[[], Run]]:
        """Name -> a run of each peer that is installed."""
        if engines.missing("onnx"):
            return {}
        import torch

        width, height = Image.open(low).size
        task = engines.Task(self.variant, VARIANTS[self.variant], height, width)
        list(engines.export(task, self.place))
        script = self.place / "network.pt2"
        network, _ = engines._port(task, engines.parameters(task))
        example = torch.zeros(1, 3, height, width)
        torch.export.save(torch.export.export(network, (example,)), script)
        models = {"ONNX Runtime": self.place / engines.MODEL, "PyTorch": script}
        target = self.place / "peer.jpg"
        return {
            name: lambda name=name: timed(
                [sys.executable, "-c", PEERS[name], models[name], low, target], self.place
            )
            for name in models
        }

    def sizes(self):
        """A holiday folder: forty sizes."""
        folder = self.place / "sizes"
        for index in range(40):
            put(folder / f"{index}.jpg", 360 + 2 * index, 640 - 3 * index)
        runs = self.each(lambda side: self.enhance(side, folder), 1)
        yield "40 photographs of 40 sizes, nothing kept", "0.15 of against", runs, ""

    def folder(self):
        """Many photographs of 1.5 Mpixel."""
        folder, count = self.place / "many", self.options.count
        low = put(folder / "0.jpg", 1000, 1500)
        for index in range(1, count):
            (folder / f"{index}.jpg").write_bytes(low.read_bytes())
        runs = self.each(lambda side: self.enhance(side, folder), 1)
        pure = forward(self.variant, 1000, 1500, 8)
        rate = count * pure / runs["this"].seconds
        remark = f"{count / runs['this'].seconds:.2f} a second, {rate:.2f} of the pure rate"
        yield f"{count} of 1500×1000", "0.75 of against, 0.9 of the pure rate", runs, remark

    def large(self):
        """12 Mpixel after a first one."""
        low, kept = put(self.place / "12.jpg", 3000, 4000), put(self.place / "f.jpg", 2000, 3000)
        repeats = min(2, self.options.repeats)
        runs = self.each(lambda side: self.enhance(side, low), repeats, kept=kept)
        pure = forward(self.variant, 3000, 4000)
        allowed = 1.6 * pure + 1.0
        remark = f"forward {pure:.2f} s; {runs['this'].seconds / allowed:.2f} of what is allowed"
        yield "4000×3000 after 3000×2000", "1.6 · forward + 1.0 s", runs, remark

    def huge(self):
        """100 Mpixel: memory, and time per pixel beside 12 Mpixel's."""
        side = self.side("this")
        twelve = put(self.place / "12.jpg", 3000, 4000)
        low = put(self.place / "100.jpg", 8640, 11575)
        self.enhance(side, twelve)
        small, big = self.enhance(side, twelve), self.enhance(side, low)
        per = (big.seconds / (8640 * 11575)) / (small.seconds / 12e6)
        remark = f"{big.memory / 1e9:.2f} GB; {per:.2f} of 12 Mpixel's time per pixel"
        yield "11575×8640", "2.5 GB, no step per pixel", {"this": big}, remark

    def talk(self):
        """What needs no photograph."""
        for what, (arguments, code) in TALK.items():

            def ask(side, arguments=arguments, code=code):
                return side.command(*arguments, code=code)

            runs = self.each(ask, max(3, self.options.repeats))
            yield what, "0.25 s", runs, ""


def main(argv: list[str] | None = None) -> int:
    """The command line: a table with a row per case."""
    parser = Parser(prog="python -m benchmarks.prompt", description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--variant", choices=VARIANTS, default="small")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=positive_integer, default=3, help="of short cases")
    parser.add_argument("--count", type=positive_integer, default=300, help="photographs")
    options = parser.parse_args(argv)
    if options.against and not (options.against / "pdn_jax").is_dir():
        parser.error(f"--against {options.against} has no pdn_jax: name a checkout")
    return explained(lambda: _print(options))


def _print(options: argparse.Namespace) -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        table = Table("case", "at most", *bench.checkouts, "ratio", "peers, remarks")
        for name in options.cases:
            for what, limit, runs, remark in getattr(bench, name)():
                cells = [f"{runs[c].seconds:.2f} s" if c in runs else "" for c in bench.checkouts]
                known = bench.checkouts.keys() <= runs.keys() and len(cells) > 1
                ratio = runs["this"].seconds / runs["against"].seconds if known else None
                peers = [
                    f"{peer} {run.seconds:.2f} s ({runs['this'].seconds / run.seconds:.2f})"
                    for peer, run in runs.items()
                    if peer not in bench.checkouts
                ]
                table.add_row(
                    what,
                    limit,
                    *cells,
                    "" if ratio is None else f"{ratio:.2f}",
                    "; ".join([*peers, remark] if remark else peers),
                )
                console.print(f"{what}: {', '.join(cells)} {remark}", style="dim")
    console.print(f"{options.variant}, {os.cpu_count()} cores")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
