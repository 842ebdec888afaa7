"""What no answer of the whole test run may tell: each is looked at as it comes, whoever asked, and for whatever.

To nobody but an administrator: a traceback, a place in code, a host, whose an object of another project is. To nobody
at all: a password or a token that was ever sent. That such things are found where they are told: test_leaks.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx

#: Of what is described, not told.
DESCRIBED: Final = ("/openapi.json", "/v3/schemas/")
PLACES: Final = ("Traceback (most recent call last)", '\\", line ', "site-packages", "src/holdfast/")
FOR_ADMINISTRATORS: Final = ("traceback", "host")
PROJECT: Final = ("project_id", "tenant_id")
CREDENTIALS: Final = ("password", "x-auth-token", "authorization")
SHORTEST: Final = 8  # shorter ones are words by chance

_said: set[str] = set()


class Leak(AssertionError):
    """An answer tells what it must not."""


def asked(headers: Mapping[str, str], body: Any) -> None:
    """What was sent: its credentials are to be in no answer from now on."""
    for name, value in (*_members(body), *headers.items()):
        if name.lower().endswith(CREDENTIALS) and isinstance(value, str):
            _said.add(value.removeprefix("Bearer "))


def look(path: str, headers: Mapping[str, str], text: str) -> None:
    """One answer, or one event, to who asked with those headers. Raises: Leak."""
    who = {name.lower(): value for name, value in headers.items()}
    found = [f"a credential: {word}" for word in _said if len(word) >= SHORTEST and word in text]
    if "admin" not in who.get("x-roles", "") and not path.startswith(DESCRIBED):
        found += [place for place in PLACES if place in text]
        if "x-auth-token" not in who and "authorization" not in who:  # else headers don't say who it is
            found += _not_his(_json(text), who.get("x-project-id", "default"))
    if found:
        raise Leak(f"{path} tells {found}: {text[:2000]}")


def _not_his(body: Any, project: str) -> list[str]:
    return [
        f"{name}: {value}"
        for name, value in _members(body)
        if (name in FOR_ADMINISTRATORS and isinstance(value, str)) or (name in PROJECT and value not in (project, None))
    ]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _members(found: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(found, dict):
        for name, value in found.items():
            yield str(name), value
            yield from _members(value)
    elif isinstance(found, list):
        for each in found:
            yield from _members(each)


# --- where answers come in ----------------------------------------------------------------------------------------


def listen(client: httpx.Client) -> httpx.Client:
    """Have it look at everything that it is answered; who reads a stream looks himself."""
    client.event_hooks = {"request": [_request], "response": [_response]}
    return client


def _request(sent: httpx.Request) -> None:
    try:
        body = _json(sent.content.decode("utf-8", "replace"))
    except httpx.RequestNotRead:  # it is made as it goes
        body = None
    asked(sent.headers, body)


def _response(answer: httpx.Response) -> None:
    if "text/event-stream" not in answer.headers.get("content-type", ""):
        answer.read()
        said = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        look(answer.request.url.path, answer.request.headers, answer.text)
        look(answer.request.url.path, answer.request.headers, said)
