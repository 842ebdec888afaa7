"""What can be wrong: each is one sentence and an exit code, nothing is lost, and no traceback unless asked for."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli import exits
from holdfast.errors import HoldfastError
from holdfast.store import migrations
from tests.cli.conftest import Say, Shell

WRONG_LINES = {
    "an unknown file": (["run", "nowhere.py:good"], "there is no file"),
    "an unknown module": (["run", "nowhere:good"], "there is no module 'nowhere'"),
    "an unknown flow": (["run", "flows_for_cli.py:god"], "did you mean 'good'?"),
    "no flow": (["run", "flows_for_cli.py"], "names no flow"),
    "what is no flow": (["run", "flows_for_cli.py:HERE"], "flow"),
    "a missing input": (["run", "flows_for_cli.py:use_port"], "port"),
    "an unknown input": (["run", "flows_for_cli.py:good", "netwrok=x"], "netwrok"),
    "an input without a value": (["run", "flows_for_cli.py:good", "network"], "say key=text"),
    "an input given twice": (["run", "flows_for_cli.py:good", "network=a", "network=b"], "given twice"),
    "an input that is no JSON": (["run", "flows_for_cli.py:good", "times:=two"], "is no JSON"),
    "a cycle": (["run", "flows_for_cli.py:loop"], "circle"),
    "a tag with a space": (["run", "flows_for_cli.py:good", "--tag", "a b"], "visible"),
    "an unknown option": (["run", "flows_for_cli.py:good", "--tga", "x"], "No such option: --tga"),
    "an unknown command": (["rnu"], "No such command 'rnu'"),
    "an unknown runtime": (["run", "flows_for_cli.py:good", "--runtime", "fibres"], "fibres"),
    "a claim without a kind": (["run", "flows_for_cli.py:good", "--claim", ""], "claim"),
    "another database's URL": (["run", "flows_for_cli.py:good", "--database", "mysql://x"], "sqlite:///FILE"),
    "an unknown state": (["task", "list", "--state", "sleeping"], "SLEEPING is no state"),
    "an unknown machine": (["machine", "show", "nobody"], "there are task, step, server"),
}


@pytest.mark.parametrize("name", WRONG_LINES)
def test_a_wrong_line_is_one_sentence_and_exit_2(name: str, say: Say, shell: Shell) -> None:
    words, told = WRONG_LINES[name]
    assert say("run", "flows_for_cli.py:good", "--tag", "before").code == 0
    before = shell.did()
    done = say(*words)
    assert (done.code, done.out) == (2, "")
    assert told in done.sentence()
    assert shell.did() == before
    assert [task["tag"] for task in say("task", "list", "-o", "json").json()] == ["before"]


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("uvicorn", ["serve"], "service"),
        ("httpx", ["task", "list", "--url", "http://127.0.0.1:1"], "client"),
        ("cryptography", ["key", "new"], "secrets"),
    ],
)
def test_what_is_not_installed_is_named_with_what_brings_it(
    module: str, words: list[str], extra: str, shell: Shell
) -> None:
    missing = shell.directory / "missing"
    missing.mkdir()
    raises = f"raise ModuleNotFoundError('No module named {module}', name='{module}')"
    (missing / f"{module}.py").write_text(raises, encoding="utf-8")
    path = os.pathsep.join([str(missing), os.environ.get("PYTHONPATH", "")])
    command, env = [sys.executable, "-m", "holdfast", *words], {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=shell.directory, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"this needs {module}, which is not installed: pip install 'holdfast[{extra}]'" in done.stderr


SOURCES = {
    "a duplicate name": ("import holdfast as hf\n@hf.step\ndef a(): ...\nflow = hf.linear('flow', a, a)\n", "flow"),
    "an ambiguous input": (
        (
            "import holdfast as hf\n@hf.step(provides='x')\ndef a(): ...\n@hf.step(provides='x')\ndef b(): ...\n"
            "@hf.step\ndef c(x): ...\nflow = hf.linear('flow', hf.unordered('u', a, b), c)\n"
        ),
        "x",
    ),
    "a syntax error": ("def (:\n", "SyntaxError"),
    "a script that fails": ("1 / 0\n", "ZeroDivisionError"),
    "a script that exits": ("import sys\nsys.exit(3)\n", "exits when it is loaded"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_that_is_no_sound_flow(name: str, say: Say, shell: Shell) -> None:
    source, told = SOURCES[name]
    (shell.directory / "wrong.py").write_text(source)
    done = say("run", "wrong.py:flow")
    assert done.code == 2
    assert told in done.sentence()


def test_a_value_that_is_no_setting(shell: Shell) -> None:
    done = shell("run", "flows_for_cli.py:good", HOLDFAST_LEASE_S="soon")
    assert done.code == 2
    assert "HOLDFAST_LEASE_S is 'soon'" in done.sentence()


def test_a_tag_that_names_another_request(say: Say, shell: Shell) -> None:
    assert say("run", "flows_for_cli.py:good", "--tag", "t").code == 0
    done = say("run", "flows_for_cli.py:good", "network=other", "--tag", "t")
    assert done.code == 2
    assert "t" in done.sentence()
    assert shell.did() == ["make_port", "use_port"]


# --- databases ---------------------------------------------------------------------------------------------------


def test_a_directory_that_is_not_there(say: Say, shell: Shell) -> None:
    done = say("run", "flows_for_cli.py:good", "--database", f"sqlite:///{shell.directory}/none/tasks.db")
    assert done.code == 2
    assert "check that its directory exists" in done.sentence()
    assert shell.did() == []


def test_a_directory_that_may_not_be_written(say: Say, shell: Shell) -> None:
    done = say("run", "flows_for_cli.py:good", "--database", "sqlite:////proc/tasks.db")
    assert done.code == 2
    assert "/proc/tasks.db" in done.sentence()
    assert shell.did() == []


def test_a_disk_that_takes_no_more(shell: Shell) -> None:
    assert shell("run", "flows_for_cli.py:good", "--tag", "before").code == 0
    line = 'ulimit -f "$1"; shift; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", line, "bash", "16", sys.executable, "-m", "holdfast", "run", "flows_for_cli.py:good"],
        cwd=shell.directory,
        # Half a module of bytecode would outlive this test.
        env={"HOLDFAST_DATABASE": shell.database, "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("holdfast: ")
    assert done.stderr.count("\n") == 1
    assert "disk" in done.stderr
    assert shell("run", "flows_for_cli.py:good", "--tag", "before").code == 0
    assert shell.did() == ["make_port", "use_port"]


def test_a_corrupt_file(say: Say, shell: Shell) -> None:
    (shell.directory / "tasks.db").write_bytes(b"not a database " * 1000)
    for words in (["run", "flows_for_cli.py:good"], ["task", "list"], ["task", "cancel", "t"], ["db", "upgrade"]):
        done = say(*words)
        assert done.code == 2
        assert "is not a sound database" in done.sentence()
    assert shell.did() == []
    assert (shell.directory / "tasks.db").read_bytes().startswith(b"not a database")


def test_a_database_locked_by_another_process(shell: Shell) -> None:
    assert shell("run", "flows_for_cli.py:good", "--tag", "before").code == 0
    other = sqlite3.connect(shell.directory / "tasks.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    done = shell("run", "flows_for_cli.py:good", "--tag", "t", HOLDFAST_BUSY_TIMEOUT_S="0.2")
    assert done.code == 2
    assert "is locked by another program" in done.sentence()
    other.execute("ROLLBACK")
    other.close()
    assert shell.did() == ["make_port", "use_port"]
    assert shell("run", "flows_for_cli.py:good", "--tag", "t").code == 0
    assert shell.did() == ["make_port", "use_port"] * 2


def test_a_database_that_is_locked_in_the_middle_of_a_task_is_waited_for(shell: Shell) -> None:
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t", HOLDFAST_BUSY_TIMEOUT_S="0.2")
    shell.until_in(run, "slow/nap")
    other = sqlite3.connect(shell.directory / "tasks.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    (shell.directory / "awake").touch()
    refused = shell("task", "cancel", "t", HOLDFAST_BUSY_TIMEOUT_S="0.2")
    assert refused.code == 2
    assert "is locked by another program" in refused.sentence()
    other.execute("ROLLBACK")
    other.close()
    assert run.end().code == 0
    assert shell.did() == ["make_port", "nap", "use_port"]


def _stamp(path: Path, revision: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.execute("UPDATE store_info SET works_with = ?", (revision,))
    connection.commit()
    connection.close()


def test_a_database_of_a_newer_schema(say: Say, shell: Shell) -> None:
    assert say("run", "flows_for_cli.py:good", "--tag", "t").code == 0
    _stamp(shell.directory / "tasks.db", "9999")
    for words in (["run", "flows_for_cli.py:good"], ["task", "list"], ["db", "upgrade"]):
        done = say(*words)
        assert done.code == 2
        assert "newer Holdfast" in done.sentence()
    _stamp(shell.directory / "tasks.db", migrations.HEAD)
    assert say.task("t")["state"] == "SUCCEEDED"


def test_another_programs_database(say: Say, shell: Shell) -> None:
    connection = sqlite3.connect(shell.directory / "tasks.db")
    connection.execute("CREATE TABLE notes (note TEXT)")
    connection.close()
    done = say("run", "flows_for_cli.py:good")
    assert done.code == 2
    assert "another program's database" in done.sentence()


def test_looking_makes_no_database(say: Say, shell: Shell) -> None:
    done = say("task", "list")
    assert done.code == 2
    assert "there is no Holdfast database" in done.sentence()
    assert not (shell.directory / "tasks.db").exists()


# --- the rest ----------------------------------------------------------------------------------------------------


def test_a_task_that_is_not_there(say: Say) -> None:
    say("run", "flows_for_cli.py:good")
    done = say("task", "show", "nobody")
    assert done.code == 5
    assert done.sentence() == "there is no task nobody"


def test_a_verb_that_the_state_refuses(say: Say) -> None:
    say("run", "flows_for_cli.py:good", "--tag", "t")
    done = say("task", "suspend", "t")
    assert done.code == 4
    assert "while it is SUCCEEDED" in done.sentence()
    assert say.task("t")["state"] == "SUCCEEDED"


def test_the_traceback_is_shown_when_it_is_asked_for(say: Say) -> None:
    say("run", "flows_for_cli.py:good")
    done = say("task", "show", "nobody", "--traceback")
    assert done.code == 5
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1] == "holdfast: there is no task nobody"


def test_every_error_has_an_exit_code() -> None:
    def tree(kind: type[HoldfastError]) -> list[type[HoldfastError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]

    codes = {exits.of_error(kind("x")) for kind in tree(HoldfastError)}
    assert codes == {exits.FAILED, exits.USAGE, exits.REFUSED, exits.NOT_FOUND, exits.AUTH, exits.TIMED_OUT}
    assert exits.of_error(RuntimeError()) == exits.BUG
