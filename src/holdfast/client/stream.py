"""Events as they happen: a stream that is taken up again behind the last event whenever it breaks.

How its bytes become messages: sse.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from holdfast.client.problems import error_of
from holdfast.client.protocol import (
    Call,
    Emit,
    Lost,
    Pause,
    Read,
    Reply,
    Request,
    Ways,
    ask_json,
    given_up,
    is_tried_again,
    member,
    with_query,
)
from holdfast.client.sse import Message, Parser
from holdfast.errors import AnswerUnreadable

RETRY_S = 2.0  # before a broken stream is taken up again, where the service has not said
PAGE = 100


class Event(NamedTuple):
    """`id`: to go on behind it. `subject`: whose it is, as tasks/<uuid>. `data`: what it says, as `from` and `to`."""

    id: str
    type: str
    time: str | None
    subject: str
    data: dict[str, Any]


def past(ways: Ways, path: str, query: Mapping[str, Any], after: str | None) -> Call[None]:
    """Emit the events that are stored now, behind `after`."""
    while True:
        found = yield from ask_json(ways, path, {**query, "after": after, "limit": PAGE})
        events = [event_of(each) for each in member(found, "events")]
        for event in events:
            yield Emit(event)
        if not events or events[-1].id == after:
            return
        after = events[-1].id


def follow(ways: Ways, path: str, query: Mapping[str, Any], after: str | None) -> Call[None]:
    """Emit events as they happen, each once and in order, from behind `after` on, until the service says that no more
    will come. Raises: Gone: those behind `after` are no longer kept; ServiceUnreachable."""
    tries, alone_since, retry_s = 0, ways.now(), RETRY_S
    while True:
        request = _request(ways, path, query, after)
        reply: Reply | Lost = yield request
        if isinstance(reply, Reply) and not is_tried_again(reply):
            if reply.status == 204:
                return
            _check(reply, ways)
            heard = False
            parser = Parser()
            while not isinstance(piece := (yield Read()), Lost) and piece:
                for message in parser.feed(piece):
                    event = event_of(_data(message))
                    after, heard = event.id or message.id or after, True
                    yield Emit(event)
            retry_s = parser.retry_s if parser.retry_s is not None else retry_s
            if piece is not None:
                tries, alone_since = 0, ways.now()
            if heard and piece == b"":
                continue  # it ended well: asked again at once, the service says whether there is more
            reply = piece if isinstance(piece, Lost) else Lost("the stream ended")
        tries += 1
        pause_s = retry_s * (0.5 + 0.5 * ways.chance()) + ways.patience.pause_s(tries, ways.chance())
        if tries > 1 and ways.now() + pause_s - alone_since > ways.patience.deadline_s:
            raise given_up(ways, request, reply, tries)
        yield Pause(pause_s)


def _request(ways: Ways, path: str, query: Mapping[str, Any], after: str | None) -> Request:
    headers = {**ways.headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
    if after is not None:
        headers["Last-Event-ID"] = after
    return Request("GET", with_query(path, query), headers, answer_s=ways.patience.silence_s, stream=True)


def _check(reply: Reply, ways: Ways) -> None:
    if reply.status >= 400:
        raise error_of(reply.status, reply.headers, reply.body)
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if reply.status != 200 or kind != "text/event-stream":
        raise AnswerUnreadable(f"{ways.url} gave no event stream but {reply.status} {kind}")


def _data(message: Message) -> Any:
    try:
        return {"id": message.id, "type": message.type, **json.loads(message.data)}
    except (ValueError, TypeError):
        raise AnswerUnreadable(f"the event {message.id} is no JSON object") from None


def event_of(found: Any) -> Event:
    """An event as CloudEvents 1.0 has it in JSON."""
    data = found.get("data")
    return Event(
        id=str(member(found, "id")),
        type=str(member(found, "type")),
        time=found.get("time"),
        subject=str(found.get("subject", "")),
        data=data if isinstance(data, dict) else {},
    )
