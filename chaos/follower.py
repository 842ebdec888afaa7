"""Who follows the feed: one stream after the other, of any service, each from behind the last event that was heard.

The witness hears of each event as it comes, and in the end of all that are kept: none may lack, and none come twice.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from chaos.load import WHO, Line
from chaos.witness import Witness

TYPE: Final = "task.state"
NAME: Final = "follower"
STREAM_S: Final = (0.5, 20.0)  # for which one service is listened to
SILENT_S: Final = 15.0  # longer than an idle stream is
PAUSE_S: Final = 0.1
PAGE: Final = 1000


class Follower(threading.Thread):
    """Follows from the first event on. `heard`: the id of the last one."""

    def __init__(self, seed: int, witness: Witness, urls: Sequence[str]) -> None:
        super().__init__(name=NAME, daemon=True)
        self._chance = random.Random(f"{seed}/{NAME}")
        self._witness = witness
        self._urls = urls
        self.heard = 0
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.asked = Counter[str]()

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    self._listen(self._chance.choice(self._urls), self._chance.uniform(*STREAM_S))
                except (OSError, http.client.HTTPException):
                    self.stopping.wait(PAUSE_S)
        except BaseException as error:
            self.error = error

    def _listen(self, url: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SILENT_S)
        try:
            given = {**WHO, "Accept": "text/event-stream", "Last-Event-ID": str(self.heard)}
            connection.request("GET", f"/v3/events?type={TYPE}", headers=given)
            answer = connection.getresponse()
            if answer.status >= 500:
                raise OSError(answer.status)
            if answer.status != 200:
                raise AssertionError(f"the feed was answered with {answer.status}: {answer.read()!r}")
            self.asked["stream"] += 1
            for place, event in _blocks(answer):
                if event is not None:
                    self._witness.say(NAME, "told", **_short(event))
                self.heard = place or self.heard
                if self.stopping.is_set() or time.monotonic() > end:
                    return
        finally:
            connection.close()


def _blocks(answer: http.client.HTTPResponse) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Each block of lines that came whole: behind what it is to be gone on, 0 if it doesn't say, and its document."""
    place, event = 0, None
    for line in answer:
        if line.startswith(b"id:"):
            place = int(line[3:])
        elif line.startswith(b"data:"):
            event = json.loads(line[5:]) if line.endswith(b"\n") else None
        elif line == b"\n":
            yield place, event
            place, event = 0, None


def _short(event: dict[str, Any]) -> dict[str, Any]:
    data = event["data"]
    return {"id": int(event["id"]), "task": event["subject"].rpartition("/")[2], "before": data["from"],
            "state": data["to"]}  # fmt: skip


def testify(line: Line, witness: Witness) -> int:
    """Have the witness hear of every event that is kept; the id of the last."""
    after = 0
    while True:
        page = line.insist(0, "GET", f"/v3/events?type={TYPE}&after={after}&limit={PAGE}").body
        for event in page["events"]:
            witness.say("operator", "kept", **_short(event))
        if not page["events"]:
            return after
        after = int(page["events"][-1]["id"])
