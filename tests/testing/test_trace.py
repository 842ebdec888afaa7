"""Golden traces say where a run differs, and only where it does."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.testing.trace import check_trace


@hf.step
def prepare() -> None: ...


@prepare.revert
def unprepare() -> None: ...


@hf.step
def boot() -> None:
    raise ConnectionError("no route")


def outcome() -> hf.Outcome:
    return hf.run(hf.linear("build", prepare, boot))


STORY = """
    task RUNNING
    build/prepare RUNNING
    build/prepare SUCCEEDED
    build/boot RUNNING
    build/boot FAILED (ConnectionError: no route)
    task REVERTING
    build/prepare REVERTING
    build/prepare REVERTED
    task FAILED
"""


def test_the_whole_story() -> None:
    check_trace(outcome(), STORY)
    check_trace(outcome().trace, STORY.splitlines())


def test_a_message_need_not_be_named() -> None:
    check_trace(outcome(), STORY.replace(" (ConnectionError: no route)", ""))
    with pytest.raises(AssertionError):
        check_trace(outcome(), STORY.replace("no route", "no way"))


@pytest.mark.parametrize("gap", ["…", "..."])
def test_a_gap_stands_for_any_lines(gap: str) -> None:
    check_trace(outcome(), f"{gap}\nbuild/boot FAILED\n{gap}\ntask FAILED")
    check_trace(outcome(), gap)
    check_trace(outcome(), f"{gap}\n{STORY}\n{gap}")
    with pytest.raises(AssertionError, match="task SUCCEEDED"):
        check_trace(outcome(), f"{gap}\ntask SUCCEEDED")


def test_only_some_steps() -> None:
    check_trace(outcome(), "task RUNNING\ntask REVERTING\ntask FAILED", of="task")
    check_trace(outcome(), "build/boot RUNNING\nbuild/boot FAILED", of=["build/boot"])
    check_trace(["a RUNNING", "each[0]/a RUNNING", "each RUNNING"], "each[0]/a RUNNING\neach RUNNING", of="each")


def test_the_difference_is_shown_in_its_place() -> None:
    with pytest.raises(AssertionError) as raised:
        check_trace(outcome(), STORY.replace("build/prepare REVERTED", "build/prepare REVERT_FAILED"))
    said = str(raised.value).splitlines()
    assert said[0] == "the run differs from what is expected, after 'build/prepare REVERTING':"
    assert "  - build/prepare REVERT_FAILED" in said
    assert "  + build/prepare REVERTED" in said
    assert [line for line in said if line.startswith(("  -", "  +"))] == said[8:10]


@pytest.mark.parametrize(
    ("actual", "expected"),
    [(["a"], ""), ([], "a"), (["a", "b"], "a"), (["a"], "a\nb"), (["b", "a"], "a\nb"), (["a", "a"], "a")],
)
def test_more_less_and_another_order_differ(actual: list[str], expected: str) -> None:
    with pytest.raises(AssertionError):
        check_trace(actual, expected)
