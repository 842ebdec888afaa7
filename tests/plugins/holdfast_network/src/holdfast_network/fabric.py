"""The backend: switches and routers that are files in one directory, with a log of what was done to them.

A file `slow.<what>` makes that part take its time, `hang.<what>` makes it wait until the file is gone, `fail.<what>`
makes it fail, `half.<what>` makes it fail after its work is done, `stuck.<what>` keeps it from being undone. What is
applied may be changed behind Holdfast's back: `drift`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import holdfast as hf

LOOK_S = 0.01
SLOW_S = 0.4


class Fabric:
    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    # --- what is applied ------------------------------------------------------------------------------------------

    def apply(self, what: str, id: str, document: dict[str, Any], ctx: hf.Context | None = None) -> None:
        """Let one mechanism have a resource as the document says; the same twice is no harm."""
        self.say("begin", what, id, document.get("name"))
        while ctx is not None and self._has("hang", what):
            ctx.sleep(LOOK_S)
        if ctx is not None and self._has("slow", what):
            ctx.sleep(SLOW_S)
        if self._has("fail", what):
            raise ConnectionError(f"{what} does not answer")
        place = self._place(what, id)
        fresh = place.with_name(f"{place.name}.new")
        fresh.write_text(json.dumps(document, sort_keys=True))
        fresh.rename(place)
        self.say("end", what, id, document.get("name"))
        if self._has("half", what):
            raise ConnectionError(f"{what} went away")

    def drop(self, what: str, id: str) -> None:
        self.say("drop", what, id, None)
        if self._has("stuck", what):
            raise ConnectionError(f"{what} does not let go")
        self._place(what, id).unlink(missing_ok=True)

    def there(self, what: str, id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._place(what, id).read_text())
        except FileNotFoundError:
            return None
        return found

    def drift(self, what: str, id: str, **changed: Any) -> None:
        """Somebody works on the switch by hand."""
        self._place(what, id).write_text(json.dumps({**(self.there(what, id) or {}), **changed}, sort_keys=True))

    def _place(self, what: str, id: str) -> Path:
        return self.directory / f"{what}.{id}"

    # --- faults ---------------------------------------------------------------------------------------------------

    def turn(self, knob: str) -> None:
        (self.directory / knob).touch()

    def turn_off(self, knob: str) -> None:
        (self.directory / knob).unlink(missing_ok=True)

    def _has(self, fault: str, what: str) -> bool:
        return (self.directory / f"{fault}.{what}").exists()

    def has(self, knob: str) -> bool:
        return (self.directory / knob).exists()

    # --- the log --------------------------------------------------------------------------------------------------

    def say(self, *words: Any) -> None:
        """One line, one write: a kill leaves it out or whole."""
        fd = os.open(self.directory / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, (json.dumps(words) + "\n").encode())
        finally:
            os.close(fd)

    def said(self, *beginning: Any) -> list[list[Any]]:
        log = self.directory / "log"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line[: len(beginning)] == list(beginning)]
