"""The tests can fail, wait for nothing but facts, and leave nothing out."""

from __future__ import annotations

import ast
import re

from tests.shape import repository
from tests.shape.test_words import matches

# A test that asserts through a function names it so that one sees it does.
ASSERTING = re.compile(r"assert|check|conform|exercise|expect|fail|raises|verify|warns|must")


def asserts(function: repository.Function) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call) and ASSERTING.search(ast.unparse(node.func)):
            return True
    return False


def test_every_test_can_fail() -> None:
    idle = [
        f"{repository.name(path)}:{function.lineno} {function.name}"
        for path in repository.python_files("tests")
        for function in repository.functions(path)
        if function.name.startswith("test_") and not asserts(function)
    ]
    assert idle == []


def test_no_test_is_skipped() -> None:
    skipping = re.compile(r"pytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b|unittest\.skip")
    own = repository.ROOT / "tests" / "shape"
    assert matches(skipping, [path for path in repository.python_files("tests") if own not in path.parents]) == []


def test_nothing_sleeps() -> None:
    sleeping = re.compile(r"\btime\.sleep\b|from time import .*\bsleep\b")
    own = repository.ROOT / "tests" / "shape"
    paths = [path for path in repository.python_files("src", "tests") if own not in path.parents]
    assert matches(sleeping, paths) == []


def test_nothing_is_mocked() -> None:
    mocking = re.compile(r"unittest\.mock|from unittest import mock|\bMagicMock\b|\bmocker\b")
    own = repository.ROOT / "tests" / "shape"
    assert matches(mocking, [path for path in repository.python_files("tests") if own not in path.parents]) == []


def test_every_test_file_has_a_test() -> None:
    empty = [
        repository.name(path)
        for path in repository.python_files("tests")
        if path.name.startswith("test_")
        and not any(function.name.startswith("test_") for function in repository.functions(path))
        and not any(isinstance(n, ast.Assign | ast.ClassDef) for n in repository.tree(path).body)  # state machines
    ]
    assert empty == []
