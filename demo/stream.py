"""The service's event stream, read as a browser reads it: server-sent events (WHATWG HTML §9.2),
resumed by Last-Event-ID where it broke off.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from typing import Any, NamedTuple

from demo.show import Show


class Event(NamedTuple):
    id: int
    type: str
    subject: str
    data: dict[str, Any]

    @property
    def words(self) -> str:
        """As one line."""
        if self.type == "task.state":
            task = self.data.get("task") or {}
            return f"{task.get('task', '')} {self.data.get('from')} -> {self.data.get('to')}"
        if self.type.startswith("resource."):
            return f"{self.data.get('from')} -> {self.data.get('to')}"
        if self.type == "task.control":
            return f"{self.data.get('verb')} by {self.data.get('actor') or 'somebody'}"
        return json.dumps({name: value for name, value in self.data.items() if name != "task"})[:100]


class Stream:
    """Reads in a thread of its own until it is closed. `events` grows; what comes twice is kept twice."""

    def __init__(self, port: int, show: Show | None, after: int | None = None) -> None:
        self.events: list[Event] = []
        self.broken = threading.Event()
        self._show = show
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        self._connection.request("GET", "/v3/events", headers=headers)
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            raise RuntimeError(f"GET /v3/events: {self._response.status} {self._response.read()!r}")
        self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The second time it does nothing."""
        if self._connection.sock is not None:
            try:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the service closed it first
        self._thread.join(5)
        self._response.close()
        self._connection.close()

    def of(self, task: str) -> list[Event]:
        """The events of one task."""
        return [event for event in list(self.events) if event.subject == f"tasks/{task}"]

    def states(self, task: str) -> list[str]:
        """The states that a task has come to."""
        return [str(event.data["to"]) for event in self.of(task) if event.type == "task.state"]

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            while raw := self._response.readline():
                line = raw.decode("utf-8").rstrip("\r\n")
                if line and not line.startswith(":"):
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif not line and "data" in fields:
                    self._take(fields)
                    fields = {}
        except (OSError, http.client.HTTPException, ValueError):
            pass
        self.broken.set()

    def _take(self, fields: dict[str, str]) -> None:
        told = json.loads(fields["data"])
        event = Event(int(fields["id"]), fields["event"], told.get("subject", ""), told.get("data") or {})
        self.events.append(event)
        if self._show and event.type not in ("task.step", "task.progress"):
            self._show.event(event.id, event.type, event.words)
