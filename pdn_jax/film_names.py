"""Which files are films, by their names; nothing that takes long to import."""

from pathlib import Path

EXTENSIONS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".3gp",
    ".mts",
    ".m2ts",
    ".ts",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".ogv",
)
"""What the names of films end in."""


def is_film(path: str | Path) -> bool:
    """Whether a name ends as those of films do.

    Args:
        path: a name; there need be no file.

    Returns:
        True for those of `EXTENSIONS`, in either case.
    """
    return Path(path).suffix.lower() in EXTENSIONS
