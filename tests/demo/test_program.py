"""The demo as a program: what it exits with, and that it leaves nobody behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from demo.calls import Call
from demo.children import ROOT, members, until
from demo.evidence import Check
from demo.program import main
from demo.scenes import SCENES
from demo.show import Show
from demo.stage import Stage


def a_true_scene(stage: Stage) -> list[Check]:
    """What it says is so"""
    calls = stage.last_look()
    stage.show.log(calls)
    return [Check("who asked", ["the demo"], [call.by for call in calls])]


def a_lying_scene(stage: Stage) -> list[Check]:
    """What it says is not so"""
    return [Check("the machine is", "Off", stage.last_look()[-1].power)]


def a_broken_scene(stage: Stage) -> list[Check]:
    """What it waits for never comes"""
    raise RuntimeError("the command ended with 2")


def played(*scenes: object) -> tuple[int, str]:
    text = io.StringIO()
    show = Show(Console(file=text, highlight=False, soft_wrap=True))
    code = main(scenes, show, acts=())  # type: ignore[arg-type]
    return code, text.getvalue()


def test_what_was_proved_exits_0_and_shows_the_log() -> None:
    code, text = played(a_true_scene)

    assert code == 0
    assert "0.000 s  the demo         GET   power: On          200" in text
    assert "✓ who asked: the demo" in text
    assert "All 1 scenes proved by what the guests and the BMC wrote" in text


def test_evidence_that_differs_exits_1_and_shows_both() -> None:
    code, text = played(a_lying_scene, a_true_scene)

    assert code == 1
    assert "✗ the machine is\n       expected: Off\n       found:    On\n" in text
    assert "1 of 2 scenes prove something else" in text


def test_a_scene_that_breaks_is_told_and_the_next_is_played() -> None:
    code, text = played(a_broken_scene, a_true_scene)

    assert code == 1
    assert "✗ RuntimeError: the command ended with 2" in text
    assert "✓ who asked: the demo" in text


def test_equal_readings_are_one_line() -> None:
    text = io.StringIO()
    reading = Call(5.0, "wait_off", "GET", "power", 200, "On")
    Show(Console(file=text)).log([reading, reading._replace(at=5.5), reading._replace(at=6.0, power="Off")])

    assert [line.split() for line in text.getvalue().splitlines()[1:]] == [
        ["0.000", "s", "wait_off", "GET", "power:", "On", "200", "×", "2"],
        ["1.000", "s", "wait_off", "GET", "power:", "Off", "200"],
    ]


HANGING = """
import signal, sys
from demo import program
def hanging(stage):
    "A scene that never ends"
    deaf = ["sh", "-c", "trap '' TERM INT; sleep 1000; sleep 1000"]
    child = stage.children.start(deaf, stage.directory / "out")
    print("DIRECTORY", stage.directory, flush=True)
    print("GROUPS", *stage.children.groups, flush=True)
    stage.end(child)
for number in program.STOPS:
    signal.signal(number, program.as_interrupt)
sys.exit(program.main([hanging], acts=()))
"""


def words_of(lines: Iterable[str], first: str) -> list[str]:
    """The words of the first line that begins with the word `first`."""
    return next(line.split()[1:] for line in lines if line.startswith(first))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_clean(number: signal.Signals) -> None:
    """As Ctrl-C at a terminal: no child left, no file left, no traceback."""
    with subprocess.Popen(
        [sys.executable, "-c", HANGING],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        directory = Path(words_of(demo.stdout, "DIRECTORY")[0])
        groups = [int(word) for word in words_of(demo.stdout, "GROUPS")]
        alive = len(members(groups))
        os.kill(demo.pid, number)
        rest = demo.stdout.read()

    assert (alive >= 2, demo.returncode, members(groups), directory.exists()) == (True, 130, [], False)
    assert "Interrupted. Every process that was started has ended." in rest
    assert "Traceback" not in rest


def test_a_demo_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGING],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as demo:
        assert demo.stdout is not None
        groups = [int(word) for word in words_of(demo.stdout, "GROUPS")]
        demo.kill()
    until(lambda: not set(groups) & set(members(groups)), "the leaders to die", limit_s=20)

    assert demo.returncode == -signal.SIGKILL
    for pid in members(groups):  # the sleep of the shell, which nobody asked to die with its parent
        os.kill(pid, signal.SIGKILL)


def test_there_are_the_five_scenes_of_the_issue() -> None:
    assert [scene.__name__ for scene in SCENES] == [
        "it_ends_well",
        "kill_9_in_the_wait",
        "cancel_in_the_wait",
        "bmc_answers_with_errors",
        "guest_ignores_soft_off",
    ]
