"""Logs: what `serve` and `worker` write to stderr, as lines for people or as JSON for programs.

Theory: everything logs through the standard library and knows nothing of this. A record gets the ids of what it was
written for when it is formatted: the request, from a context variable of its own; the task and the step, from the call
that runs in this context; the worker, of which a process has one. Records of user code get them too. What looks like a
credential is struck out, whoever wrote it, and so is every secret among the settings.

The loggers: holdfast.service (faults), holdfast.access (a line for each request, if `access_log` is on),
holdfast.webhooks. Nothing here loads more than the standard library, for workers have no service installed.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, TextIO

from holdfast.clock import SYSTEM, Clock
from holdfast.errors import SettingInvalid
from holdfast.runtime.base import CURRENT
from holdfast.settings import TABLE, Settings

FORMATS: Final = ("text", "json")
#: The request that this context answers; "": none.
REQUEST: Final[ContextVar[str]] = ContextVar("holdfast.request", default="")

EVERY_S: Final = 60.0
STRUCK_OUT: Final = "***"
_CREDENTIAL: Final = re.compile(
    r"(?P<kind>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"
    r"|(?P<name>\b(?:x-auth-token|authorization|password|passwd|secret|token|api[_-]?key)\b['\"]?\s*[=:]\s*)"
    r"(?!bearer\s|basic\s)['\"]?[^\s'\",;&]+"
    r"|(?P<webhook>whsec_)[\w+/=-]+",
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def set_up(settings: Settings, stream: TextIO | None = None, *, worker: Callable[[], str | None] | None = None) -> None:
    """Have this process log to `stream` (stderr): what is amiss of everything, and the house's own from INFO on.
    `worker`: who works here. Raises: SettingInvalid."""
    if settings.log_format not in FORMATS:
        raise SettingInvalid(f"log_format is {settings.log_format!r}, but has to be {' or '.join(FORMATS)}")
    secrets = [getattr(settings, setting.name) for setting in TABLE if setting.secret]
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    formatter = Json if settings.log_format == "json" else Text
    handler.setFormatter(formatter(tuple(filter(None, secrets)), worker))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("holdfast").setLevel(logging.INFO)


class Seldom(logging.Filter):
    """Lets the same warning through once in `EVERY_S`, with how many there were since. For those that a stranger can
    cause as often as he likes."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        super().__init__()
        self._clock = clock
        self._since: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        said, now = str(record.msg), self._clock.monotonic()
        if now - self._since.get(said, -EVERY_S) < EVERY_S:
            self._left_out[said] = self._left_out.get(said, 0) + 1
            return False
        self._since[said] = now
        if left_out := self._left_out.pop(said, 0):
            record.msg = f"{said} (and {left_out} more like this since the last one that was told)"
        return True


class Text(logging.Formatter):
    """A line for people: when, how bad, who says it, what, and the ids in brackets. A traceback follows it."""

    def __init__(self, secrets: Sequence[str] = (), worker: Callable[[], str | None] | None = None) -> None:
        super().__init__()
        self._secrets = tuple(secrets)
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name.removesuffix('_id')}={value}" for name, value in self.ids().items())
        message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], self.message(record))
        line = f"{_moment(record)} {record.levelname} {record.name} {message}{f' [{ids}]' if ids else ''}"
        traceback = self.traceback(record)
        return line if traceback is None else f"{line}\n{traceback}"

    def message(self, record: logging.LogRecord) -> str:
        try:
            said = record.getMessage()
        except Exception as error:  # as logging itself has it: what is logged wrongly must not end what logs
            said = f"{record.msg} (its values can't be put into it: {type(error).__name__})"
        return self.clean(said)

    def traceback(self, record: logging.LogRecord) -> str | None:
        if not record.exc_info or record.exc_info[0] is None:
            return None
        return self.clean(self.formatException(record.exc_info))

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, STRUCK_OUT)
        return _CREDENTIAL.sub(lambda m: (m["kind"] or m["name"] or m["webhook"]) + STRUCK_OUT, text)

    def ids(self) -> dict[str, str]:
        """Of what this is written for."""
        found = {"request_id": REQUEST.get()}
        call = CURRENT.get()
        if call is not None:
            found |= {"task_id": getattr(call.host, "task_id", ""), "step_id": call.step_id}
        if self._worker is not None:
            found["worker_id"] = self._worker() or ""
        return {name: value for name, value in found.items() if value}


class Json(Text):
    """The same as one JSON object a line. ASCII, so that whatever a name has in it ends no line."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, str] = {
            "at": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self.message(record),
            **self.ids(),
        }
        traceback = self.traceback(record)
        if traceback is not None and record.exc_info is not None and record.exc_info[0] is not None:
            shown |= {"error": record.exc_info[0].__name__, "traceback": traceback}
        return json.dumps(shown)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
