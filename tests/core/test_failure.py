"""What is kept of an exception, and that it is bounded."""

from __future__ import annotations

import json

import pytest

from holdfast.core.failure import CAUSES_MAX, DEPTH_MAX, MESSAGE_CHARS_MAX, TRACEBACK_CHARS_MAX, Failure
from holdfast.core.retry import Retry


class CloudError(ConnectionError):
    pass


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


def test_types_are_names_most_derived_first() -> None:
    failure = Failure.of(raised(CloudError("refused")))
    assert failure.types == (f"{__name__}.CloudError", "ConnectionError", "OSError", "Exception")
    assert failure.type == "CloudError"
    assert failure.summary == "CloudError: refused"
    assert Retry(attempts=2, on=(OSError,)).matches(failure.types)
    assert not Retry(attempts=2, on=(ValueError,)).matches(failure.types)


def test_summary_is_one_line_even_without_a_message() -> None:
    assert Failure.of(ValueError()).summary == "ValueError"
    assert Failure.of(ValueError("one\ntwo")).summary == "ValueError: one"


def test_traceback_names_the_place_and_can_be_left_out() -> None:
    exc = raised(ValueError("x"))
    traceback = Failure.of(exc).traceback
    assert traceback is not None
    assert "in raised" in traceback
    assert traceback.endswith("ValueError: x\n")
    assert Failure.of(exc, with_traceback=False).traceback is None


def test_causes_are_kept_and_suppressed_ones_are_not() -> None:
    def chained(*, suppress: bool) -> BaseException:
        try:
            try:
                raise KeyError("a")
            except KeyError as inner:
                if suppress:
                    raise ValueError("b") from None
                raise ValueError("b") from inner
        except ValueError as caught:
            return caught

    assert [cause.summary for cause in Failure.of(chained(suppress=False)).causes] == ["KeyError: 'a'"]
    assert Failure.of(chained(suppress=True)).causes == ()


def test_causes_end_at_a_depth_and_in_a_circle() -> None:
    exc = ValueError("0")
    for index in range(20):
        following = ValueError(str(index + 1))
        following.__cause__ = exc
        exc = following
    depth, failure = 0, Failure.of(exc)
    while failure.causes:
        depth, failure = depth + 1, failure.causes[0]
    assert depth == DEPTH_MAX

    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert Failure.of(first).causes[0].causes == ()


def test_an_exception_group_names_its_members() -> None:
    group = ExceptionGroup("both", [ValueError("a"), KeyError("b")])
    assert [cause.type for cause in Failure.of(group).causes] == ["ValueError", "KeyError"]


def test_wide_groups_of_groups_are_bounded_in_all() -> None:
    group = ExceptionGroup("top", [ExceptionGroup("in", [ValueError(str(i)) for i in range(100)]) for _ in range(100)])

    def count(failure: Failure) -> int:
        return 1 + sum(count(cause) for cause in failure.causes)

    assert count(Failure.of(group, with_traceback=False)) == CAUSES_MAX + 1


def test_everything_is_bounded() -> None:
    def deep(count: int) -> None:
        if count:
            deep(count - 1)
        raise ValueError("x" * 1_000_000)

    with pytest.raises(ValueError, match="xxx") as caught:
        deep(200)
    failure = Failure.of(caught.value)
    assert len(failure.message) == MESSAGE_CHARS_MAX
    assert failure.traceback is not None
    assert len(failure.traceback) <= TRACEBACK_CHARS_MAX


def test_a_broken_exception_is_still_described() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    failure = Failure.of(raised(Broken()))
    assert failure.type == "Broken"
    assert "RuntimeError" in failure.message


def test_text_that_no_database_holds_is_spelled_out() -> None:
    failure = Failure.of(ValueError("a\0b\ud800c"))
    assert failure.message == "a\\x00b\\ud800c"
    assert failure.message.encode()


def test_json_round_trip() -> None:
    exc = ValueError("b")
    exc.__cause__ = CloudError("a")
    failure = Failure.of(raised(exc))
    assert Failure.from_json(json.loads(json.dumps(failure.to_json()))) == failure
