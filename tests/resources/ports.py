"""A kind `port` whose backend is a directory: one file for each port, and a witness that only the steps write.

A port's `faults` say what goes wrong: `before` the file is written, `after` it, `undo` (the undo fails), `hang`.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

import holdfast as hf
from holdfast.resources.kind import Change, Kind, Seen, final, resting

LIFECYCLE = {"BUILD": resting(), "ACTIVE": resting(), "DOWN": resting(), "ERROR": resting(), "DELETED": final()}


class PortFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str = "port"
    address: str | None = None
    mtu: int = 1500
    faults: list[str] = []


class Ping(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    times: int = 1
    size: int | None = None


class Readdress(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    address: str | msgspec.UnsetType | None = msgspec.UNSET
    mtu: int | None = None


class Backend:
    """The world: what ports there are, and what has been done to them in which order."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    def file(self, id: str) -> Path:
        return self.directory / f"{id}.json"

    def there(self, id: str) -> Any:
        """The port as the switch has it, or None."""
        file = self.file(id)
        return json.loads(file.read_text()) if file.exists() else None

    def put(self, id: str, document: dict[str, Any]) -> None:
        part = self.directory / f"{id}.part"
        part.write_text(json.dumps(document))
        part.rename(self.file(id))

    def drop(self, id: str) -> None:
        self.file(id).unlink(missing_ok=True)

    def say(self, *words: Any) -> None:
        """One write, so that lines of several processes stand one after the other."""
        fd = os.open(self.directory / "witness", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, (json.dumps(words) + "\n").encode())
        finally:
            os.close(fd)

    def said(self, *beginning: Any) -> list[list[Any]]:
        witness = self.directory / "witness"
        lines = [json.loads(line) for line in witness.read_text().splitlines()] if witness.exists() else []
        return [line for line in lines if line[: len(beginning)] == list(beginning)]

    @contextmanager
    def alone(self, id: str) -> Iterator[None]:
        """The switch's own lock: it tells of whoever comes while another is inside."""
        lock = self.directory / f"{id}.inside"
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self.say("collision", id)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)

    # --- knobs ----------------------------------------------------------------------------------------------------

    def turn(self, knob: str) -> None:
        (self.directory / knob).touch()

    def turn_off(self, knob: str) -> None:
        (self.directory / knob).unlink(missing_ok=True)

    def knob(self, knob: str) -> bool:
        return (self.directory / knob).exists()

    def wait(self, ctx: hf.Context, knob: str) -> None:
        while not self.knob(knob):
            ctx.sleep(0.01)


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """What of a document the backend gets to see."""
    return {name: value for name, value in document.items() if name != "faults"}


def make_kind(directory: Path | str) -> Kind:
    backend = Backend(directory)
    port = Kind("port", fields=PortFields, lifecycle=LIFECYCLE, driver=backend)

    def writing(kind: Kind, name: str, **options: Any) -> hf.Flow:
        @hf.step(name="write", provides="observed")
        def write(
            ctx: hf.Context, resource_id: str, desired: dict[str, Any], revision: int, applied: dict[str, Any] | None
        ) -> dict[str, Any]:
            backend.say("write", resource_id, revision, ctx.task_id)
            with backend.alone(resource_id):
                return _write(ctx, resource_id, desired, revision)

        def _write(ctx: hf.Context, resource_id: str, desired: dict[str, Any], revision: int) -> dict[str, Any]:
            if "before" in desired["faults"]:
                raise ConnectionError("no route to the switch")
            if "hang" in desired["faults"]:
                backend.wait(ctx, "go")
            if backend.knob("slow"):
                ctx.sleep(random.random() * 0.01)
            backend.put(resource_id, plain(desired))
            if "after" in desired["faults"]:
                raise ConnectionError("the switch went away")
            backend.say("written", resource_id, revision, plain(desired))
            return {"mtu": desired["mtu"]}

        @write.revert
        def unwrite(resource_id: str, desired: dict[str, Any], applied: dict[str, Any] | None) -> None:
            backend.say("unwrite", resource_id)
            if "undo" in desired["faults"] and not backend.knob("mended"):
                raise ConnectionError("no way back")
            if applied is None:
                backend.drop(resource_id)
            else:
                backend.put(resource_id, plain(applied))

        return hf.linear(name, write, **options)

    @port.operation("create", ends="ACTIVE")
    def create(kind: Kind) -> hf.Flow:
        return writing(kind, "create")

    @port.operation("update", starts=("ACTIVE", "DOWN", "ERROR"), fault="", agents=True)
    def update(kind: Kind) -> hf.Flow:
        return writing(kind, "update")

    @port.operation("readdress", starts=("ACTIVE",), params=Readdress, desires=True, applies=True)
    def readdress(kind: Kind) -> hf.Flow:
        return writing(kind, "readdress", on_revert_failure="fail")

    @port.operation("down", starts=("ACTIVE",), ends="DOWN")
    def down(kind: Kind) -> hf.Flow:
        @hf.step
        def switch_off(ctx: hf.Context, resource_id: str, desired: dict[str, Any]) -> None:
            backend.say("off", resource_id)
            if "down-before" in desired["faults"]:
                raise ConnectionError("not now")
            if "down-hang" in desired["faults"]:
                backend.wait(ctx, "go")
            if "down-after" in desired["faults"]:
                backend.put(resource_id, {"half": "off"})
                raise ConnectionError("it went off, and something else broke")

        @switch_off.revert
        def switch_on(resource_id: str) -> None:
            backend.say("on", resource_id)
            if backend.there(resource_id) == {"half": "off"}:
                raise ConnectionError("it does not come up again")

        return hf.linear("down", switch_off, on_revert_failure="fail")

    @port.operation("up", starts=("DOWN", "ERROR"), ends="ACTIVE", abortable=False)
    def up(kind: Kind) -> hf.Flow:
        def switch_on(ctx: hf.Context, resource_id: str, desired: dict[str, Any]) -> None:
            backend.say("on", resource_id)
            if "up-hang" in desired["faults"]:
                backend.wait(ctx, "go")

        return hf.linear("up", switch_on)

    @port.operation("delete", ends="DELETED")
    def delete(kind: Kind) -> hf.Flow:
        @hf.step
        def drop(resource_id: str, applied: dict[str, Any] | None) -> None:
            backend.drop(resource_id)

        @drop.revert
        def put_back(resource_id: str, applied: dict[str, Any] | None) -> None:
            if applied is not None:
                backend.put(resource_id, plain(applied))

        return hf.linear("delete", drop)

    @port.action("ping", starts=("ACTIVE", "DOWN"), params=Ping)
    def ping(driver: Backend, resource_id: str, times: int, size: int | None, desired: dict[str, Any]) -> str:
        driver.say("ping", resource_id, times, size)
        return f"{desired['name']} answered {times}"

    @port.probe
    def look(driver: Backend, resource_id: str, desired: dict[str, Any], before: str) -> Seen:
        driver.say("look", resource_id)
        there = driver.there(resource_id)
        pause = threading.Event()
        while driver.knob("slow"):
            pause.wait(0.01)
        if driver.knob("unreachable"):
            raise ConnectionError("the switch does not answer")
        observed = {"status": "UNPLUGGED"} if driver.knob("unplugged") else {}
        if there is None:
            return Seen(False, observed, "DELETED" if before == "ERROR" else None)
        in_sync = there == plain(desired)
        return Seen(in_sync, observed, "ACTIVE" if before == "ERROR" else None)

    @port.precommit
    def no_jumbo(change: Change) -> None:
        if change.desired.get("mtu", 0) > 9000:
            from holdfast.errors import DocumentInvalid

            raise DocumentInvalid("mtu: the switch takes at most 9000", field="mtu")

    return port
