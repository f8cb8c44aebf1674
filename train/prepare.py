"""Folders of photographs in, data sets to train on out; the source is only read.

    python -m train.prepare paired   --source DIR --name lol
    python -m train.prepare brackets --source DIR --name sice
    python -m train.prepare photos   --source DIR --name holiday
    python -m train.prepare list

prints what it found: photographs per split, sizes, brightness, pairs that do not match, photographs
that are in two splits, and every file it left out and why.
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pdn_jax import cli
from pdn_jax.types import InputError
from train.datasets import listing, store

SHOWN = 20
"""Lines of a long list that are printed without --all."""


def options_of(argv: list[str]):
    """The parsed command line."""
    parser = cli.Parser(prog="python -m train.prepare", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    common = cli.Parser(add_help=False)
    common.add_argument("--data-dir", default="", help="folder of built data sets (as TFDS's own)")
    common.add_argument("--all", action="store_true", help="print every line of long lists")
    built = cli.Parser(add_help=False)
    built.add_argument("--source", required=True, type=Path, help="folder to read; never changed")
    built.add_argument("--name", required=True, help="what to call it: letters, digits, _ and -")
    built.add_argument(
        "--seed", type=int, default=0, help="of the split, where the source has none"
    )
    built.add_argument(
        "--held-out", type=float, default=0.1, help="part of the scenes for dev, and for test"
    )
    built.add_argument("--rebuild", action="store_true", help="replace one built of something else")
    table = cli.Parser(add_help=False)
    table.add_argument("--csv", type=Path, help="table of the files, paths relative to --source")
    pairs = kinds.add_parser("paired", parents=[common, built, table], help="dark and normal pairs")
    pairs.add_argument(
        "--only", action="append", default=[], metavar="COLUMN=VALUE", help="rows of the csv"
    )
    scenes = kinds.add_parser(
        "brackets", parents=[common, built, table], help="scenes in several exposures"
    )
    scenes.add_argument("--splits", type=Path, help="csv with the columns scene and split")
    kinds.add_parser("photos", parents=[common, built], help="well-exposed photographs")
    kinds.add_parser("list", parents=[common], help="the data sets that were built")
    return parser.parse_args(argv)


def check(options) -> None:
    """Raise InputError for options that make no sense."""
    name = options.name
    if not name or not name.replace("-", "_").isidentifier() or not name.isascii():
        raise InputError(f"--name {name!r}: expected letters, digits, _ and -, a letter first")
    if name == "packaged":
        raise InputError("--name packaged is that of the packaged photographs; choose another")
    if not 0.0 <= options.held_out < 0.5:
        raise InputError(f"--held-out {options.held_out}: expected from 0 to below 0.5")
    if options.seed < 0:
        raise InputError(f"--seed {options.seed}: expected 0 or more")
    for condition in getattr(options, "only", []):
        if "=" not in condition:
            raise InputError(f"--only {condition}: expected COLUMN=VALUE")


def fingerprint(kind: str, found: listing.Listing, source: Path, options) -> str:
    """Of the source and the options: the same again means that there is nothing to do."""
    files = []
    for path in dict.fromkeys(found.files):
        known = path.stat()
        files.append([str(path.relative_to(source) if path.is_relative_to(source) else path.name)])
        files[-1] += [known.st_size, known.st_mtime_ns]
    records = [[r.name, r.scene, r.split, len(r.files)] for r in found.records]
    asked = [kind, options.seed, options.held_out]
    return hashlib.sha256(json.dumps([asked, files, records]).encode()).hexdigest()


def prepare(options, console: Console) -> dict:
    """Build the data set that the options ask for, or find it built; its plan."""
    check(options)
    source, kind = options.source, options.kind
    if kind == "paired":
        found = listing.paired(source, options.csv, options.only)
    elif kind == "brackets":
        found = listing.brackets(source, options.csv, options.splits)
    else:
        found = listing.photos(source)
    wanted = fingerprint(kind, found, source, options)
    path = store.find(options.name, options.data_dir)
    if path is not None:
        built = store.plan(options.name, options.data_dir)
        if built.get("fingerprint") == wanted:
            console.print(f"{options.name} is built already: nothing to do", highlight=False)
            return built
        if not options.rebuild:
            raise InputError(
                f"{options.name} was built from something else, or its source has changed since; "
                "choose another --name, or --rebuild to replace it"
            )
        if built["kind"] != kind:
            raise InputError(f"{options.name} is of kind {built['kind']}; choose another --name")

    from train.datasets import builders, survey

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        reading = bar.add_task("reading", total=len(found.records))
        plan = survey.survey(
            kind,
            source,
            found,
            seed=options.seed,
            held_out=options.held_out,
            advance=lambda: bar.advance(reading),
        )
        plan["fingerprint"] = wanted
        writing = bar.add_task("writing", total=sum(map(len, plan["examples"].values())))

        def build(staging: Path) -> Path:
            return builders.build(
                lambda: builders.BUILDERS[kind](
                    name=options.name,
                    plan=plan,
                    source=source,
                    data_dir=staging,
                    advance=lambda: bar.advance(writing),
                )
            )

        store.install(build, options.data_dir)
    return store.plan(options.name, options.data_dir)


# --- the report ----------------------------------------------------------------------------------


def report(name: str, plan: dict, console: Console, *, whole: bool = False) -> None:
    """Print what a plan holds: counts, sizes, brightness, doubts, and what was left out."""
    table = Table(title=f"{name} ({plan['kind']}), split by {plan['split_by']}")
    for column in ("split", "examples", "scenes", "dark", "sizes", "low", "normal"):
        table.add_column(column, justify="left" if column in ("split", "sizes") else "right")
    for split, examples in plan["examples"].items():
        dark = [f["mean"] for e in examples for f in e["frames"][:-1]]
        table.add_row(
            split,
            str(len(examples)),
            str(len({e["scene"] for e in examples})),
            str(len(dark)) if dark else "drawn",
            sizes(examples),
            spread(dark),
            spread([e["frames"][-1]["mean"] for e in examples]),
        )
    console.print(table)
    console.print(
        "dark: photographs to learn from; low, normal: their mean of 255, median and range",
        style="dim",
    )
    lists = (
        (
            "pairs whose edges disagree: not the same scene, moved, or all noise (kept)",
            [f"{pair}: correlation {value}" for pair, value in plan["doubtful"]],
        ),
        (
            "photographs in two splits",
            [f"{a} ({s}) and {b} ({t}): {how}" for s, a, t, b, how in plan["across"]],
        ),
        ("left out", [f"{file}: {reason}" for file, reason in plan["refused"]]),
    )
    for title, lines in lists:
        console.print(f"{title}: {len(lines) or 'none'}", highlight=False, style="bold")
        shown = lines if whole else lines[:SHOWN]
        for line in shown:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
        if len(shown) < len(lines):
            console.print(f"  and {len(lines) - len(shown)} more; --all prints them")
    console.print(f"built in {plan['path']}", highlight=False, soft_wrap=True)


def sizes(examples: list[dict]) -> str:
    """'600×400', or the commonest and how many other sizes there are."""
    counts = Counter(f"{e['frames'][-1]['width']}×{e['frames'][-1]['height']}" for e in examples)
    (size, _), others = counts.most_common(1)[0], len(counts) - 1
    return size + (f" +{others}" if others else "")


def spread(values: list[float]) -> str:
    """'median (least–most)'."""
    if not values:
        return ""
    return f"{np.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def run(argv: list[str]) -> None:
    """The command line; raises InputError for bad input."""
    options, console = options_of(argv), Console(file=sys.stdout)
    if options.kind != "list":
        report(options.name, prepare(options, console), console, whole=options.all)
        return
    found = store.names(options.data_dir)
    if not found:
        print(f"no data sets in {store.data_dir(options.data_dir)} yet")
    for name in found:
        report(name, store.plan(name, options.data_dir), console, whole=options.all)


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
