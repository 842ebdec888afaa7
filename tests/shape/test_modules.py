"""What a module says about itself, and what `import holdfast` costs."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

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


def loaded_by(script: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after it. -S: no site-packages at all, so that nothing that a
    .pth file loads is taken for ours or hides ours."""
    around = f"import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n{script}\n"
    words = [sys.executable, "-S", "-c", around + "print(*set(sys.modules) - before)", str(repository.SOURCE.parent)]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


def foreign(modules: set[str]) -> list[str]:
    """Those that are neither the standard library's nor ours."""
    return sorted(name for name in modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "holdfast"})


def test_importing_holdfast_loads_the_standard_library_only_and_little_of_it() -> None:
    loaded = loaded_by("import holdfast")
    assert "holdfast" in loaded
    assert foreign(loaded) == []
    assert sorted(DEAR_MODULES & loaded) == []


@pytest.mark.requirement("NOVA-19")
def test_running_a_flow_in_memory_loads_no_service_and_no_database() -> None:
    loaded = loaded_by(
        "import holdfast as hf\n"
        "first = hf.step(lambda: 1, name='first', provides='one')\n"
        "second = hf.step(lambda one: one + 1, name='second', provides='two')\n"
        "assert hf.run(hf.linear('f', first, second)).results['two'] == 2"
    )
    assert foreign(loaded) == []
    assert sorted({"http", "socketserver", "sqlite3"} & loaded) == []
    assert not any(name.startswith(("holdfast.store", "holdfast.tasks", "holdfast.worker")) for name in loaded)


def test_the_package_says_that_it_is_typed() -> None:
    assert (repository.SOURCE / "py.typed").is_file()


def test_public_names_are_sorted_and_exist() -> None:
    import holdfast

    public = list(getattr(holdfast, "__all__", ()))
    assert public
    assert public == sorted(public, key=str.lower) or public == sorted(public)
    assert [name for name in public if not hasattr(holdfast, name)] == []
