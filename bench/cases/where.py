"""Where a case has its database: in a directory of its own (SQLite), or at a URL that it was given (PostgreSQL)."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--directory", type=Path)
    place.add_argument("--url")


def url_of(options: argparse.Namespace, name: str) -> str:
    """`name`: of the file, where it is one."""
    return str(options.url or f"sqlite:///{options.directory / name}")
