"""Server-sent events, read as they come (WHATWG HTML §9.2.6). Bytes in, events out, whatever pieces they come in.

Who connects, and goes on after the last one when the connection breaks: stream.py.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final, NamedTuple

from holdfast.errors import AnswerUnreadable

EVENT_BYTES_MAX: Final = 16 << 20


class Message(NamedTuple):
    """One event as it was sent. `id`: of the last event that had one."""

    id: str
    type: str
    data: str


class Parser:
    """Feed it what was received. A new connection wants a new one. `retry_s`: what the service asks for, if it does."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # an unfinished line
        self._skip_newline = False  # a line ended with CR: a LF that follows belongs to it
        self._begun = False
        self._id = ""
        self._type = ""
        self._data: list[str] = []
        self._size = 0
        self.retry_s: float | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        """The events that are whole now. Raises: AnswerUnreadable: one is larger than any that the service sends."""
        text = self._decode.decode(data)
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        for line in self._lines(text):
            message = self._line(line)
            if message is not None:
                yield message

    def _lines(self, text: str) -> Iterator[str]:
        """Whole lines: they end with CR LF, LF or CR."""
        if self._skip_newline and text:
            self._skip_newline = False
            text = text.removeprefix("\n")
        if text.endswith("\r"):
            self._skip_newline = True
        *whole, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in whole:
            yield self._rest + line
            self._rest = ""
        self._rest += rest
        if len(self._rest) > EVENT_BYTES_MAX:
            raise AnswerUnreadable(f"an event has a line of more than {EVENT_BYTES_MAX >> 20} MiB")

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._whole()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
            if self._size > EVENT_BYTES_MAX:
                raise AnswerUnreadable(f"an event is larger than {EVENT_BYTES_MAX >> 20} MiB")
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "event":
            self._type = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value[:9]) / 1000
        return None  # a line that begins with a colon is a comment: it only shows that somebody is there

    def _whole(self) -> Message | None:
        data, kind = self._data, self._type
        self._data, self._type, self._size = [], "", 0
        return Message(self._id, kind or "message", "\n".join(data)) if data else None
