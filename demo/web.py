"""Talking to the service by HTTP, in the open: every request and every answer is shown.

Plain http.client: nothing of Holdfast, and nothing that repeats a request by itself.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from demo.show import Show

SHOWN = ("location", "task-tag", "task-tag-replayed", "deprecation", "retry-after")


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def task(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["task"]
        return found


class Lost(Exception):
    """There was no answer: nobody knows whether the request was accepted."""


class Web:
    """A client of one port of loopback. `show` None: nothing is shown."""

    def __init__(self, port: int, show: Show | None) -> None:
        self.port = port
        self._show = show

    def ask(
        self, method: str, path: str, body: Any = None, *, tag: str | None = None, quietly: bool = False, who: str = ""
    ) -> Answer:
        """One request. Raises: Lost."""
        show = None if quietly else self._show
        text = None if body is None else json.dumps(body)
        headers = {"Connection": "close", "Accept": "application/json"}
        if text is not None:
            headers["Content-Type"] = "application/json"
        if tag is not None:
            headers["Task-tag"] = tag
        if show:
            show.request(who, f"{method} {path}", *([f"Task-tag: {tag}"] if tag else []), *([text] if text else []))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, text, headers)
            response = connection.getresponse()
            raw = response.read()
            told = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, told, json.loads(raw) if raw else None)
        except (http.client.HTTPException, OSError) as problem:
            if show:
                show.answer(who, "nothing: the connection broke")
            raise Lost(f"{method} {path}: {problem}") from problem
        finally:
            connection.close()
        if show:
            named = [f"{name}: {told[name]}" for name in SHOWN if name in told and name != "retry-after"]
            show.answer(
                who, f"{answer.status} {http.client.responses.get(answer.status, '')}", *named, *summary(answer)
            )
        return answer

    def get(self, path: str) -> Any:
        """The body of a GET that is not shown. Raises: Lost, RuntimeError: it was not answered with 200."""
        answer = self.ask("GET", path, quietly=True)
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {answer.body}")
        return answer.body

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz", quietly=True).status == 200
        except Lost:
            return False


def summary(answer: Answer) -> list[str]:
    """What of an answer's body is worth a line."""
    body = answer.body if isinstance(answer.body, dict) else {}
    found = []
    if "code" in body and answer.status >= 400:
        found.append(f"{body['code']}: {body.get('detail', '')}")
    if "message" in body:
        found.append(f'"{body["message"]}"')
    task = body.get("task")
    if isinstance(task, dict):
        found.append(f"task {task['uuid'][:8]}… {task['task']} {task['state']}")
    return found
