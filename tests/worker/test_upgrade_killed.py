"""A worker is killed, another version of the file is put there, and a new worker comes up: it never goes on at the
wrong step, forward or back."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.cli.main import main
from holdfast.local import Task
from tests.worker.house import House

pytestmark = pytest.mark.requirement("TF-5", "G9", "NOVA-14")

SCRIPT = """
import holdfast as hf
from tests.worker.house import knob, tell

def pair(name, waits_for=None, undo_waits_for=None):
    def execute(ctx: hf.Context, at: str) -> None:
        tell(at, ctx, name)
        while waits_for and not knob(at, waits_for):
            ctx.sleep(0.01)
        if name == "boom" and not knob(at, "mended"):
            raise ConnectionError("no carrier")

    made = hf.step(execute, name=name)

    @made.revert
    def undo(ctx: hf.Context, at: str) -> None:
        tell(at, ctx, "un" + name)
        while undo_waits_for and not knob(at, undo_waits_for):
            ctx.sleep(0.01)

    return made

flow = hf.linear("build", {steps})
"""
V1 = 'pair("port"), pair("boot", "go"), pair("check")'
V1_BACK = 'pair("port", None, "go"), pair("boot"), pair("boom")'


def deploy(house: House, steps: str) -> Path:
    script = house.directory / "flows.py"
    script.write_text(SCRIPT.replace("{steps}", steps), encoding="utf-8")
    return script


def killed_at(house: House, steps: str, said: str) -> Task:
    """A task of that version, whose worker was killed when a step had said that."""
    script = deploy(house, steps)
    line = ["run", f"{script}:flow", f"at={house.at}", "--tag", "t", "--no-wait", "--database", house.url]
    assert main(line) == 0
    worker = house.worker(lease_s=3600)
    house.until_said(said)
    worker.kill()
    return house.open().task("t")


def at_work(house: House, steps: str, task: Task) -> None:
    """Put that version there, and let a new worker do what it will."""
    deploy(house, steps)
    worker = house.worker(lease_s=3600)
    task.wait(60)
    assert worker.leave() == 0


@pytest.mark.parametrize(
    "steps",
    ['pair("port"), pair("start", "go"), pair("check")', 'pair("boot", "go"), pair("port"), pair("check")'],
    ids=["renamed", "swapped"],
)
def test_in_the_middle_of_a_step(house: House, steps: str) -> None:
    task = killed_at(house, V1, "boot")
    at_work(house, steps, task)
    assert (task.state, task.reason) == ("SUSPENDED", "definition_changed")
    assert house.said() == ["port", "boot"]
    house.turn("go")
    task.resume()
    at_work(house, V1, task)
    assert task.state == "SUCCEEDED"
    assert house.said() == ["port", "boot", "boot", "check"]


def test_steps_that_come_after_it_may_change(house: House) -> None:
    task = killed_at(house, V1, "boot")
    house.turn("go")
    at_work(house, 'pair("port"), pair("boot", "go"), pair("tidy"), pair("report")', task)
    assert task.state == "SUCCEEDED"
    assert house.said() == ["port", "boot", "boot", "tidy", "report"]


def test_in_the_middle_of_a_revert(house: House) -> None:
    task = killed_at(house, V1_BACK, "unport")
    at_work(house, V1_BACK.replace('"port"', '"plug"'), task)
    assert (task.state, task.reason, task.view()["direction"]) == ("SUSPENDED", "definition_changed", "back")
    assert house.said() == ["port", "boot", "boom", "unboom", "unboot", "unport"]
    house.turn("go")
    task.resume()
    at_work(house, V1_BACK, task)
    assert task.state == "FAILED"
    assert house.said()[-1] == "unport"
    assert house.said().count("unport") == 2
    assert task.view()["revert"] == "done"


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ("nothing_of_that_name", "nothing_of_that_name"),
        ('pair("port"), pair("port")', "port"),
        ('"no step"', "no step"),
    ],
    ids=["unloadable", "unsound", "no-flow"],
)
def test_a_file_that_is_broken_rests_and_says_why(house: House, steps: str, says: str) -> None:
    task = killed_at(house, V1, "boot")
    at_work(house, steps, task)
    assert (task.state, task.reason) == ("SUSPENDED", "definition_changed")
    assert task.failure is not None
    assert says in task.failure.message
    assert "\n" not in task.failure.message
    assert house.said() == ["port", "boot"]
    house.turn("go")
    task.resume()
    at_work(house, V1, task)
    assert task.state == "SUCCEEDED"
    assert house.said() == ["port", "boot", "boot", "check"]
