"""A run on one page that opens offline: how far it is, its curves, its picture, its scores.

    python -m train.tools.report RUN_FOLDER [--out page.html]

reads what the run has written so far, also of one that still goes on or was stopped, and touches
no device. The page holds everything that it shows.
"""

import base64
import csv
import html
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from pdn_jax import cli, copies, files, places
from pdn_jax.types import InputError
from train import metrics, run_dir
from train.config import flattened
from train.tools import curves

PICTURE = "stages.png"


class Run(NamedTuple):
    """What a run folder holds: options, rows of metrics.csv, tables of scores by file name, the
    picture of the stages, None where there is none yet, and what could not be read, and why."""

    folder: Path
    options: dict[str, Any]
    rows: list[metrics.Row]
    tables: dict[str, list[dict[str, str]]]
    picture: Image.Image | None
    unread: Sequence[str] = ()


# --- what there is -----------------------------------------------------------------------------


def read_run(folder: Path) -> Run:
    """A run folder; raises InputError where it is none. Any other file may be missing or damaged."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the run_dir of a training")
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} has no config.json, so it is no run; name a training's run_dir")
    unread: list[str] = []

    def tried(path: Path, read: Callable[[Path], Any], otherwise: Any) -> Any:
        try:
            return read(path)
        except (OSError, ValueError, SyntaxError, csv.Error) as error:
            reason = str(getattr(error, "strerror", None) or error)
            unread.append(f"{path.name} cannot be read: {reason}")
            return otherwise

    options = tried(path, read_options, {})
    logged = tried(folder / "metrics.csv", metrics.read_rows, [])
    tables = {
        path.name: tried(path, read_table, []) for path in sorted(folder.glob("evaluation*.csv"))
    }
    picture = tried(folder / PICTURE, read_picture, None)
    return Run(folder, options, logged, {n: t for n, t in tables.items() if t}, picture, unread)


def read_options(path: Path) -> dict[str, Any]:
    """A run's options by their dotted names; raises ValueError where there are none."""
    options = json.loads(path.read_text())
    if not isinstance(options, dict):
        raise ValueError("it holds no options")
    return flattened(options)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `train.evaluate` wrote; raises ValueError where it is none."""
    with path.open(newline="", errors="replace") as file:
        reader = csv.DictReader(file)
        scores = list(reader)
    if not scores or (reader.fieldnames or [])[:2] != ["method", "photograph"]:
        raise ValueError("it is no table of scores")
    return scores


def read_picture(path: Path) -> Image.Image | None:
    """A picture in RGB, None where there is none."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.convert("RGB")


def facts(run: Run) -> dict[str, str]:
    """Label -> what a look at the run should show first."""
    total = run.options.get("train.steps", "?")
    step = int(run.rows[-1]["step"]) if run.rows else 0
    shown = {"steps": f"{step} of {total}", "network": str(run.options.get("model.variant", "?"))}
    judged = [row for row in run.rows if row.get("eval/psnr")]
    if judged:
        best = max(judged, key=lambda row: float(row["eval/psnr"]))
        shown["PSNR now"] = f"{float(judged[-1]['eval/psnr']):.2f} dB"
        shown["best PSNR"] = f"{float(best['eval/psnr']):.2f} dB at step {best['step']}"
    speeds = [row["images_per_second"] for row in run.rows if row.get("images_per_second")]
    if speeds:
        shown["images/s"] = f"{float(speeds[-1]):.3g}"
    return shown


# --- the page ----------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: #fff; color: #222;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; color: #555; }
dl { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; }
dl div { border: 1px solid #ddd; border-radius: .4rem; padding: .4rem .8rem; }
dt { font-size: .8rem; color: #666; }
dd { margin: 0; font-weight: 600; }
.curves { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.curves img { width: 100%; height: auto; }
.wide { overflow-x: auto; }
.wide img { display: block; max-width: none; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
summary { cursor: pointer; margin: .5rem 0; }
"""


def page(run: Run) -> str:
    """The whole page, HTML."""
    title = html.escape(run.folder.resolve().name)
    parts = [f"<h1>{title}</h1>", *(f"<p>{html.escape(line)}</p>" for line in run.unread)]
    shown = (
        f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>"
        for k, v in facts(run).items()
    )
    parts += [f"<dl>{''.join(shown)}</dl>", "<h2>Curves</h2>", _curves(run.rows)]
    parts += ["<h2>Stages and levels</h2>", _picture(run.picture), "<h2>Scores</h2>"]
    parts += [_scores(name, table) for name, table in run.tables.items()]
    if not run.tables:
        parts.append("<p>The table of scores is written when the run ends.</p>")
    options = _table(["option", "value"], [[k, str(v)] for k, v in run.options.items()])
    options = f"<details><summary>{len(run.options)} options</summary>{options}</details>"
    parts += ["<h2>Options</h2>", options]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _curves(logged: Sequence[metrics.Row]) -> str:
    drawn = curves.drawings(logged)
    if not drawn:
        return "<p>Nothing has been logged yet.</p>"
    images = [
        f'<img alt="{html.escape(name)}" src="{_data("image/svg+xml", svg)}">'
        for name, svg in drawn.items()
    ]
    return f'<div class="curves">{"".join(images)}</div>'


def _picture(picture: Image.Image | None) -> str:
    if picture is None:
        return "<p>The picture is written at the first evaluation.</p>"
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, subsampling=0)
    legend = "Rows of photographs: low, every stage, every level, restored, truth"
    image = f'<img alt="{legend}" src="{_data("image/jpeg", buffer.getvalue())}">'
    return f'<p>{legend}.</p><div class="wide">{image}</div>'


def _scores(name: str, table: Sequence[dict[str, str]]) -> str:
    """The means with their intervals, and every photograph folded away."""
    summary = ("mean", "interval low", "interval high")
    columns = [c for c in table[0] if c not in ("method", "photograph", "scene")]
    cells = {(row["method"], row["photograph"]): row for row in table}
    means = []
    for method in dict.fromkeys(row["method"] for row in table):
        parts = [cells.get((method, part), {}) for part in summary]
        means.append([method, *(_interval(*parts, column) for column in columns)])
    each = [
        [f"{row['method']}: {row['photograph']}", *(_number(row[column]) for column in columns)]
        for row in table
        if row["photograph"] not in summary
    ]
    heads = [column.replace("_", "-") for column in columns]
    return (
        f"<p>{html.escape(name)}: means over the photographs, their 95 % interval in brackets. "
        "What is called gt-mean leans on the truth.</p>"
        + _table(["method", *heads], means)
        + f"<details><summary>{len(each)} single scores</summary>"
        + _table(["photograph", *heads], each)
        + "</details>"
    )


def _interval(mean: dict, low: dict, high: dict, column: str) -> str:
    span = f" ({_number(low.get(column))} – {_number(high.get(column))})"
    known = low and high and low.get(column) != high.get(column)  # of one photograph it is not
    return _number(mean.get(column)) + (span if known else "")


def _number(text: str | None) -> str:
    """Four digits of a number; what is none as it is."""
    try:
        return f"{float(text or ''):.4g}"
    except ValueError:
        return text or ""


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in body)
    lines = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


# --- the command line --------------------------------------------------------------------------


def options_of(argv: Sequence[str]):
    """The parsed command line."""
    parser = cli.Parser(prog="python -m train.tools.report", description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", type=places.argument, metavar="RUN_FOLDER", help="the run_dir of a training"
    )
    parser.add_argument(
        "--out", type=places.argument, help="the page (default: report.html in that folder)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an --out that exists")
    options = parser.parse_args(argv)
    if options.out and places.exists(options.out) and not options.overwrite:
        raise InputError(f"{options.out} exists; choose another --out or add --overwrite")
    return options


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    options = options_of(argv)
    out = options.out or options.run / "report.html"
    if out.is_dir():
        raise InputError(f"{out} is a folder; name an html file with --out")
    content = read_run(copies.fetched(options.run, without=f"{run_dir.CHECKPOINTS}/"))
    try:
        files.write_text(out, page(content))
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror}); name another with --out"
        ) from error
    for line in content.unread:
        print(f"left out: {line}", file=sys.stderr)
    print(f"written to {out}")


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
