"""An event as others see it: a CloudEvent 1.0, alone or as a frame of an event stream.

What it tells is written in tasks/tell.py; this only dresses it.
"""

from __future__ import annotations

import json
from typing import Final

from holdfast.feed.log import Entry
from holdfast.tasks.show import moment

SOURCE: Final = "/v3"
RETRY_MS: Final = 2000
OPENING: Final = f"retry: {RETRY_MS}\n\n".encode()


def text_of(entry: Entry) -> str:
    """The event as JSON on one line. Its data is JSON already and is not read for it."""
    subject = json.dumps(entry.subject)
    return (
        f'{{"specversion":"1.0","id":"{entry.id}","source":"{SOURCE}","type":"{entry.type}","subject":{subject},'
        f'"time":"{moment(entry.at)}","datacontenttype":"application/json","data":{entry.text}}}'
    )


def frame(entry: Entry) -> bytes:
    """The event as one frame of a stream."""
    return f"id: {entry.id}\nevent: {entry.type}\ndata: {text_of(entry)}\n\n".encode()


def heartbeat(place: int | None) -> bytes:
    """A comment; with the place in the log, if that has moved on without anything for this listener: after a long
    silence it is not to be told that it is too far behind."""
    return b": \n\n" if place is None else f": \nid: {place}\n\n".encode()


def mark(after: int) -> bytes:
    """A frame that shows nothing and has a client that did not say where it is remember where it began."""
    return f"id: {after}\n\n".encode()
