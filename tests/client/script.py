"""A call played without a socket: scripted answers, a clock that jumps by what is paused, chance that is given."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from holdfast.client.patience import Patience
from holdfast.client.protocol import Call, Emit, Lost, Pause, Read, Reply, Request, Ways

UUID = "49fe58f1-a658-4232-b723-8f0b3efc1014"


class Script:
    """Answers requests and reads from its list, in order; an answer that is a list is a stream of pieces."""

    def __init__(self, *answers: Any, chance: float = 0.5, patience: Patience | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.emitted: list[Any] = []
        self.clock = 1000.0
        self._pieces: list[Any] = []
        self._uuids = 0
        self.ways = Ways(
            url="http://service:8080", headers={"X-Auth-Token": "t0k3n"}, patience=patience or Patience(),
            now=lambda: self.clock, wall=lambda: self.clock, chance=lambda: chance, uuid=self._uuid, plurals={},
        )  # fmt: skip

    def _uuid(self) -> str:
        self._uuids += 1
        return UUID if self._uuids == 1 else f"{UUID[:-1]}{self._uuids}"

    def play(self, call: Call[Any]) -> Any:
        """To its end; its value."""
        answer: Any = None
        while True:
            try:
                command = call.send(answer)
            except StopIteration as end:
                return end.value
            answer = self._do(command)

    def _do(self, command: Any) -> Any:
        if isinstance(command, Pause):
            self.pauses.append(command.seconds)
            self.clock += command.seconds
        elif isinstance(command, Emit):
            self.emitted.append(command.value)
        elif isinstance(command, Request):
            self.requests.append(command)
            answer = self.answers.pop(0)
            if isinstance(answer, list):
                self._pieces = list(answer)
                return Reply(200, {"content-type": "text/event-stream"})
            return answer
        elif isinstance(command, Read):
            return self._pieces.pop(0) if self._pieces else b""
        return None

    def header(self, name: str) -> list[str | None]:
        """What each request said under the name."""
        return [request.headers.get(name) for request in self.requests]


def reply(status: int = 200, body: Any = None, **headers: str) -> Reply:
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return Reply(status, named, json.dumps(body if body is not None else {}).encode())


def problem(status: int, code: str, detail: str = "no", **members: Any) -> Reply:
    body = {"type": f"/errors/{code}", "title": "No", "status": status, "detail": detail, "code": code, **members}
    return Reply(status, {"content-type": "application/problem+json"}, json.dumps(body).encode())


def task(state: str = "RUNNING", **members: Any) -> dict[str, Any]:
    final = state not in ("PENDING", "RUNNING", "WAITING", "SUSPENDED", "SUSPENDING")
    return {"uuid": "0198", "state": state, "finish_time": "2026-01-01T00:00:00Z" if final else None, **members}


def lost(times: int = 1) -> list[Lost]:
    return [Lost("the connection was reset")] * times


def sse(*messages: tuple[int, str]) -> bytes:
    """Events of tasks/0198, by number and the state they lead to."""
    return "".join(
        f'id: {number}\nevent: task.state\ndata: {{"specversion":"1.0","id":"{number}","type":"task.state",'
        f'"subject":"tasks/0198","data":{{"to":"{to}"}}}}\n\n'
        for number, to in messages
    ).encode()


def words(requests: Iterable[Request]) -> list[str]:
    return [f"{request.method} {request.path}" for request in requests]
