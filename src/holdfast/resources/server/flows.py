"""The operations of a server as flows over the driver `process`.

Each begins with `look_before`, which says where the servers are and what there is, and ends with `look`, whose answer
becomes what is shown of the server. What a flow needs is bound by name: `resource_id`, `desired`, and the operation's
parameters. A failure undoes; what can't be undone makes the task FAILED with what it left behind, and nobody waits.

The steps: steps.py, rebuilding.py. Which states they lead from and to: kind.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.flow.patterns import Child, Flow, graph, linear
from holdfast.flow.step import step
from holdfast.resources.server import rebuilding as r
from holdfast.resources.server import steps as s
from holdfast.resources.server.faults import faults_of
from holdfast.resources.server.process import NotPossible, Server
from holdfast.settings import Settings


class Operations:
    """Makes the flows. `settings` None: those of the database once it is known, and of the environment until then."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings

    def with_settings(self, settings: Settings) -> Operations:
        """Those on a database with these settings; settings that were given before stay."""
        return self if self._settings is not None else Operations(settings)

    @property
    def settings(self) -> Settings:
        return self._settings or Settings.load()

    def look_before(self, resource_id: str, desired: dict[str, Any]) -> s.Found:
        """Where the servers are, and what there is of this one. It touches nothing.

        Raises: NotPossible: a fault is asked for where that isn't allowed.
        """
        if faults_of(desired.get("metadata") or {}) and not self.settings.server_faults:
            raise NotPossible("metadata asks for faults, which HOLDFAST_SERVER_FAULTS=1 would allow")
        return s.found_of(self._where(), resource_id)

    def observe(self, resource_id: str) -> dict[str, Any]:
        """What there is of a server, for a probe."""
        return s.observed_of(self._server(resource_id))

    def is_as_desired(self, resource_id: str, desired: dict[str, Any]) -> bool:
        """Whether its image and its limits are those that are desired."""
        config = self._server(resource_id).slot.config()
        return all(config.get(name) == found for name, found in s.config_of(desired).items())

    def _server(self, resource_id: str) -> Server:
        return Server(self._where(), resource_id)

    def _where(self) -> str:
        return str(Path(self.settings.server_dir).absolute())

    def _flow(self, name: str, *children: Child) -> Flow:
        return linear(name, self._first(), *children, s.look, on_revert_failure="fail")

    def _first(self) -> Child:
        return step(self.look_before, name="look_before", provides="found")

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

    def _renewal(self, operation: str, *more: Child) -> list[Child]:
        """The new image beside the old one, in its place once it is up."""
        return [
            _trip(r.hold_old, f"{operation} before block"),
            _trip(r.launch_new, f"{operation} hang"),
            r.wait_new_up.with_options(timeout_s=self.settings.server_boot_s),
            _trip(r.switch, f"{operation} after"),
            *more,
            r.retire_old,
        ]

    def rebuild(self) -> Flow:
        return self._flow("rebuild", *self._renewal("rebuild"))

    def resize(self) -> Flow:
        """As `update`: something else that is desired may not have come true yet, and a success says that all has."""
        return self._converge("resize")

    def update(self) -> Flow:
        return self._converge("update")

    def _converge(self, operation: str) -> Flow:
        """Whatever differs: the image with all that it takes, or the rest, which a guest takes over as it runs."""
        first = self._first()
        renew = linear("renew", *self._renewal(operation, r.power_as_before))
        adjust = linear(
            "adjust", _trip(s.set_limits, f"{operation} before block"), _trip(s.configure, f"{operation} after")
        )
        made = graph(operation, first, renew, adjust, s.look, on_revert_failure="fail")
        made.link(first, renew, when=has_another_image)
        made.link(first, adjust, when=has_the_same_image)
        return made.link(renew, s.look).link(adjust, s.look)

    def delete(self) -> Flow:
        return self._flow("delete", _trip(s.destroy, "delete before block after"))


def _trip(step: Any, trips: str, **options: Any) -> Child:
    made: Child = step.with_options(inject={"trips": trips}, **options)
    return made


def has_another_image(found: s.Found, desired: dict[str, Any]) -> bool:
    return bool(found["config"].get("image") != desired["image"])


def has_the_same_image(found: s.Found, desired: dict[str, Any]) -> bool:
    return not has_another_image(found, desired)
