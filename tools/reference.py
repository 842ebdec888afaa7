"""Writes docs/reference/{api,cli,client,drivers,errors,python,settings,states}.md from the code.

`--check` only compares, and exits 1 where a page is out of date.

Each page has one function, named after it, which gets the module that the page is made from: errors and settings
below, each other in a file of its own, as cli in cli_page.py. How pages are written is in pages.py.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tools import pages
from tools.api_page import api
from tools.cli_page import cli
from tools.client_page import client
from tools.drivers_page import drivers
from tools.python_page import python
from tools.states_page import states

ERRORS = """
Every error that Holdfast raises. `code` is stable and meant for programs; the status is what the service answers with;
*again* says whether the same call may succeed later without a change. The sentence is what the error says where nothing
more exact is known. These are importable from `holdfast.errors`; the service has a few of its own, below.
"""
SETTINGS = """
A setting is given as an argument, `hf.open(url, lease_s=60)`, or by its environment variable. An argument wins.
`holdfast doctor` shows what holds, and names variables that look like a setting and are none.
"""


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
            pages.head("Errors", ERRORS),
            pages.table(("error", "code", "status", "again", "says"), rows),
            f"`Stopping` is no error: {says(module.Stopping)[0].lower()}{says(module.Stopping)[1:]}",
            "## Of the service alone",
            pages.table(("code", "status", "again", "says"), of_the_service(module)),
        )
    )


def of_the_service(module: ModuleType) -> list[tuple[str, ...]]:
    from holdfast.service import problems

    known = {error.code for _, error in tree(module.HoldfastError)}
    own: list[Any] = [each for each in vars(problems).values() if getattr(each, "__module__", "") == problems.__name__]
    return [
        (f"`{error.code}`", str(error.status), yes(error.retryable), says(error))
        for error in own
        if hasattr(error, "code") and error.code not in known
    ]


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


def settings(module: ModuleType) -> str:
    rows = [
        (f"`{row.name}`", f"`{row.variable}`", plain(row.default), row.unit, bounds(row), row.help)
        for row in module.TABLE
    ]
    columns = ("setting", "variable", "default", "unit", "bounds", "what it is for")
    return "\n\n".join((pages.head("Settings", SETTINGS), pages.table(columns, rows)))


def plain(value: object) -> str:
    """As one would write it into the environment."""
    return "–" if value is None else f"`{str(value).removesuffix('.0')}`"


def bounds(setting: Any) -> str:
    if setting.kind is str:
        return ""
    return f"from {setting.least:,}" if setting.most == float("inf") else f"{setting.least:,} to {setting.most:,}"


PAGES = {
    "api": ("holdfast.service.app", api),
    "cli": ("holdfast.cli.main", cli),
    "client": ("holdfast.client", client),
    "drivers": ("holdfast.resources.node.drivers", drivers),
    "errors": ("holdfast.errors", errors),
    "python": ("holdfast", python),
    "settings": ("holdfast.settings", settings),
    "states": ("holdfast.core.states", states),
}


def main(arguments: list[str]) -> int:
    wanted = {
        pages.REFERENCE / f"{name}.md": write(importlib.import_module(module)) + "\n"
        for name, (module, write) in PAGES.items()
    }
    return pages.write(wanted, check="--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
