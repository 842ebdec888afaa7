"""Event streams: bytes in any pieces, connections that break, and each event once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import errors
from holdfast.client import tasks
from holdfast.client.patience import Patience
from holdfast.client.protocol import Lost, Reply
from holdfast.client.sse import Message, Parser
from tests.client.script import Script, lost, problem, reply, sse, words

STREAM = (
    "\ufeffretry: 2000\r\n: a comment\r\nid: 1\revent: task.state\ndata: {\"a\":\rdata:  \"ä\"}\r\n\r\n"
    "data\n\nid: 2\nid: no\0\nevent: x\n\ndata: last\nother: field\n\nid: 9\ndata: unfinished"
).encode()  # fmt: skip
MESSAGES = [Message("1", "task.state", '{"a":\n "ä"}'), Message("1", "message", ""), Message("2", "message", "last")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_same_events_whatever_pieces_they_come_in(cuts: list[int]) -> None:
    parser = Parser()
    marks = [0, *sorted(cuts), len(STREAM)]
    found = [message for at, end in pairwise(marks) for message in parser.feed(STREAM[at:end])]
    assert found == MESSAGES
    assert parser.retry_s == 2


def test_the_same_events_byte_by_byte() -> None:
    parser = Parser()
    assert [message for at in range(len(STREAM)) for message in parser.feed(STREAM[at : at + 1])] == MESSAGES


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    assert all(isinstance(message, Message) for message in Parser().feed(data + b"\n\n"))


def test_an_event_without_end_is_refused() -> None:
    for line in (b"data: " + b"x" * (1 << 20), b"data: " + b"x" * (1 << 20) + b"\n"):
        with pytest.raises(errors.AnswerUnreadable):
            _feed_often(Parser(), line)


def _feed_often(parser: Parser, line: bytes) -> None:
    for _ in range(20):
        list(parser.feed(line))


def test_a_broken_stream_goes_on_behind_the_last_event() -> None:
    first, second = sse((41, "RUNNING"), (42, "SUSPENDING")), sse((43, "SUSPENDED"), (44, "RUNNING"))
    script = Script([first, second[:30], Lost("reset")], *lost(), reply(503), [second], reply(204))
    script.play(tasks.events(script.ways, "0198"))
    assert [(event.id, event.data["to"]) for event in script.emitted] == [
        ("41", "RUNNING"), ("42", "SUSPENDING"), ("43", "SUSPENDED"), ("44", "RUNNING"),
    ]  # fmt: skip
    assert script.header("Last-Event-ID") == [None, "42", "42", "42", "44"]
    assert set(words(script.requests)) == {"GET /v3/tasks/0198/events"}
    assert set(script.header("Accept")) == {"text/event-stream"}
    assert len(script.pauses) == 3


def test_a_stream_that_ended_well_is_asked_at_once_whether_there_is_more() -> None:
    script = Script([sse((7, "SUCCEEDED")), b""], reply(204))
    script.play(tasks.events(script.ways, "0198", after=6))
    assert (len(script.emitted), script.pauses) == (1, [])
    assert script.header("Last-Event-ID") == ["6", "7"]


def test_a_stream_whose_past_is_gone_says_so() -> None:
    script = Script(problem(410, "gone", "the events before 900 are no longer kept"))
    with pytest.raises(errors.Gone, match="before 900"):
        script.play(tasks.all_events(script.ways, after=5, type="task.state"))
    assert words(script.requests) == ["GET /v3/events?type=task.state"]


def test_a_service_that_stays_away_is_given_up() -> None:
    script = Script([sse((1, "RUNNING")), Lost("reset")], *lost(100), patience=Patience(deadline_s=30))
    with pytest.raises(errors.ServiceUnreachable):
        script.play(tasks.events(script.ways, "0198"))
    assert 20 < sum(script.pauses) <= 30


def test_what_is_no_event_stream_is_said_to_be_none() -> None:
    script = Script(Reply(200, {"content-type": "text/html"}))
    with pytest.raises(errors.AnswerUnreadable, match="no event stream but 200 text/html"):
        script.play(tasks.events(script.ways, "0198"))
    script = Script([b"id: 1\ndata: [1]\n\n"])
    with pytest.raises(errors.AnswerUnreadable, match="no JSON object"):
        script.play(tasks.events(script.ways, "0198"))


def test_what_has_happened_so_far_is_read_in_pages() -> None:
    events = [{"id": str(at), "type": "task.state", "subject": "tasks/0198", "data": {"to": "X"}} for at in (1, 2, 3)]
    script = Script(reply(200, {"events": events[:2]}), reply(200, {"events": events[2:]}), reply(200, {"events": []}))
    script.play(tasks.events(script.ways, "0198", follow=False))
    assert [event.id for event in script.emitted] == ["1", "2", "3"]
    assert words(script.requests)[1:] == [
        "GET /v3/tasks/0198/events?after=2&limit=100", "GET /v3/tasks/0198/events?after=3&limit=100",
    ]  # fmt: skip
