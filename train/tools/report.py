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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from pdn_jax import cli, copies, files, places
from pdn_jax.types import InputError
from train import metrics, run_dir
from train.config import flattened
from train.tools import curves

SUMMARY = ("mean", "interval low", "interval high")
"""Rows of a table of scores that are of no one photograph."""


class Run(NamedTuple):
    """What a run folder holds: options, rows of metrics.csv, tables of scores by file name, and the
    picture of the stages, None where there is none yet."""

    name: str
    options: dict[str, Any]
    rows: list[metrics.Row]
    tables: dict[str, list[dict[str, str]]]
    picture: Image.Image | None


def read_run(folder: Path) -> Run:
    """A run folder; raises InputError where it is none, or where a file of it cannot be read."""
    path = folder / run_dir.OPTIONS
    if not path.is_file():
        raise InputError(f"there is no {path}, so that is no run; name the run_dir of a training")
    try:
        options = flattened(dict(json.loads(path.read_text())))
        if not {"train.steps", "model.variant"} <= options.keys():
            raise ValueError("it holds no options of a training")
        tables = {}
        for path in sorted(folder.glob("evaluation*.csv")):
            with path.open(newline="") as file:
                table = tables[path.name] = list(csv.DictReader(file))
            if not {*SUMMARY} <= {row.get("photograph") for row in table}:
                raise ValueError("it is no table of scores")
        path, picture = folder / "stages.png", None
        if path.exists():
            with Image.open(path) as image:
                picture = image.convert("RGB")
        path = folder / metrics.FILENAME
        rows = metrics.read_rows(path)
    except (OSError, SyntaxError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    return Run(folder.resolve().name, options, rows, tables, picture)


def facts(run: Run) -> list[tuple[str, str]]:
    """(label, what a look at the run should show first)."""
    step = run.rows[-1]["step"] if run.rows else "0"
    shown = [("steps", f"{step} of {run.options['train.steps']}")]
    shown += [("network", run.options["model.variant"])]
    judged = [(float(row["eval/psnr"]), row["step"]) for row in run.rows if row.get("eval/psnr")]
    if judged:
        shown += [("PSNR now", f"{judged[-1][0]:.2f} dB")]
        shown += [("best PSNR", "{:.2f} dB at step {}".format(*max(judged)))]
    speeds = [row["images_per_second"] for row in run.rows if row.get("images_per_second")]
    return shown + [("images/s", f"{float(speed):.3g}") for speed in speeds[-1:]]


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
    title = html.escape(run.name)
    shown = (f"<div><dt>{k}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts(run))
    options = _table(["option", "value"], [[k, str(v)] for k, v in run.options.items()])
    scores = [_scores(name, table) for name, table in run.tables.items()]
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<h1>{title}</h1>\n<dl>{''.join(shown)}</dl>",
        f"<h2>Curves</h2>\n{_curves(run.rows)}",
        f"<h2>Stages and levels</h2>\n{_picture(run.picture)}",
        "<h2>Scores</h2>",
        *(scores or ["<p>The table of scores is written when the run ends.</p>"]),
        "<h2>Options</h2>",
        f"<details><summary>{len(run.options)} options</summary>{options}</details>",
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _curves(rows: Sequence[metrics.Row]) -> str:
    if not (drawn := curves.drawings(rows)):
        return "<p>Nothing has been logged yet.</p>"
    images = [_image(name, "svg+xml", svg) for name, svg in drawn.items()]
    return f'<div class="curves">{"".join(images)}</div>'


def _picture(picture: Image.Image | None) -> str:
    if picture is None:
        return "<p>The picture is written at the first evaluation.</p>"
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, subsampling=0)
    legend = "Rows of photographs: low, every stage, every level, restored, truth"
    return f'<p>{legend}.</p><div class="wide">{_image(legend, "jpeg", buffer.getvalue())}</div>'


def _scores(name: str, table: Sequence[dict[str, str]]) -> str:
    """The means with their intervals, and every photograph folded away."""
    columns = [c for c in table[0] if c not in ("method", "photograph", "scene")]
    rows = {
        (row["method"], row["photograph"]): [f"{float(row[c]):.4g}" for c in columns]
        for row in table
    }
    means = [
        [method, *map(_with_interval, *(rows[method, part] for part in SUMMARY))]
        for method in dict.fromkeys(method for method, _ in rows)
    ]
    each = [[": ".join(key), *cells] for key, cells in rows.items() if key[1] not in SUMMARY]
    heads = [column.replace("_", "-") for column in columns]
    return (
        f"<p>{html.escape(name)}: means over the photographs, their 95 % interval in brackets. "
        f"What is called gt-mean leans on the truth.</p>{_table(['method', *heads], means)}"
        f"<details><summary>{len(each)} single scores</summary>"
        f"{_table(['photograph', *heads], each)}</details>"
    )


def _with_interval(mean: str, low: str, high: str) -> str:
    return mean if low == high else f"{mean} ({low} – {high})"  # of one photograph there is none


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in body)
    lines = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _image(name: str, kind: str, content: bytes) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/{kind};base64,{data}">'


# --- the command line --------------------------------------------------------------------------


def run(argv: Sequence[str]) -> None:
    """The command line; raises InputError for bad input."""
    parser = cli.Parser(prog="python -m train.tools.report", description=__doc__.splitlines()[0])
    add, place = parser.add_argument, {"type": places.argument}
    add("run", **place, metavar="RUN_FOLDER", help="the run_dir of a training")
    add("--out", **place, help="the page (default: report.html in that folder)")
    add("--overwrite", action="store_true", help="replace an --out that exists")
    options = parser.parse_args(argv)
    out = options.out or options.run / "report.html"
    content = read_run(copies.fetched(options.run, without=f"{run_dir.CHECKPOINTS}/"))
    files.check_target(out, options.overwrite or options.out is None)
    try:
        files.write_text(out, page(content))
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); name another") from error
    print(f"written to {out}")


if __name__ == "__main__":
    sys.exit(cli.explained(lambda: run(sys.argv[1:])))
