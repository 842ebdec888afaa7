"""Writes docs/reference/{states,errors,settings,cli}.md from the code.

`--check` only compares, and exits 1 where a page is out of date.

Each page has one function below, named after it, which gets the module that the page is made from. How pages are
written is in pages.py.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tools import pages


def errors(module: ModuleType) -> str:
    """The tree, in the order of the file; `Stopping` stands apart because no caller ever sees it."""
    rows = [
        (
            "&emsp;" * depth + f"`{error.__name__}`",
            f"`{error.code}`",
            str(error.status),
            yes(error.retryable),
            says(error),
        )
        for depth, error in tree(module.HoldfastError)
    ]
    return "\n\n".join(
        (
            pages.head(
                "Errors",
                "Every error that Holdfast raises. `code` is stable and meant for programs; the status is what the\n"
                "service answers with; *again* says whether the same call may succeed later without a change.\n"
                "The sentence is what the error says where nothing more exact is known. All are importable from\n"
                "`holdfast.errors`.",
            ),
            pages.table(("error", "code", "status", "again", "says"), rows),
            f"`Stopping` is no error: {says(module.Stopping)[0].lower()}{says(module.Stopping)[1:]}",
        )
    )


def tree(error: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    yield depth, error
    for child in error.__subclasses__():
        if child.__module__ == error.__module__:
            yield from tree(child, depth + 1)


def says(thing: object) -> str:
    """The first paragraph of the docstring as one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def yes(value: bool) -> str:
    return "yes" if value else ""


PAGES = {"errors": ("holdfast.errors", errors)}


def main(arguments: list[str]) -> int:
    wanted = {
        pages.REFERENCE / f"{name}.md": write(importlib.import_module(module)) + "\n"
        for name, (module, write) in PAGES.items()
    }
    return pages.write(wanted, check="--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
