"""What a module says about itself, and what `import holdfast` costs."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.shape import repository

# Each costs more than ten milliseconds of a start; `make bench` allows 40 for all.
DEAR_MODULES = {"asyncio", "importlib.metadata", "logging", "multiprocessing", "sqlite3"}


def test_every_module_says_what_lives_in_it() -> None:
    silent = [
        repository.name(path)
        for path in repository.python_files()
        if repository.text(path) and not ast.get_docstring(repository.tree(path))
    ]
    assert silent == []


def test_every_package_of_the_source_has_something_in_it() -> None:
    empty = [
        repository.name(path.parent)
        for path in repository.python_files("src")
        if path.name == "__init__.py" and len(list(path.parent.glob("*.py"))) == 1
    ]
    assert empty == []


def test_importing_holdfast_loads_the_standard_library_only_and_little_of_it() -> None:
    # -S: no site-packages at all, so that nothing that a .pth file loads is taken for ours or hides ours.
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); import holdfast\n"
        "for name in dir(holdfast): getattr(holdfast, name)\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    source = str(repository.SOURCE.parent)
    done = subprocess.run([sys.executable, "-S", "-c", script, source], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "holdfast" in loaded
    foreign = [name for name in loaded if name.partition(".")[0] not in {*sys.stdlib_module_names, "holdfast"}]
    assert foreign == []
    assert sorted(DEAR_MODULES & set(loaded)) == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (repository.SOURCE / "py.typed").is_file()


def test_public_names_are_sorted_and_exist() -> None:
    import holdfast

    public = list(getattr(holdfast, "__all__", ()))
    assert public
    assert public == sorted(public, key=str.lower) or public == sorted(public)
    assert [name for name in public if not hasattr(holdfast, name)] == []
