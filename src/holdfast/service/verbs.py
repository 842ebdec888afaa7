"""The routes of verbs: they never wait for a claim, and are done to the task whatever it is doing.

What a verb means in which state: core/states.py. What it does: tasks/control.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, update

from holdfast.core import states
from holdfast.core.plan import Plan
from holdfast.core.values import Stored
from holdfast.errors import TagNotSupported
from holdfast.flow.compile import compile
from holdfast.flow.outline import digest, outline
from holdfast.flow.registry import find
from holdfast.service import view
from holdfast.service.app import Service
from holdfast.service.bodies import explained
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.service.routes import BOOLEAN, Answer, Param, Route
from holdfast.store.base import Tx
from holdfast.store.schema import tasks
from holdfast.tasks import adopt as adopting
from holdfast.tasks import control, row, tags
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


class Adopt(msgspec.Struct, forbid_unknown_fields=True):
    """Takes nothing."""


BODIES: Final[dict[str, Any]] = {
    "cancel": Cancel, "abort": Abort, "suspend": Suspend, "resume": Resume, "rollback": Rollback, "retry": Retry,
}  # fmt: skip
SUMMARIES: Final = {
    "cancel": "Stop it at the next safe point and undo what it did",
    "abort": "Stop it now and undo nothing",
    "suspend": "Stop it at the next safe point and hold it",
    "resume": "Let it go on",
    "rollback": "Undo it: once it has stopped, or by a new task",
    "retry": "Make the same request again, as a new task",
}
#: They may make a new task, so a repeated one must be known again.
TAGGED: Final = ("rollback", "retry")
EVENT_CHARS_MAX: Final = 255
_TAG: Final = update(tasks).where(tasks.c.id == bindparam("_task")).values(tag=bindparam("_tag"))


class Delivery(msgspec.Struct, forbid_unknown_fields=True):
    """`payload`: what the step that waits for the event is given; true if there is none."""

    payload: Any = True


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
        if ask.tag is not None and verb not in TAGGED:
            raise TagNotSupported
        return await self._do(ask, verb, converted(given, BODIES[verb]))

    async def force_fail(self, ask: Ask) -> Answer:
        return await self._do(ask, "force_fail", ask.data)

    async def deliver(self, ask: Ask) -> Answer:
        name = ask.path["name"]
        if not name.isprintable() or not 0 < len(name) <= EVENT_CHARS_MAX:
            raise RequestInvalid(f"an event is named by 1 to {EVENT_CHARS_MAX} printable letters")
        payload = self._kept(ask.data.payload)

        def write(tx: Tx, now: float) -> tuple[TaskRow, dict[str, Any]]:
            at = view.find(tx, ask, ask.path["task"])
            ask.check_match(view.etag(at))
            answer = control.deliver(tx, at.id, name, payload, now)
            return answer.task, view.task(tx, ask, answer.task)

        at, shown = await self.service.bridge.write(write)
        return await view.accepted(ask, at, shown)

    async def adopt(self, ask: Ask) -> Answer:
        dry_run, hold = ask.boolean("dry_run"), self.service.hold
        before = await self.service.bridge.read(lambda tx: view.find(tx, ask, ask.path["task"]))

        def found() -> tuple[Plan, str, str]:  # the flow's module may have to be loaded
            plan = compile(find(before.reference, hold.flows))
            return plan, digest(plan), outline(plan)

        plan, of_plan, text = await asyncio.to_thread(found)

        def write(tx: Tx, now: float) -> tuple[adopting.Adoption, dict[str, Any]]:
            at = view.find(tx, ask, before.uuid)
            ask.check_match(view.etag(at))
            adoption = adopting.adopt(
                tx, at.id, plan, now, digest=of_plan, outline=text, actor=ask.caller.user_id, dry_run=dry_run
            )
            return adoption, view.task(tx, ask, adoption.task)

        adoption, shown = await self.service.bridge.write(write)
        body = {
            "task": shown, "adopted": adoption.adopted, "missing": adoption.missing, "to_run": adoption.to_run,
        }  # fmt: skip
        return Answer(200 if dry_run else 202, body, view.headers(adoption.task, location=view.location(adoption.task)))

    # --- what they share ------------------------------------------------------------------------------------------

    async def _do(self, ask: Ask, verb: str, data: Any, *, deletes: bool = False) -> Answer:
        uuid = self.service.hold.clock.uuid7()

        def write(tx: Tx, now: float) -> tuple[int, TaskRow, bool, dict[str, Any]]:
            at = view.find(tx, ask, ask.path["task"])
            known = self._replayed(tx, ask, at, now)
            if known is not None:
                return 202, known, True, view.task(tx, ask, known)
            ask.check_match(view.etag(at))
            if deletes and view.is_final(at):
                raise control.refused(at, verb)
            answer = self.apply(tx, ask, at, verb, data, now, uuid)
            task = self._tagged(tx, ask, answer, now)
            return status_of(at, verb, answer), task, False, view.task(tx, ask, task)

        status, task, replayed, shown = await self.service.bridge.write(write)
        if status == 202 and (ask.wait_s() > 0 or replayed):
            return await view.accepted(ask, task, shown, replayed=replayed)
        return Answer(status, {"task": shown}, view.headers(task, location=view.location(task)))

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
            return control.rollback(
                tx, at.id, now, actor=actor, uuid=uuid, request_id=ask.request_id, force=data.force,
                global_request_id=ask.global_request_id,
            )  # fmt: skip
        if verb == "retry":
            return control.retry(
                tx, at.id, now, actor=actor, uuid=uuid, request_id=ask.request_id, limits=self.service.quotas,
                global_request_id=ask.global_request_id,
            )  # fmt: skip
        return control.force_fail(tx, at.id, now, actor=actor, reason=data.reason, retention_s=keep_s)

    def _replayed(self, tx: Tx, ask: Ask, at: TaskRow, now: float) -> TaskRow | None:
        """The task that the same request made before: a retry or rollback whose answer was lost, asked for again."""
        if ask.tag is None or ask.fingerprint is None:
            return None
        known = tags.find(tx, at.project_id, ask.tag, ask.fingerprint, now, request=ask.request)
        return None if known is None else row.read(tx, known)

    def _tagged(self, tx: Tx, ask: Ask, answer: control.Answer, now: float) -> TaskRow:
        """The tag of a request for a new task names it from now on."""
        task = answer.task
        if ask.tag is None or ask.fingerprint is None:
            return task
        tags.take(tx, task.project_id, ask.tag, ask.fingerprint, task.id, now, request=ask.request)
        if answer.accepted == control.NEW_TASK and task.tag is None:
            tx.execute(_TAG, {"_task": task.id, "_tag": ask.tag})
            return row.read(tx, task.id)
        return task

    def _kept(self, value: Any) -> Any:
        return None if value is None else Stored.of(value, self.service.hold.sealer.seal, name="the value")


def converted(given: Any, kind: Any) -> Any:
    """The value of an action's key; null is the same as {}. Raises: RequestInvalid."""
    try:
        return msgspec.convert({} if given is None else given, kind)
    except msgspec.ValidationError as error:
        raise explained(error, kind) from None


def status_of(at: TaskRow, verb: str, answer: control.Answer) -> int:
    """202: it is being done. 200: there was nothing to do, because it is so already."""
    if answer.accepted != control.NO_OP:
        return 202
    phase = states.phase(at.state, at.hold)
    if phase in states.FINAL or verb == "resume" or (verb == "suspend" and phase in states.RESTING):
        return 200
    return 202


def _action() -> dict[str, Any]:
    """The verbs as keys, of which one is given."""
    found = [
        {"type": "object", "properties": {verb: {"anyOf": [body, {"type": "null"}]}}, "required": [verb],
         "additionalProperties": False}
        for verb, body in BODIES.items()
    ]  # fmt: skip
    return {"oneOf": found}


def routes(service: Service) -> list[Route]:
    verbs = Verbs(service)
    one = "/v3/tasks/{task}"
    both = {200: "TaskOne", 202: "TaskAccepted", 404: "Problem", 409: "Problem", 410: "Problem", 412: "Problem"}
    found = [
        Route("POST", f"{one}/{verb}", verbs.handler(verb), "tasks:control", SUMMARIES[verb], body=body,
              body_needed=False, answers=both, tagged=verb in TAGGED)
        for verb, body in BODIES.items()
    ]  # fmt: skip
    found += [
        Route("DELETE", one, verbs.delete, "tasks:control", "Cancel it; an ended one only expires", answers=both),
        Route("POST", f"{one}/action", verbs.action, "tasks:control", "Give it the verb that is the key",
              body=dict[str, Any], body_schema=_action(), answers=both, tagged=True),
        Route("POST", f"{one}/force-fail", verbs.force_fail, "tasks:force", "End it as FAILED, whatever it does",
              body=ForceFail, answers=both),
        Route("POST", f"{one}/adopt", verbs.adopt, "tasks:force", "Let it go on with its flow as it is now",
              query=(Param("dry_run", "only say what that would mean", BOOLEAN),), body=Adopt, body_needed=False,
              answers={200: "Adopted", 202: "Adopted", 404: "Problem", 409: "Problem", 412: "Problem"}),
        Route("POST", f"{one}/events/{{name}}", verbs.deliver, "tasks:deliver", "Deliver an event that it waits for",
              path_schemas={"name": {"type": "string", "pattern": "^(?!child:)[!-~]{1,255}$"}}, body=Delivery,
              body_needed=False,
              answers={200: "TaskOne", 202: "TaskOne", 404: "Problem", 409: "Problem", 412: "Problem"}),
    ]  # fmt: skip
    return found
