"""The operations of a node as flows.

Each that moves the machine begins with a look at where it is (`look_before`), to which an undo puts it back; then come
its commands, a step each, which has the command's name: that is how the target is known (views.py). A failure undoes
nothing: a step that failed before anything was sent has left nothing behind, and any other says what it left.

The steps: steps.py. Which operations there are: kind.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.flow.patterns import Child, Flow, linear
from holdfast.flow.step import step
from holdfast.resources.node import views, words
from holdfast.resources.node.steps import Power
from holdfast.settings import Settings

if TYPE_CHECKING:
    from holdfast.resources.registry import World


class Nodes(Power):
    """Makes the flows. Without a world it is the environment's settings that count, and nothing can be called."""

    def __init__(self, settings: Settings | None = None, world: World | None = None) -> None:
        self._given = settings
        super().__init__(settings or Settings.load(), world)

    def in_world(self, world: World) -> Nodes:
        """Those on a database; settings that were given before stay."""
        return Nodes(self._given or world.settings, world)

    def enrol(self) -> Flow:
        return linear("enrol", step(self.verify, provides="observed"))

    def update(self) -> Flow:
        return linear("update", step(self.verify_changes, name="verify", provides="observed"))

    def delete(self) -> Flow:
        return linear("delete", step(self.forget))

    def power(self, operation: str) -> Flow:
        """The commands of an operation, one after the other."""
        commands = views.COMMANDS[operation]
        steps = [self._command(name, is_last=name == commands[-1]) for name in commands]
        first = step(self.look_before, provides="found", weight=0)
        return linear(operation, first, *steps, on_revert_failure="fail")

    def _command(self, name: str, *, is_last: bool) -> Child:
        provides = "observed" if is_last else None
        if name == "inject_nmi":
            shot = step(self.inject, name=name, provides=provides)
            shot.revert(self.not_taken_back)
            return shot
        told = {"target": views.TARGETS[name], "is_last": is_last}
        made = step(self.command, name=name, provides=provides, inject=told)
        made.revert(self.put_back)
        return made

    def abort(self, operation: str) -> Flow:
        target = words.STOPPED_BY[views.TARGETS[operation]]
        return linear(operation, step(self.stop, inject={"target": target}, provides=frozenset(("answer", "effect"))))
