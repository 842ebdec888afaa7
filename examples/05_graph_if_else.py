"""A graph: the order is who needs what, and links. A link with `when=` is a question; what it leads to is skipped
where every link into it said no, and what comes after both ways joins them."""

from __future__ import annotations

import holdfast as hf


@hf.step(provides="size_gib")
def measure(disk: str) -> int:
    return {"vda": 4, "archive": 4000}[disk]


@hf.step(provides="copied")
def copy_at_once(disk: str) -> str:
    return f"{disk} in one go"


@hf.step(provides="parts")
def copy_in_parts(disk: str, size_gib: int) -> list[str]:
    return [f"{disk} from {start} GiB" for start in range(0, size_gib, 1000)]


@hf.step
def report(copied: str | None = None, parts: list[str] | None = None) -> None:  # what was skipped gives nothing
    print(copied or parts)


def is_small(size_gib: int) -> bool:
    return size_gib < 1000


def is_large(size_gib: int) -> bool:
    return size_gib >= 1000


copy = (
    hf.graph("copy", measure, copy_at_once, copy_in_parts, report)
    .link(measure, copy_at_once, when=is_small)
    .link(measure, copy_in_parts, when=is_large)
    .link(copy_at_once, report)
    .link(copy_in_parts, report)
)

if __name__ == "__main__":
    for disk in ("vda", "archive"):
        outcome = hf.run(copy, {"disk": disk})
        print(outcome.state, [step.id for step in outcome.steps if step.state == "SKIPPED"])
