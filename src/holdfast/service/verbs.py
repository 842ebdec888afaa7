"""The routes of verbs: they never wait for a claim, and are done to the task whatever it is doing.

What a verb means in which state: core/states.py. What it does: tasks/control.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from holdfast.core import states
from holdfast.core.values import Stored
from holdfast.service import view
from holdfast.service.app import Service
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.service.routes import Answer, Route
from holdfast.store.base import Tx
from holdfast.tasks import control
from holdfast.tasks.row import TaskRow


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """`revert` false: leave what was done."""

    revert: bool = True


class Abort(msgspec.Struct, forbid_unknown_fields=True):
    """Takes nothing."""


class Suspend(msgspec.Struct, forbid_unknown_fields=True):
    """`release_claims`: others may have its resources meanwhile."""

    release_claims: bool = False


class StepAnswer(msgspec.Struct, forbid_unknown_fields=True, rename={"word": "as"}):
    """What is to become of a step: done (with a result), rerun, undo or skip."""

    word: str
    result: Any = None


class Resume(msgspec.Struct, forbid_unknown_fields=True):
    """`steps`: step id -> what is to become of it, where the task rests for an answer."""

    steps: dict[str, StepAnswer] = {}


class Rollback(msgspec.Struct, forbid_unknown_fields=True):
    """`force`: even if others have changed its resources since."""

    force: bool = False


class Retry(msgspec.Struct, forbid_unknown_fields=True):
    """Takes nothing."""


class ForceFail(msgspec.Struct, forbid_unknown_fields=True):
    """`reason` is kept with the task."""

    reason: str


BODIES: Final[dict[str, Any]] = {
    "cancel": Cancel, "abort": Abort, "suspend": Suspend, "resume": Resume, "rollback": Rollback, "retry": Retry,
}  # fmt: skip


class Verbs:
    """The handlers, and what they share."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def handler(self, verb: str) -> Callable[[Ask], Any]:
        async def handle(ask: Ask) -> Answer:
            return await self._do(ask, verb, ask.data)

        return handle

    async def delete(self, ask: Ask) -> Answer:
        return await self._do(ask, "cancel", Cancel(), deletes=True)

    async def action(self, ask: Ask) -> Answer:
        """One key: the verb."""
        if len(ask.data) != 1:
            raise RequestInvalid(f"an action has one key: {', '.join(BODIES)}", allowed=list(BODIES))
        ((verb, given),) = ask.data.items()
        if verb not in BODIES:
            raise RequestInvalid(f"there is no action {verb[:40]!r}: {', '.join(BODIES)}", allowed=list(BODIES))
        return await self._do(ask, verb, converted(given, BODIES[verb]))

    async def _do(self, ask: Ask, verb: str, data: Any, *, deletes: bool = False) -> Answer:
        uuid = self.service.hold.clock.uuid7()

        def write(tx: Tx, now: float) -> tuple[TaskRow, control.Answer, dict[str, Any]]:
            at = view.find(tx, ask, ask.path["task"])
            ask.check_match(view.etag(at))
            if deletes and view.is_final(at):
                raise control.refused(at, verb)
            answer = self.apply(tx, ask, at, verb, data, now, uuid)
            return at, answer, view.task(tx, ask, answer.task)

        at, answer, shown = await self.service.bridge.write(write)
        status = status_of(at, verb, answer)
        headers = view.headers(answer.task, location=view.location(answer.task))
        if status == 202 and (wait_s := ask.wait_s()) > 0:
            return await view.accepted(ask, answer.task, shown)
        return Answer(status, {"task": shown}, headers)

    def apply(self, tx: Tx, ask: Ask, at: TaskRow, verb: str, data: Any, now: float, uuid: str) -> control.Answer:
        """The verb, in a transaction. Raises: VerbRefused and what else control.py does."""
        actor, keep_s = ask.caller.user_id, self.service.settings.retention_s
        if verb == "cancel":
            return control.cancel(tx, at.id, now, actor=actor, revert=data.revert, retention_s=keep_s)
        if verb == "abort":
            return control.abort(tx, at.id, now, actor=actor, retention_s=keep_s)
        if verb == "suspend":
            return control.suspend(tx, at.id, now, actor=actor, release_claims=data.release_claims)
        if verb == "resume":
            answers = {step: (each.word, self._kept(each.result)) for step, each in data.steps.items()}
            return control.resume(tx, at.id, now, actor=actor, answers=answers)
        if verb == "rollback":
            return control.rollback(tx, at.id, now, actor=actor, uuid=uuid, request_id=ask.request_id, force=data.force)
        return control.retry(tx, at.id, now, actor=actor, uuid=uuid, request_id=ask.request_id)

    def _kept(self, value: Any) -> Any:
        return None if value is None else Stored.of(value, self.service.hold.sealer.seal, name="the value")


def converted(given: Any, kind: Any) -> Any:
    """The value of an action's key; null is the same as {}."""
    try:
        return msgspec.convert({} if given is None else given, kind)
    except msgspec.ValidationError as error:
        from holdfast.service.requests import explained

        raise explained(error, kind) from None


def status_of(at: TaskRow, verb: str, answer: control.Answer) -> int:
    """202: it is being done. 200: there was nothing to do, because it is so already."""
    if answer.accepted != control.NO_OP:
        return 202
    phase = states.phase(at.state, at.hold)
    if phase in states.FINAL or verb == "resume" or (verb == "suspend" and phase in states.RESTING):
        return 200
    return 202


def routes(service: Service) -> list[Route]:
    verbs = Verbs(service)
    both = {200: "task_one", 202: "task_one"}
    found = [
        Route("POST", f"/v3/tasks/{{task}}/{verb}", verbs.handler(verb), "tasks:control", f"{verb} it",
              body=body, body_needed=False, answers=both)
        for verb, body in BODIES.items()
    ]  # fmt: skip
    found.append(Route("DELETE", "/v3/tasks/{task}", verbs.delete, "tasks:control", "Cancel it", answers=both))
    found.append(
        Route("POST", "/v3/tasks/{task}/action", verbs.action, "tasks:control", "Give it the verb that is the key",
              body=dict[str, Any], answers=both)
    )  # fmt: skip
    return found
