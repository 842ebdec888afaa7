"""An upgrade in the middle of a task: it goes on where that is right, and else rests; never at the wrong step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.errors import VerbRefused
from holdfast.local import Holdfast, Task
from holdfast.local import open as open_database
from tests.doing import Told
from tests.postgresql import database_at

pytestmark = pytest.mark.requirement("TF-5", "G9")


class Site:
    """A database, and the code that is deployed there."""

    def __init__(self, directory: Path, told: Told) -> None:
        self.url = database_at(directory / "tasks.db")
        self.told = told
        self.broken = True
        self.fails = "boot"
        self.opened: list[Holdfast] = []

    def step(self, name: str, says: str | None = None) -> hf.Step:
        def execute() -> None:
            self.told(says or name)
            if name == self.fails and self.broken:
                raise ConnectionError("no power")

        made = hf.step(execute, name=name)
        made.revert(lambda: self.told(f"un{name}"))
        return made

    def flow(self, *names: str, version: str = "1", says: dict[str, str] | None = None) -> hf.Flow:
        steps = [self.step(name, (says or {}).get(name)) for name in names]
        return hf.linear("build", *steps, version=version, on_failure="suspend")

    def deployed(self, *flows: hf.Flow) -> Holdfast:
        self.opened.append(open_database(self.url, flows=flows))
        return self.opened[-1]

    def half_done(self, flow: hf.Flow) -> str:
        """A task of that flow: its first step is done, its second failed and waits for a person."""
        with self.deployed(flow) as hold:
            task = hold.submit(flow)
            hold.work(until_idle=True)
            assert (task.state, task.reason) == ("SUSPENDED", "on_failure")
            assert self.told == ["port", "boot"]
        self.told.clear()
        self.broken = False
        return task.id

    def after(self, task: str, *flows: hf.Flow, do: Callable[[Task], object] = Task.resume) -> Task:
        hold = self.deployed(*flows)
        found = hold.task(task)
        do(found)
        hold.work(until_idle=True)
        return found


@pytest.fixture
def site(tmp_path: Path, told: Told) -> Iterator[Site]:
    made = Site(tmp_path, told)
    yield made
    for hold in made.opened:
        hold.close()


def test_a_change_of_bodies_only_goes_on(site: Site) -> None:
    task = site.half_done(site.flow("port", "boot", "check"))
    again = site.after(task, site.flow("port", "boot", "check", says={"boot": "boot, mended"}))
    assert again.state == "SUCCEEDED"
    assert site.told == ["boot, mended", "check"]


def test_steps_added_behind_go_on(site: Site) -> None:
    task = site.half_done(site.flow("port", "boot"))
    again = site.after(task, site.flow("port", "boot", "check"))
    assert again.state == "SUCCEEDED"
    assert site.told == ["boot", "check"]


@pytest.mark.parametrize(
    "names",
    [("port", "start", "check"), ("boot", "check"), ("boot", "port", "check")],
    ids=["renamed", "gone", "swapped"],
)
def test_a_change_of_what_was_recorded_rests_and_runs_nothing(site: Site, names: tuple[str, ...]) -> None:
    task = site.half_done(site.flow("port", "boot", "check"))
    again = site.after(task, site.flow(*names))
    assert (again.state, again.reason) == ("SUSPENDED", "definition_changed")
    assert site.told == []
    assert again.failure is not None
    assert "build/" in again.failure.message
    # Put back, it goes on.
    assert site.after(task, site.flow("port", "boot", "check")).state == "SUCCEEDED"
    assert site.told == ["boot", "check"]


def test_a_step_between_may_be_adopted(site: Site) -> None:
    task = site.half_done(site.flow("port", "boot", "check"))
    new = site.flow("port", "disk", "boot", "check")
    rested = site.after(task, new)
    assert (rested.state, rested.reason) == ("SUSPENDED", "definition_changed")
    looked = rested.adopt(dry_run=True)
    assert (looked.missing, looked.to_run) == ([], ["build/disk", "build/boot", "build/check"])
    assert site.told == []
    again = site.after(task, new, do=Task.adopt)
    assert again.state == "SUCCEEDED"
    assert site.told == ["disk", "boot", "check"]


def test_what_lacks_a_recorded_step_is_not_adopted(site: Site) -> None:
    task = site.half_done(site.flow("port", "boot", "check"))
    new = site.flow("port", "start", "check")
    site.after(task, new)
    with pytest.raises(VerbRefused, match="build/boot"):
        site.after(task, new, do=Task.adopt)
    assert site.told == []


def test_a_registered_old_version_resumes(site: Site) -> None:
    """The task is of version 1, and both are deployed."""
    task = site.half_done(site.flow("port", "boot", "check"))
    again = site.after(task, site.flow("port", "start", version="2"), site.flow("port", "boot", "check"))
    assert again.state == "SUCCEEDED"
    assert site.told == ["boot", "check"]


def test_a_version_that_is_deployed_no_more_rests(site: Site) -> None:
    task = site.half_done(site.flow("port", "boot", "check"))
    again = site.after(task, site.flow("port", "start", version="2"))
    assert (again.state, again.reason) == ("SUSPENDED", "definition_changed")
    assert site.told == []


def test_one_that_has_not_begun_takes_the_new_plan(site: Site) -> None:
    old = site.flow("port", "boot")
    with site.deployed(old) as hold:
        task = hold.submit(old).id
    site.broken = False
    again = site.after(task, site.flow("disk", "start"))
    assert again.state == "SUCCEEDED"
    assert site.told == ["disk", "start"]


def test_what_began_by_the_new_plan_goes_on_by_that_alone(site: Site) -> None:
    """It was asked for when the old one was deployed, and old code may still be running beside the new."""
    old, new = site.flow("port", "boot"), site.flow("disk", "boot", "port")
    with site.deployed(old) as hold:
        task = hold.submit(old).id
    again = site.after(task, new)
    assert (again.state, again.reason, site.told) == ("SUSPENDED", "on_failure", ["disk", "boot"])
    again = site.after(task, old)
    assert (again.state, again.reason, site.told) == ("SUSPENDED", "definition_changed", ["disk", "boot"])
    site.broken = False
    assert site.after(task, new).state == "SUCCEEDED"
    assert site.told == ["disk", "boot", "boot", "port"]


def test_what_went_on_by_the_new_plan_does_not_go_back(site: Site) -> None:
    old, new = site.flow("port", "boot"), site.flow("port", "boot", "check")
    task = site.half_done(old)
    site.broken, site.fails = True, "check"
    again = site.after(task, new)
    assert (again.state, again.reason, site.told) == ("SUSPENDED", "on_failure", ["boot", "check"])
    again = site.after(task, old)
    assert (again.state, again.reason) == ("SUSPENDED", "definition_changed")
    site.broken = False
    assert site.after(task, new).state == "SUCCEEDED"
    assert site.told == ["boot", "check", "check"]


def test_what_is_tried_again_goes_on_by_its_own_plan(site: Site) -> None:
    old = site.flow("port", "boot")
    task = site.half_done(old)
    assert site.after(task, old, do=lambda found: found.cancel()).state == "CANCELLED"
    site.told.clear()
    site.broken = True
    again = site.after(task, old, do=lambda found: found.retry())
    (retried,) = [each for each in site.opened[-1].tasks() if each.id != again.id]
    assert (retried.state, retried.reason, site.told) == ("SUSPENDED", "on_failure", ["port", "boot"])
    other = site.after(retried.id, site.flow("boot", "port"))
    assert (other.state, other.reason, site.told) == ("SUSPENDED", "definition_changed", ["port", "boot"])


@pytest.mark.parametrize(("verb", "state"), [(Task.cancel, "CANCELLED"), (Task.rollback, "REVERTED")])
def test_it_is_undone_by_its_own_version_only(site: Site, verb: Callable[[Task], Task], state: str) -> None:
    task = site.half_done(site.flow("port", "boot", "check"))
    again = site.after(task, site.flow("port", "start", "check"), do=verb)
    assert (again.state, again.reason) == ("SUSPENDED", "definition_changed")
    assert site.told == []
    assert site.after(task, site.flow("port", "boot", "check")).state == state
    assert site.told == ["unboot", "unport"]


def test_the_old_plan_is_kept_after_its_code_is_gone(site: Site) -> None:
    """Abort needs no plan, and neither does looking."""
    task = site.half_done(site.flow("port", "boot", "check"))
    with site.deployed() as hold:
        found = hold.task(task)
        assert [step.node for step in found.steps] == ["build/port", "build/boot"]
        assert found.abort().state == "ABORTED"
    assert site.told == []
