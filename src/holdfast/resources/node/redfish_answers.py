"""What a Redfish BMC's answers mean, in the words of errors and of power. I/O, and sushy: redfish_wire.py.

An answer may be anything: an error page, half a document, a list where an object should be. Whatever it is, one of our
errors says so in one sentence, with the BMC's own words where there are any: few of them, on one line, and without
the password, should the BMC say it back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from holdfast.clock import SYSTEM
from holdfast.errors import BMCAuthFailed, BMCError, BMCRefused, BMCUnreachable, PowerUnknown
from holdfast.resources.node.power import Follow

#: States of a Redfish task that it does not leave any more, beside Completed; each other one is on its way.
_FAILED = ("Exception", "Killed", "Cancelled")
_GONE = (404, 410)
#: What a BMC that restarts answers for a while, itself or what stands before it.
_AWAY = (429, 502, 503, 504)
#: How soon to ask again, whatever the BMC says.
AFTER_S_MIN, AFTER_S_MAX = 0.1, 60.0
#: Of a BMC's own words.
MESSAGES_MAX, MESSAGE_CHARACTERS_MAX = 3, 200
LINK_CHARACTERS_MAX = 2000


class Place(NamedTuple):
    """Where a BMC is. `verify`: its certificate is checked; with the system's CAs, or those of a file or folder."""

    scheme: str
    host: str
    port: int
    verify: bool | str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return f"{self.scheme}://{host}" + ("" if self.port == usual else f":{self.port}")


class Answer(NamedTuple):
    """What the BMC said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Reader:
    """Reads the answers of one BMC."""

    def __init__(self, place: Place, secrets: tuple[str, ...]) -> None:
        self.place = place
        self._secrets = secrets

    def judge(self, answer: Answer, asked: str, following: bool) -> Follow | None:
        """What the BMC makes of a command, by its answer to it or to a look at the monitor."""
        status = answer.status
        if following and status in _GONE:
            raise PowerUnknown(f"the BMC at {self.place} has forgotten its task ({status}): it has ended, or was lost")
        if following and status in _AWAY:
            return Follow(asked, after_s(answer.headers), None, f"it is busy ({status})")
        if status >= 300:
            raise self.refusal(answer, *(("failed at it", BMCError) if following else ("won't do it", BMCRefused)))
        document = self.document(answer) if answer.body.strip() else {}
        if self._ended(answer, document):
            return None
        monitor: str | None = asked
        if not following:
            monitor = local_to(asked, answer.headers.get("Location") or document.get("@odata.id"))
        if monitor is None:
            return None  # it was accepted, and where to look is not told: the power state tells
        state = self.clean(document.get("TaskState"))
        message = f"its task is {state}" if state else "it works on it"
        return Follow(monitor, after_s(answer.headers), _fraction(document.get("PercentComplete")), message)

    def _ended(self, answer: Answer, document: dict[str, Any]) -> bool:
        """Whether the BMC has done it. Where the answer is a Redfish task, the task tells and not the HTTP status: a
        Location is often the task instead of its monitor, which answers 200 from the beginning. Raises: BMCError."""
        if "TaskState" not in document:
            return answer.status != 202
        state, health = document["TaskState"], document.get("TaskStatus")
        if not isinstance(state, str):
            raise self.nonsense(answer, f"TaskState is {state!r:.40}")
        if state in _FAILED or (state == "Completed" and health == "Critical"):
            ended = f"{state} with status {health}" if isinstance(health, str) else state
            words = self.messages(document) or "it does not say why"
            raise BMCError(f"the task of the BMC at {self.place} ended {self.clean(ended)}: {words}")
        return state == "Completed"

    def refusal(self, answer: Answer, what: str, kind: type[BMCError]) -> BMCError:
        """The error for an answer that is no success. `kind`: of one that blames the request."""
        status, words = answer.status, self.messages(_parsed(answer))
        if status == 401:
            return BMCAuthFailed(f"the BMC at {self.place} refused the user name or the password (401)")
        said = f"the BMC at {self.place} {what} ({status}): {words or _phrase(status)}"
        if status in _AWAY:
            return BMCUnreachable(said)  # what stands before a BMC says so too, of a request that it has passed on
        if status == 403:
            return BMCAuthFailed(said)
        return kind(said) if 400 <= status < 500 else BMCError(said)

    def document(self, answer: Answer) -> dict[str, Any]:
        """Raises: BMCError: it is no JSON object."""
        document = _parsed(answer)
        if not isinstance(document, dict):
            kind = str(answer.headers.get("Content-Type") or "something").partition(";")[0][:40]
            raise self.nonsense(answer, f"{kind} that is no JSON object")
        return document

    def nonsense(self, answer: Answer, what: str) -> BMCError:
        return BMCError(
            f"the BMC at {self.place} answered with what makes no sense ({answer.status}): {self.clean(what)}"
        )

    def path(self, link: Any) -> str:
        """A link of the BMC. Raises: BMCError: it is none."""
        path = local_to("/", link)
        if path is None:
            raise BMCError(
                f"the BMC at {self.place} answered with what makes no sense: a link is {self.clean(repr(link))[:60]}"
            )
        return path

    def messages(self, document: Any) -> str:
        """What the BMC says itself, in its own words: those of a task or of an error, the worst first."""
        told = dig(document, "Messages") or dig(document, "error", "@Message.ExtendedInfo")
        told = [told] if isinstance(told, dict) else told if isinstance(told, list) else []
        told = [message for message in told if isinstance(message, dict)]
        told.sort(key=lambda message: _weight(message.get("MessageSeverity") or message.get("Severity")))
        said = [self.clean(message.get("Message")) for message in told]
        said = said if any(said) else [self.clean(dig(document, "error", "message"))]  # else it says: see the others
        said = said if any(said) else [self.clean(message.get("MessageId")) for message in told]
        return "; ".join([text for text in dict.fromkeys(said) if text][:MESSAGES_MAX])

    def clean(self, text: object) -> str:
        """Short, on one line, and without what must not be shown, should the BMC say it back."""
        if not isinstance(text, str):
            return ""
        for secret in self._secrets:
            text = text.replace(secret, "******")
        text = " ".join(re.split(r"[\s\x00-\x1f\x7f-\x9f]+", text)).strip()
        return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def after_s(headers: Mapping[str, str]) -> float:
    """How long to wait before the next look: `Retry-After`, in seconds or as a date.

    A date is the BMC's, whose clock may stand in 1970: it is compared with the date of the answer where there is one.
    """
    from email.utils import parsedate_to_datetime

    said = headers.get("Retry-After", "").strip()
    try:
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", said):
            wait = float(said)
        else:
            at = parsedate_to_datetime(said).timestamp()
            now = headers.get("Date")
            wait = at - (parsedate_to_datetime(now).timestamp() if now else SYSTEM.time())
    except (ValueError, TypeError, OverflowError):
        wait = 1.0
    return min(max(wait, AFTER_S_MIN), AFTER_S_MAX)


def local(link: str) -> str:
    """A link without its host: all of a BMC's links are the BMC's."""
    parts = urlsplit(link)
    return "/" + parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")


def local_to(asked: str, link: Any) -> str | None:
    """The path of a link that was found at `asked`; None: it is no link."""
    if not isinstance(link, str) or not link.strip() or len(link) > LINK_CHARACTERS_MAX:
        return None
    try:
        return local(urljoin(asked, link.strip()))
    except ValueError:
        return None


def _phrase(status: int) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "it does not say why"


def _parsed(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or brackets without end
        return None


def _fraction(percent: Any) -> float | None:
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        return None
    return percent / 100


def is_json(answer: Answer) -> bool:
    return _parsed(answer) is not None


def dig(document: Any, *path: str) -> Any:
    """What stands at that path; None where there is nothing, or something else on the way."""
    for word in path:
        if not isinstance(document, dict):
            return None
        document = document.get(word)
    return document


def _weight(severity: Any) -> int:
    return {"Critical": 0, "Warning": 1}.get(severity, 2) if isinstance(severity, str) else 2
