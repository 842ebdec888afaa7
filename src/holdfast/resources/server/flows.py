"""The operations of a server as flows over the driver `process`.

Each begins with `look_before`, which says where the servers are and what there is, and ends with `look`, whose answer
becomes what is shown of the server. What a flow needs is bound by name: `resource_id`, `desired`, and the operation's
parameters. A failure undoes; what can't be undone makes the task FAILED with what it left behind, and nobody waits.

The steps: steps.py, rebuilding.py. Which states they lead from and to: kind.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import holdfast as hf
from holdfast.flow.patterns import Child, Flow
from holdfast.resources.server import rebuilding as r
from holdfast.resources.server import steps as s
from holdfast.resources.server.faults import faults_of
from holdfast.resources.server.process import NotPossible
from holdfast.settings import Settings


class Operations:
    """Makes the flows. `settings`: read when a task begins, where they are None."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings

    @property
    def settings(self) -> Settings:
        return self._settings or Settings.load()

    def look_before(self, resource_id: str, desired: dict[str, Any]) -> s.Found:
        """Where the servers are, and what there is of this one. It touches nothing.

        Raises: NotPossible: a fault is asked for where that isn't allowed.
        """
        settings = self.settings
        if faults_of(desired.get("metadata") or {}) and not settings.server_faults:
            raise NotPossible("metadata asks for faults, which HOLDFAST_SERVER_FAULTS=1 would allow")
        where = str(Path(settings.server_dir).absolute())
        return s.found_of(where, resource_id)

    def _flow(self, name: str, *children: Child) -> Flow:
        first = hf.step(self.look_before, name="look_before", provides="found")
        return hf.linear(name, first, *children, s.look, on_revert_failure="fail")

    def _up(self) -> Child:
        return s.wait_up.with_options(timeout_s=self.settings.server_boot_s)

    def create(self) -> Flow:
        return self._flow(
            "create", _trip(s.make, "create before block"), _trip(s.launch, "create after hang"), self._up()
        )

    def start(self) -> Flow:
        return self._flow("start", _trip(s.launch, "start before block after hang"), self._up())

    def stop(self) -> Flow:
        return self._flow("stop", _trip(s.power_off, "stop before block hang"), self._off("stop after"))

    def _off(self, trips: str) -> Child:
        return _trip(s.wait_off, trips, timeout_s=self.settings.server_stop_s)

    def reboot(self) -> Flow:
        return self._flow(
            "reboot",
            _trip(s.power_off, "reboot before block hang"),
            self._off(""),
            _trip(s.relaunch, "reboot after"),
            self._up(),
        )

    def suspend(self) -> Flow:
        return self._flow("suspend", _trip(s.hold, "suspend before block after"))

    def resume(self) -> Flow:
        return self._flow("resume", _trip(s.let_go, "resume before block after"))

    def rebuild(self) -> Flow:
        return self._flow(
            "rebuild",
            _trip(r.hold_old, "rebuild before block"),
            _trip(r.launch_new, "rebuild hang"),
            r.wait_new_up.with_options(timeout_s=self.settings.server_boot_s),
            _trip(r.switch, "rebuild after"),
            r.retire_old,
        )

    def resize(self) -> Flow:
        return self._flow("resize", _trip(s.set_limits, "resize before block after"))

    def update(self) -> Flow:
        return self._flow("update", _trip(s.configure, "update before block after"))

    def delete(self) -> Flow:
        return self._flow("delete", _trip(s.destroy, "delete before block after"))


def _trip(step: Any, trips: str, **options: Any) -> Child:
    made: Child = step.with_options(inject={"trips": trips}, **options)
    return made


Maker = Callable[[], Flow]
