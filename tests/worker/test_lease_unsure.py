"""A worker that doesn't know what became of a commit takes nothing for its own, as if it had died, and goes on."""

from __future__ import annotations

import holdfast as hf
from holdfast.errors import StoreUnknown
from holdfast.worker.loop import Worker
from tests.worker.house import House


@hf.step
def first(ctx: hf.Context) -> None: ...


@hf.step
def second(ctx: hf.Context) -> None: ...


FLOW = hf.linear("two", first, second)


def test_a_commit_of_which_nobody_knows_ends_the_incarnation_and_not_the_task(house: House) -> None:
    hold = house.open(flows=[FLOW])
    task = hold.submit(FLOW)
    ids: list[str] = []
    append = hold.store.append

    def unknown(batch: object, _: object) -> object:
        """It is stored, and nobody is told."""
        answers = append(batch)  # type: ignore[arg-type]
        hold.store.append = append  # type: ignore[method-assign]
        ids.append(worker.lease.id)
        raise StoreUnknown(str(answers))

    worker: Worker = hold.worker()
    hold.store.append = unknown  # type: ignore[assignment,method-assign]
    try:
        worker.run(worker.is_idle)
    finally:
        worker.close()
    assert task.state == "SUCCEEDED"
    assert [step.state for step in task.steps] == ["SUCCEEDED"] * 2
    assert worker.lease.id != ids[0]
