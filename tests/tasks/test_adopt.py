"""A changed flow is adopted by an operator, who first sees what that would mean."""

from __future__ import annotations

import pytest
from sqlalchemy import select

import holdfast as hf
from holdfast.core.plan import Plan
from holdfast.errors import VerbRefused
from holdfast.flow.compile import compile, digest, outline
from holdfast.store.base import Append, Row, StepRow
from holdfast.store.schema import plans
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import adopt
from holdfast.tasks.adopt import Adoption
from tests.tasks.desk import Desk


@hf.step(provides="disks")
def list_disks() -> list[int]:
    return [1, 2]


@hf.step
def format_disk(disk: int) -> None:
    del disk


@hf.step
def boot() -> None:
    pass


def flow(*more: hf.Step) -> Plan:
    return compile(hf.linear("build", list_disks, hf.map("disks", format_disk, over="disks", item="disk"), *more))


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def rested(desk: Desk, *nodes: str) -> int:
    """A task that has recorded these nodes, the first of them done, and rests for a changed definition."""
    task = desk.submit(digest="old", outline="[]")
    desk.set(task, state="RUNNING", token="t", executed_at=1.0)
    rows = [Row("started", node, None, 1.0) for node in nodes]
    done = [StepRow(0, nodes[0], "SUCCEEDED", 1, 1.0, 2.0)]
    desk.store.append([Append(task, "t", 0, (), rows, steps_all=done)])
    desk.set(task, state="SUSPENDED", hold="forward", reason="definition_changed", error="{}", token=None)
    return task


def take(desk: Desk, task: int, plan: Plan, *, dry_run: bool = False) -> Adoption:
    now = desk.tick()
    return desk.store.write(
        lambda tx: adopt.adopt(
            tx, task, plan, now, digest=digest(plan), outline=outline(plan), actor="me", dry_run=dry_run
        )
    )


def test_a_dry_run_says_what_would_run_and_changes_nothing(desk: Desk) -> None:
    task = rested(desk, "build/list_disks", "build/disks[0]/format_disk")
    before = desk.row(task)
    told = take(desk, task, flow(boot), dry_run=True)
    assert (told.adopted, told.missing, told.to_run) == (False, [], ["build/boot"])
    assert desk.row(task) == before


@pytest.mark.requirement("G9")
def test_an_adopted_plan_is_kept_and_the_task_goes_on(desk: Desk) -> None:
    task = rested(desk, "build/list_disks")
    plan = flow(boot)
    after = take(desk, task, plan).task
    assert (after.state, after.reason, after.digest, after.error) == ("RUNNING", None, digest(plan), None)
    assert [row.kind for row in desk.store.journal(task, 1)] == ["adopted", "resume_asked"]
    kept = desk.store.read(lambda tx: tx.execute(select(plans.c.digest)).scalars())
    assert sorted(kept) == sorted(["old", digest(plan)])


@pytest.mark.requirement("G9")
def test_a_plan_without_what_was_recorded_is_not_adopted(desk: Desk) -> None:
    task = rested(desk, "build/list_disks", "build/boot", "build/disks[1]/erase")
    with pytest.raises(VerbRefused) as refusal:
        take(desk, task, flow())
    assert sorted(refusal.value.details["missing"]) == ["build/boot", "build/disks[1]/erase"]  # type: ignore[call-overload]
    assert desk.row(task).state == "SUSPENDED"


def test_only_a_changed_definition_is_adopted(desk: Desk) -> None:
    with pytest.raises(VerbRefused):
        take(desk, desk.submit(), flow(), dry_run=True)
