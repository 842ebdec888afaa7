"""A point of no return: before the pivot a failure undoes everything; past it the way is forward only. Cancel and
rollback are refused, and a failure rests for a person instead of undoing."""

from __future__ import annotations

import holdfast as hf
from holdfast.errors import PastPivot

line_is_up = False


@hf.step
def reserve_slot() -> None:
    print("reserve a slot")


@reserve_slot.revert
def free_slot() -> None:
    print("free the slot")


@hf.step(pivot=True)
def wipe_disk(disk: str) -> None:
    print(f"wipe {disk}: what was on it is gone")


@hf.step
def register(disk: str) -> None:
    if not line_is_up:
        raise ConnectionError("the inventory does not answer")
    print(f"register {disk} as empty")


recycle = hf.linear("recycle", reserve_slot, wipe_disk, register)

if __name__ == "__main__":
    with hf.open("sqlite:///:memory:") as hold:
        task = hold.submit(recycle, {"disk": "vdb"})
        hold.work(until_idle=True)
        print(task.state, task.reason, task.view()["resting"])
        for verb in (task.cancel, task.rollback):
            try:
                verb()
            except PastPivot as refusal:
                print(type(refusal).__name__, "- allowed:", refusal.details["allowed"])
        line_is_up = True
        task.resume({"recycle/register": "rerun"})
        hold.work(until_idle=True)
        print(task.state)
