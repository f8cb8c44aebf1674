"""Folders of photographs in, data sets to train on out; the source is only read.

    python -m train.tools.prepare paired   --source DIR --name lol
    python -m train.tools.prepare brackets --source DIR --name sice
    python -m train.tools.prepare photos   --source DIR --name holiday
    python -m train.tools.prepare list

prints what the source holds: photographs per split, sizes, brightness, pairs that do not match, photographs
that are in two splits, and every file it left out and why.
"""

import functools
import hashlib
import io
import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pdn_jax import cli, copies, places, user_cache
from pdn_jax.types import InputError
from train.data import store
from train.data.prepare import folders, listing
from train.data.prepare.install import install

SURVEYED = "surveyed"
"""Folder of the cache that keeps what was read, until a data set is built of it."""

SHOWN = 20
"""Lines of a long list that are printed without --all."""


def options_of(argv: list[str]):
    """The parsed command line."""
    parser = cli.Parser(prog="python -m train.tools.prepare", description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    common, built, table = (cli.Parser(add_help=False) for _ in range(3))
    common.add_argument("--data-dir", default="", help="folder of built data sets (as TFDS's own)")
    common.add_argument("--all", action="store_true", help="print every line of long lists")
    add = built.add_argument
    add("--source", required=True, type=places.argument, help="folder to read; never changed")
    add("--name", required=True, help="what to call it: letters, digits, _ and -")
    add("--seed", type=int, default=0, help="of the split, where the source has none")
    add("--held-out", type=float, default=0.1, help="part of the scenes for dev, and for test")
    add("--rebuild", action="store_true", help="replace one built of something else")
    table.add_argument(
        "--csv", type=places.argument, help="table of the files, paths relative to --source"
    )
    kind, several = kinds.add_parser, {"nargs": "+", "default": []}
    pairs = kind("paired", parents=[common, built, table], help="dark and normal pairs")
    pairs.add_argument("--only", **several, metavar="COLUMN=VALUE", help="rows of the csv")
    scenes = kind("brackets", parents=[common, built, table], help="scenes in several exposures")
    scenes.add_argument(
        "--splits", type=places.argument, help="csv with the columns scene and split"
    )
    kind("photos", parents=[common, built], help="well-exposed photographs")
    kind("list", parents=[common], help="the data sets that were built")
    return parser.parse_args(argv)


def check(options) -> None:
    """Raise InputError for options that make no sense."""
    name = options.name
    if not re.fullmatch(r"[A-Za-z][\w-]{0,63}", name, re.ASCII):
        raise InputError(
            f"--name {name!r}: expected up to 64 letters, digits, _ and -, a letter first"
        )
    if name == "packaged":
        raise InputError("--name packaged is that of the packaged photographs; choose another")
    if not 0.0 <= options.held_out < 0.5:
        raise InputError(f"--held-out {options.held_out}: expected from 0 to below 0.5")
    if options.seed < 0:
        raise InputError(f"--seed {options.seed}: expected 0 or more")
    for condition in getattr(options, "only", []):
        if "=" not in condition:
            raise InputError(f"--only {condition}: expected COLUMN=VALUE")
    where = store.data_dir(options.data_dir)
    if places.is_url(where) or places.is_url(options.source):
        return
    where = where.resolve()
    if where.is_relative_to(options.source.resolve()):
        raise InputError(
            f"{where} lies in the source, which is only read; name another folder with --data-dir"
        )


def listed(options) -> listing.Listing:
    """What the source holds, by names."""
    try:
        if options.kind == "paired":
            return listing.paired(options.source, options.csv, options.only)
        if options.kind == "brackets":
            return listing.brackets(options.source, options.csv, options.splits)
        return listing.photos(options.source)
    except OSError as error:
        where = error.filename or options.source
        raise InputError(f"{where} cannot be read: {error.strerror or error}") from error


def fingerprint(source: listing.Listing, options) -> str:
    """Of the source and the options: the same again means that there is nothing to do."""
    files, folder = [], options.source
    for path in dict.fromkeys(source.files):
        name = str(path.relative_to(folder) if path.is_relative_to(folder) else path.name)
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        files.append([name, status.st_size, status.st_mtime_ns])
    records = [[r.name, r.scene, r.split, len(r.files)] for r in source.records]
    asked = [options.kind, options.seed, options.held_out]
    return hashlib.sha256(json.dumps([asked, files, records]).encode()).hexdigest()


def built(options, wanted: str) -> dict | None:
    """The plan of the data set of that name if it is what is wanted, None where it is to be built.

    Raises InputError where another has the name, unless it may be replaced.
    """
    path = store.find(options.name, options.data_dir)
    if path is None:
        return None
    kind = next(kind for kind, folder in store.KINDS.items() if folder == path.parent.parent.name)
    if kind != options.kind:
        raise InputError(f"{options.name} is of kind {kind}; choose another --name")
    try:
        plan = store.plan(options.name, options.data_dir)
    except InputError:
        if options.rebuild:
            return None
        raise
    if plan.get("fingerprint") == wanted:
        return plan
    if options.rebuild:
        return None
    raise InputError(
        f"{options.name} was built from something else, or its source has changed since; "
        "choose another --name, or --rebuild to replace it"
    )


def prepare(options, console: Console) -> dict:
    """Build the data set that the options ask for, or find it built; its plan."""
    check(options)
    for name in ("source", "csv", "splits"):
        if given := getattr(options, name, None):
            setattr(options, name, copies.fetched(given))
    source = listed(options)
    wanted = fingerprint(source, options)
    plan = built(options, wanted)
    if plan is not None:
        console.print(f"{options.name} is built already: nothing to do", highlight=False)
        return plan
    from train.data.prepare import builders
    from train.data.prepare.journal import Journal
    from train.data.prepare.plan import make_plan

    shown = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    quiet = not console.is_terminal
    with Progress(*shown, console=console, transient=True, disable=quiet) as bar:

        def build(staging: Path) -> Path:
            reading = bar.add_task("reading", total=len(source.records))
            drawn = {"seed": options.seed, "held_out": options.held_out}
            drawn["advance"] = functools.partial(bar.advance, reading)
            with Journal(kept) as journal:
                plan = make_plan(options.kind, options.source, source, **drawn, journal=journal)
            plan["fingerprint"] = wanted
            writing = bar.add_task("writing", total=sum(map(len, plan["examples"].values())))
            made = {"name": options.name, "plan": plan, "source": options.source}
            advance = functools.partial(bar.advance, writing)
            builder = functools.partial(builders.BUILDERS[options.kind], **made, advance=advance)
            return builders.build(lambda: builder(data_dir=staging))

        source_key = hashlib.sha256(str(options.source.absolute()).encode()).hexdigest()[:12]
        kept = user_cache.folder() / SURVEYED / f"{options.kind}-{options.name}-{source_key}.jsonl"
        install(build, store.data_dir(options.data_dir), replace=options.rebuild)
        kept.unlink(missing_ok=True)
    options.rebuild = False  # what another process has built meanwhile stays, and is said
    return built(options, wanted)


# --- the report ----------------------------------------------------------------------------------


def report(
    name: str, plan: dict, console: Console, *, whole: bool = False, most: int = SHOWN
) -> None:
    """Print counts, sizes, brightness, doubts, what was left out; `most` lines of a list, or all."""
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
    legend = "dark: photographs to learn from; low, normal: their brightness of 255, mean and range"
    console.print(legend, style="dim", soft_wrap=True)
    for note in plan.get("notes", ()):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    across = [f"{a} ({s}) and {b} ({t}): {how}" for s, a, t, b, how in plan["across"]]
    refused = [f"{file}: {reason}" for file, reason in plan["refused"]]
    lists = {"photographs in two splits (kept)": across, "left out": refused}
    if plan["kind"] == "paired":
        unequal = sum(reason.startswith("the sizes") for _, reason in plan["refused"])
        console.print(f"pairs whose sizes disagree (left out): {unequal or 'none'}", style="bold")
        doubts = [f"{pair}: correlation {value}" for pair, value in plan["doubtful"]]
        title = "pairs whose edges disagree: not the same scene, moved, or all noise (kept)"
        lists = {title: doubts} | lists
    plain = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
    for title, lines in lists.items():
        console.print(f"{title}: {len(lines) or 'none'}", highlight=False, style="bold")
        shown = lines if whole else lines[:most]
        for line in shown:
            console.print(f"  {folders.printable(line)}", **plain)
        if shown and len(shown) < len(lines):
            console.print(f"  and {len(lines) - len(shown)} more; --all prints them")
    console.print(f"built in {plan['path']}", highlight=False, markup=False, soft_wrap=True)


def sizes(examples: list[dict]) -> str:
    """'600×400', or the commonest and how many other sizes there are."""
    counts = Counter(f"{e['frames'][-1]['width']}×{e['frames'][-1]['height']}" for e in examples)
    (size, _), others = counts.most_common(1)[0], len(counts) - 1
    return size + (f" +{others}" if others else "")


def spread(values: list[float]) -> str:
    """'mean (least–most)'."""
    if not values:
        return ""
    return f"{np.mean(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def run(argv: list[str]) -> None:
    """The command line; raises InputError for bad input."""
    options = options_of(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that knows no × or é gets \\xd7
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(file=sys.stdout)
    if options.kind != "list":
        report(options.name, prepare(options, console), console, whole=options.all)
        return
    names, damaged = store.names(options.data_dir), []
    if not names:
        print(f"no data sets in {store.data_dir(options.data_dir)} yet")
    for name in names:
        try:
            plan = store.plan(name, options.data_dir)
        except InputError as error:
            damaged.append(str(error))
            continue
        report(name, plan, console, whole=options.all, most=0)
    if damaged:
        raise InputError("; ".join(damaged))


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
