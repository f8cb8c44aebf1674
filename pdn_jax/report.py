"""What the `enhance` command says of each photograph: lines on stderr, or JSON on stdout."""

import contextlib
import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from pdn_jax.errors import InputError
from pdn_jax.places import Location

if TYPE_CHECKING:
    from pdn_jax.photo import Job, Outcome

WITHIN = 300
"""Characters of a line that names what was left out."""


class Report:
    """What becomes of each photograph, in lines on stderr, or of JSON on stdout."""

    def __init__(self, as_json: bool):
        """Args: as_json: one line of JSON for each photograph."""
        self.as_json = as_json
        self.failed = self.written = self.alone = 0
        self.reasons: Counter[str] = Counter()

    def left_out(self, path: Location, reason: str) -> None:
        """Say that a file is passed by.

        Args:
            path: the file or folder.
            reason: why, in a few words.
        """
        self.reasons[reason] += 1
        self._say({"source": path, "left_out": reason}, f"left out: {path} ({reason})")

    def planned(self, job: "Job") -> None:
        """Say what would be done.

        Args:
            job: a photograph and its target.
        """
        line = {"source": job.source, "target": job.target}
        if self.as_json:
            self._say(line, "")
        else:
            tell(f"{job.source} -> {job.target}")

    def failure(self, job: "Job", error: InputError) -> None:
        """Say that a photograph could not be enhanced.

        Args:
            job: it and its target.
            error: why.
        """
        self.failed += 1
        line = {"source": job.source, "target": job.target, "error": str(error)}
        self._say(line, f"error: {error}")

    def outcome(self, outcome: "Outcome") -> None:
        """Say what became of a photograph.

        Args:
            outcome: enhanced, or left alone.
        """
        self.written += outcome.written
        self.alone += not outcome.written
        notes = [*outcome.notes]
        notes += [f"not kept: {', '.join(outcome.lost)}"] if outcome.lost else []
        self._say(as_line(outcome), f"{outcome.source}: {'; '.join(notes)}" if notes else "")

    def summary(self, count: int) -> None:
        """All in one line, where there was more than one photograph.

        Args:
            count: how many there were.
        """
        if self.as_json or (count < 2 and not self.reasons):
            return
        parts = [f"{self.written} enhanced"]
        parts += [f"{self.alone} left alone"] if self.alone else []
        parts += [f"{self.failed} of {count} failed"] if self.failed else []
        if self.reasons:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.reasons.most_common())
            parts.append(f"{self.reasons.total()} left out: {reasons[:WITHIN]}")
        complain("; ".join(parts))

    def _say(self, line: dict[str, Any], text: str) -> None:
        if self.as_json:
            tell(json.dumps(line, default=str, ensure_ascii=False))
        elif text:
            complain(text)


def tell(text: str) -> None:
    """Print one line on stdout, and go on where nobody reads any more.

    Args:
        text: what to say; bytes of a file name that are no letters are written as escapes.
    """
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:
            print(text.encode("ascii", "backslashreplace").decode(), flush=True)
    except BrokenPipeError:  # as after `| head`; nor does Python complain of it at its end
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def as_line(outcome: "Outcome") -> dict[str, Any]:
    """An outcome as --json prints it.

    Args:
        outcome: of a photograph.

    Returns:
        Names and values; exposure in stops relative to a usual photograph, noise in levels of 255.
    """
    return {
        "source": outcome.source,
        "target": outcome.target,
        "written": outcome.written,
        "width": outcome.size[0],
        "height": outcome.size[1],
        "format": outcome.kind,
        "bits": outcome.bits,
        "exposure": round(outcome.stops, 2),
        "noise": round(outcome.noise, 2),
        "seconds": round(outcome.seconds, 3),
        "notes": outcome.notes,
        "not_kept": outcome.lost,
    }


def complain(text: Exception | str) -> None:
    """Print one line on stderr, whatever line ends the text has.

    Args:
        text: what to say.
    """
    with contextlib.suppress(
        OSError
    ):  # a full disk, or nobody who reads; the exit code says it too
        print("pdn_jax:", " ".join(str(text).split("\n")), file=sys.stderr, flush=True)
