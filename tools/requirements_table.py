"""Writes docs/reference/requirements.md: each row of tests/requirements.toml with the tests that prove it.

The marks are read from the syntax tree, so nothing is imported. `--check` writes nothing and exits 1 where the page
is out of date.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator

from tools import pages

TESTS = pages.ROOT / "tests"
PAGE = pages.REFERENCE / "requirements.md"
HEAD = """
Each row is something Holdfast must do; beside it stand the tests that carry its name
(`@pytest.mark.requirement("TF-9")`). The rows are kept in `tests/requirements.toml`.
"""
TITLES = {
    "guarantees": "Guarantees",
    "nova": "Tasks on servers",
    "tag": "Tags",
    "neutron": "Resources and claims",
    "ironic": "Control of what runs",
    "taskflow": "Flows and steps",
    "operators": "What operators suffer from",
}


def marks(decorators: list[ast.expr]) -> Iterator[str]:
    """The rows that these decorators (or the value of `pytestmark`) name."""
    for decorator in decorators:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.requirement":
                yield from (str(ast.literal_eval(argument)) for argument in node.args)


def proofs(source: str, place: str) -> Iterator[tuple[str, str]]:
    """(row, test) for every mark in the source of the file that stands at `place`."""
    module = ast.parse(source)
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield from ((row, place) for row in marks([node.value]))
    yield from proofs_in(module, place)


def proofs_in(parent: ast.Module | ast.ClassDef, place: str) -> Iterator[tuple[str, str]]:
    for node in parent.body:
        if isinstance(node, ast.ClassDef):
            yield from ((row, f"{place}::{node.name}") for row in marks(node.decorator_list))
            yield from proofs_in(node, f"{place}::{node.name}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ((row, f"{place}::{node.name}") for row in marks(node.decorator_list))
        elif isinstance(node, ast.Assign):  # TestModel = pytest.mark.requirement("G4")(Model.TestCase)
            name = ast.unparse(node.targets[0])
            if name != "pytestmark":
                yield from ((row, f"{place}::{name}") for row in marks([node.value]))


def table() -> str:
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("*.py")):
        for row, test in proofs(path.read_text(encoding="utf-8"), path.relative_to(pages.ROOT).as_posix()):
            found.setdefault(row, []).append(test)
    parts = [pages.head("Requirements and their tests", HEAD)]
    for group, rows in tomllib.loads((TESTS / "requirements.toml").read_text(encoding="utf-8")).items():
        lines = [(f"**{row}**", what, tests(found.get(row, []))) for row, what in rows.items()]
        parts.append(f"## {TITLES[group]}\n\n" + pages.table(("row", "what must hold", "shown by"), lines))
    return "\n\n".join(parts) + "\n"


def tests(names: list[str]) -> str:
    """Links to the files; one line a test."""
    return "<br>".join(f"[{name.removeprefix('tests/')}](../../{name.partition('::')[0]})" for name in names) or "–"


if __name__ == "__main__":
    sys.exit(pages.write({PAGE: table()}, check="--check" in sys.argv[1:]))
