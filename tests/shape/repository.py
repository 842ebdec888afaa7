"""What the shape tests look at: the files of the repository, read and parsed once."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "holdfast"
PYTHON_FOLDERS = ("src", "tests", "tools", "demo", "bench", "chaos", "examples", "peers")
TEXT_SUFFIXES = {".cfg", ".ini", ".mako", ".md", ".out", ".py", ".sh", ".toml", ".txt"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    """Every Python file below these folders of the repository, those that exist, sorted."""
    return sorted(
        path
        for folder in folders or PYTHON_FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)
    )


def text_files() -> list[Path]:
    """Every file that people write: code, pages, the Makefile, the tools."""
    found = {path for path in ROOT.iterdir() if path.suffix in TEXT_SUFFIXES or path.name == "Makefile"}
    for folder in (*PYTHON_FOLDERS, "docs", "news", ".ci"):
        for path in (ROOT / folder).rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(ROOT / folder).parts)
            plain = path.suffix in TEXT_SUFFIXES or not path.suffix
            if path.is_file() and plain and not hidden and "__pycache__" not in path.parts:
                found.add(path)
    return sorted(found)


def name(path: Path) -> str:
    """The path as it is written in the repository."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), filename=str(path))


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of the file, inner ones too."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def defined_names(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of everything that the file gives a name to: modules, classes, functions, parameters, variables."""
    yield 1, path.stem
    for node in ast.walk(tree(path)):
        if isinstance(node, Function | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
