"""Every example, run as a user runs it: a fresh interpreter, a directory of its own, the output compared exactly."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
LINES_MAX = 60


def output(example: Path, directory: Path) -> str:
    """What it prints, on stdout and stderr as they come; the settings of whoever runs the tests left out."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", example],
        cwd=directory,
        env=plain,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout if done.returncode == 0 else f"{done.stdout}\nexit code {done.returncode}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    assert output(example, tmp_path) == example.with_suffix(".out").read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


def test_examples_are_numbered_without_a_gap_and_each_output_has_its_example() -> None:
    assert [path.name[:3] for path in EXAMPLES] == [f"{number:02}_" for number in range(1, len(EXAMPLES) + 1)]
    assert len(EXAMPLES) >= 10
    assert sorted(FOLDER.glob("*.out")) == [path.with_suffix(".out") for path in EXAMPLES]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_stands_alone_and_says_what_it_teaches(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LINES_MAX
    assert len(ast.get_docstring(tree) or "") > 60
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert "holdfast" in imported
    assert not imported & {path.stem for path in EXAMPLES}


def test_the_list_of_examples_has_each_of_them() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES if f"]({path.name})" not in page] == []
