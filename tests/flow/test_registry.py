"""A flow is found again: by name and version, in a module, in a script; and what is said where it can't be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.flow.test_registry as here
from holdfast.errors import DuplicateName, FlowError, FlowNotFound
from holdfast.flow.compile import as_flow
from holdfast.flow.patterns import Flow, linear
from holdfast.flow.registry import find, load, load_flows, reference_of
from holdfast.flow.step import Step, step


def nothing() -> None:
    """A step that does nothing."""


@step
def alone() -> None:
    """A step that does nothing."""


def make(*steps: Step, version: str = "1") -> Flow:
    return linear("made", *steps, version=version)


build = linear("build", nothing, alone)
copy = alone.with_options(name="copy")
catalogue = [build, make()]

NAME = "tests.flow.test_registry"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to write modules and scripts to, with the interpreter's memory put back after."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_flows_and_steps_of_a_module_are_found() -> None:
    for flow, variable in ((build, "build"), (alone, "alone"), (copy, "copy")):
        assert reference_of(flow) == f"{NAME}:{variable}"
        assert find(f"{NAME}:{variable}") is flow


def test_a_plain_function_of_a_module_is_a_step() -> None:
    assert reference_of(as_flow(nothing)) == f"{NAME}:nothing"
    assert reference_of(nothing) == f"{NAME}:nothing"
    found = find(f"{NAME}:nothing")
    assert isinstance(found, Step)
    assert found.name == "nothing"
    assert find(f"{NAME}:nothing") is found
    with pytest.raises(FlowNotFound, match="is in no variable"):
        reference_of(step(nothing, weight=3))


def test_a_flow_made_elsewhere_is_found_where_its_variable_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.flow.render as other

    elsewhere = make(alone)
    monkeypatch.setattr(other, "elsewhere", elsewhere, raising=False)
    assert reference_of(elsewhere) == "tests.flow.render:elsewhere"
    assert here.build is build


def test_registered_flows_are_asked_first() -> None:
    made = make(alone)
    assert reference_of(build, [made, build]) == "build@1"
    assert find("made@1", [made]) is made
    assert find("made@2", lambda: [made, make(version="2")]).name == "made"
    assert reference_of(make(alone), [made]) == "made@1"
    with pytest.raises(FlowError, match="the flow registered as made@1 has other steps than this one"):
        reference_of(make(), [made])
    with pytest.raises(DuplicateName, match="two different flows are registered as made@1"):
        find("made@1", [make(), make()])
    with pytest.raises(FlowError, match="can't be registered"):
        find("made@1", [nothing])  # type: ignore[list-item]


def test_a_flow_that_could_not_be_found_again_is_refused() -> None:
    with pytest.raises(
        FlowNotFound, match=r"flow 'made' is in no variable, .* flows=\[…\]\) or holdfast worker --flows"
    ):
        reference_of(make())


def test_what_is_not_registered_is_told_with_what_is() -> None:
    with pytest.raises(FlowNotFound, match=r"no flow is registered as made@3: .* Registered are: made@1, made@2"):
        find("made@3", [make(), make(version="2"), build])
    with pytest.raises(FlowNotFound, match="Registered are: build@1"):
        find("other@1", [build])
    with pytest.raises(FlowNotFound, match="Registered are: none"):
        find("other@1")


def test_a_missing_variable_or_module_is_told() -> None:
    with pytest.raises(FlowNotFound, match="has no flow 'biuld': did you mean 'build'\\? It has build, alone, copy"):
        find(f"{NAME}:biuld")
    with pytest.raises(FlowNotFound, match=r"has no flow 'catalogue': it has build"):
        find(f"{NAME}:catalogue")
    with pytest.raises(FlowNotFound, match=r"there is no module 'tests.flow.nowhere': .*PYTHONPATH"):
        find("tests.flow.nowhere:build")
    with pytest.raises(FlowNotFound, match="has no flow 'x': there are no flows in it at all"):
        find("tests.flow.render:x")


def test_a_module_that_can_not_be_imported_is_told(folder: Path) -> None:
    (folder / "broken_flows.py").write_text("import nowhere_at_all\n")
    (folder / "raising_flows.py").write_text("1 / 0\n")
    with pytest.raises(FlowNotFound, match="broken_flows can't be imported: No module named 'nowhere_at_all'"):
        load("broken_flows:build")
    with pytest.raises(FlowNotFound, match="raising_flows can't be imported: ZeroDivisionError"):
        load("raising_flows:build")


SCRIPT = """
import holdfast as hf
from neighbour import shout

@hf.step
def a() -> None: pass

build = hf.linear("build", a)

if __name__ == "__main__":
    from holdfast.flow.registry import find, reference_of
    print(reference_of(build))
    print(find(reference_of(build)) is build)
    print(find(f"{__file__}:later").name)
later = a.with_options(name="later")
"""


def test_a_script_is_always_read_anew(folder: Path) -> None:
    """Two versions may differ in neither size nor second, which is all that a cached copy is told by."""
    script = folder / "versions.py"
    line = "import holdfast as hf\nflow = hf.linear('build', hf.step(lambda: None, name='{}'))\n"
    names = []
    for name in ("one", "two"):
        script.write_text(line.format(name))
        seen = f"from holdfast.flow.registry import find; print(find({str(script) + ':flow'!r}).children[0].name)"
        done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True, cwd=folder)
        names.append(done.stdout.strip())
    assert names == ["one", "two"]
    assert not (folder / "__pycache__").exists()


def test_a_script_is_found_by_its_path_and_not_run_as_one(folder: Path) -> None:
    (folder / "neighbour.py").write_text("def shout() -> None: pass\n")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=True, cwd=folder)
    reference = f"{script.resolve()}:build"
    assert done.stdout.splitlines() == [reference, "True", "later"]
    found = load("script.py:build")
    assert found.name == "build"
    assert reference_of(found) == reference
    assert find(reference) is found
    assert isinstance(load("script.py:shout"), Step)


def test_a_module_run_with_m_is_found_by_its_name(folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "neighbour.py").write_text("def shout() -> None: pass\n")
    (folder / "package" / "flows.py").write_text(SCRIPT.replace("{__file__}:later", "package.flows:build"))
    command = [sys.executable, "-m", "package.flows"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.splitlines() == ["package.flows:build", "True", "build"]


def test_a_flow_of_a_session_is_refused() -> None:
    code = (
        "import holdfast as hf\nfrom holdfast.flow.registry import reference_of\n"
        "from holdfast.errors import FlowNotFound\n"
        "build = hf.linear('build')\n"
        "try: reference_of(build)\nexcept FlowNotFound as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("flow 'build' is only in this session, where no other process finds it")


def test_a_person_is_told_which_flows_a_file_has(folder: Path) -> None:
    (folder / "flows.py").write_text("import holdfast as hf\nbuild = hf.linear('b')\nboot = hf.linear('c')\n")
    (folder / "exits.py").write_text("raise SystemExit(3)\n")
    assert load("flows:boot").name == "c"
    assert load("./flows.py:build").name == "b"
    for target, sentence in (
        ("flows.py", r"'flows.py' names no flow: say flows.py:FLOW: it has build, boot"),
        ("flows.py:biuld", "has no flow 'biuld': did you mean 'build'"),
        ("flows.py:hf", "has no flow 'hf'"),
        ("nowhere.py:build", r"there is no file .*nowhere.py"),
        ("nowhere:build", "there is no module 'nowhere'"),
        (":build", "names no flow: say MODULE:FLOW"),
        ("exits.py:build", "exits when it is loaded: put what runs under"),
    ):
        with pytest.raises(FlowNotFound, match=sentence):
            load(target)


def test_flows_to_register_are_a_list_or_a_function() -> None:
    assert load_flows(f"{NAME}:catalogue") is catalogue
    assert load_flows(f"{NAME}:build") == (build,)
    for target, sentence in (
        (f"{NAME}:NAME", "has no 'NAME' that is a list of flows"),
        (NAME, "names no flows"),
    ):
        with pytest.raises(FlowNotFound, match=sentence):
            load_flows(target)
