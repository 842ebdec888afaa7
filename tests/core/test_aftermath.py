"""What a task leaves behind: one rule, whoever ends it."""

from __future__ import annotations

import pytest

from holdfast.core.progress import left_behind


@pytest.mark.parametrize(
    ("end", "steps", "undone", "left"),
    [
        ("CANCELLED", {}, False, ("none", "none")),
        ("SUCCEEDED", {"SUCCEEDED": 3}, False, ("applied", "none")),
        ("SUCCEEDED", {"SKIPPED": 1}, False, ("none", "none")),
        ("SUCCEEDED", {"REVERTED": 2}, True, ("none", "done")),  # a rollback
        ("SUCCEEDED", {"SUCCEEDED": 2}, True, ("none", "done")),  # of steps that have nothing to undo
        ("FAILED", {"SUCCEEDED": 1, "FAILED": 1}, False, ("partial", "none")),
        ("FAILED", {"SUCCEEDED": 1, "REVERTED": 1}, True, ("none", "done")),
        ("FAILED", {"SUCCEEDED": 1, "FAILED": 1}, True, ("none", "none")),
        ("FAILED", {"REVERTED": 1, "REVERT_FAILED": 1}, False, ("partial", "partial")),
        ("FAILED", {"SUCCEEDED": 1, "REVERT_FAILED": 1}, False, ("partial", "failed")),
        ("FAILED", {"SUCCEEDED": 1, "ABANDONED": 1}, False, ("unknown", "none")),
        ("CANCELLED", {"SUCCEEDED": 1, "INTERRUPTED": 1}, False, ("unknown", "none")),
        ("ABORTED", {"SUCCEEDED": 1}, False, ("unknown", "none")),
        ("ABORTED", {"SUCCEEDED": 1, "REVERTED": 1}, False, ("unknown", "partial")),
        ("ABORTED", {"REVERTED": 1}, False, ("none", "done")),
    ],
)
def test_what_is_left(end: str, steps: dict[str, int], undone: bool, left: tuple[str, str]) -> None:
    assert left_behind(end, steps, undone=undone) == left
