"""A page to look through: `site` has its files, `folder` makes a folder of it for any web server."""

from pathlib import Path

SITE = Path(__file__).with_name("site")
"""What `serve` and `folder` have in common, served as it is."""
