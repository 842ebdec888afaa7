"""Tasks of a service: what the client (client/) is asked, and the event stream as their story.

What commands see of it: place.py. A database instead: near.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.cli import options
from holdfast.cli.options import Where
from holdfast.cli.show import Look
from holdfast.client import connect
from holdfast.client.patience import Patience
from holdfast.client.tasks import at_rest
from holdfast.clock import SYSTEM
from holdfast.core.values import Secret
from holdfast.errors import Gone, HoldfastError, UsageError

if TYPE_CHECKING:
    from holdfast.cli.place import Answers, Wanted
    from holdfast.client.client import Client
    from holdfast.client.stream import Event
    from holdfast.settings import Settings

WAIT_S: Final = 0.1  # at most until the main thread looks whether Ctrl-C was pressed
FIRST_S: Final = 0.3  # for the events so far to come
LOOK_S: Final = 2.0  # between two looks where the stream says nothing
STEPS_SEEN: Final = 200
_VERBS: Final = {"rollback": "asked to ROLL BACK", "force_fail": "FAILED by force"}


@contextmanager
def opened(settings: Settings, where: Where) -> Iterator[Far]:
    assert settings.url is not None
    patience = Patience(deadline_s=settings.patience_s)
    with connect(settings.url, token=settings.token, project=settings.project, patience=patience) as client:
        yield Far(client, where)


class Far:
    """See `Place`."""

    is_near = False

    def __init__(self, client: Client, where: Where) -> None:
        self.client = client
        self.where = where

    def task(self, ref: str) -> FarTask:
        return FarTask(self.client, self.client.tasks.find(ref))

    def submit(
        self, name: str, inputs: Mapping[str, Any], *, tag: str | None, claims: Sequence[str | tuple[str, str]],
        start_after: str | None, priority: int,
    ) -> FarTask:  # fmt: skip
        at = options.moment(start_after, SYSTEM.time())
        found = self.client.tasks.submit(
            name, sendable(inputs), tag=tag, claims=claims or None, start_after=at, priority=priority or None
        )
        return FarTask(self.client, found.task, replayed=found.replayed)

    def tasks(self, *, limit: int, state: str, tag: str, flow: str, resource: str) -> list[dict[str, Any]]:
        kind, _, id = resource.rpartition("/")
        filters = {"state": state, "tag": tag, "task": flow, "resource_type": kind, "resource_id": id}
        return list(self.client.tasks.list(limit=limit, **{name: text for name, text in filters.items() if text}))

    def document(self, task: FarTask) -> dict[str, Any]:
        return task.view() | {"steps": self.client.tasks.steps(task.id)}

    def mark(self, task: FarTask) -> str:
        return str(task.document["last_updated"])

    def story(self, task: FarTask, after: str | None = None) -> Story:
        return Story(self.client, task, after)

    def work(self, task: FarTask, runtime: str) -> None:
        """Nothing: the service's workers do it."""

    def idle(self, view: Mapping[str, Any]) -> str | None:
        return None  # who works there is the service's affair

    # --- schedules ------------------------------------------------------------------------------------------------

    def add_schedule(self, asked: Wanted) -> dict[str, Any]:
        kind, _, id = (asked.on or "").partition("/")
        return self.client.schedules.create(
            asked.name, asked.cron, asked.task, sendable(asked.inputs), timezone=asked.timezone,
            catch_up=asked.catch_up, overlap=asked.overlap, resource={kind: id or None} if kind else None,
            claims=asked.claims or None, priority=asked.priority or None,
        )  # fmt: skip

    def schedules(self) -> list[dict[str, Any]]:
        return list(self.client.schedules.list())

    def schedule(self, ref: str) -> dict[str, Any]:
        return self.client.schedules.get(ref)

    def set_schedule(self, ref: str, verb: str) -> dict[str, Any] | None:
        return getattr(self.client.schedules, verb)(ref)  # type: ignore[no-any-return]

    # --- workers and pools ----------------------------------------------------------------------------------------

    def workers(self, pool: str | None) -> list[dict[str, Any]]:
        return self.client.workers.list(pool=pool)

    def pools(self) -> list[dict[str, Any]]:
        return self.client.pools.list()

    def pool(self, name: str) -> dict[str, Any]:
        return self.client.pools.get(name)

    def set_pool(self, name: str, limits: Mapping[str, int | None]) -> dict[str, Any]:
        return self.client.pools.limit(name, **limits)

    def give_pool(self, name: str, verb: str) -> dict[str, Any]:
        return getattr(self.client.pools, verb)(name)  # type: ignore[no-any-return]

    # --- resources ------------------------------------------------------------------------------------------------

    def kinds(self) -> dict[str, Any]:
        return self.client.resources.kinds()

    def resources(self, kind: str, *, limit: int, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
        return list(self.client.resources.list(kind, limit=limit, **filters))

    def resource(self, kind: str, id: str) -> dict[str, Any]:
        return self.client.resources.get(kind, id)

    def revisions(self, kind: str, id: str) -> list[dict[str, Any]]:
        return list(self.client.resources.revisions(kind, id))

    def node_states(self, id: str) -> dict[str, Any]:
        return self.client.nodes.states(id)

    def operate(
        self, kind: str, operation: str, id: str | None, given: Mapping[str, Any], *, tag: str | None,
        revision: int | None = None,
    ) -> FarTask:  # fmt: skip
        asked = self.client.resources
        if id is None:
            found = asked.create(kind, given, tag=tag)
        elif operation in ("create", "update"):
            found = asked.set(kind, id, given, tag=tag, revision=revision)
        elif operation == "delete":
            found = asked.delete(kind, id, tag=tag, revision=revision)
        elif operation == "reconcile":
            found = asked.reconcile(kind, id, tag=tag)
        else:
            found = asked.operate(kind, id, operation, given, tag=tag)
        return FarTask(self.client, found.task, replayed=found.replayed)


def sendable(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The inputs themselves. Raises: UsageError: one is a secret."""
    for key, value in inputs.items():
        if isinstance(value, Secret):
            raise UsageError(f"the secret {key} can't be sent to a service: let the step read it")
    return inputs


class Adoption(NamedTuple):
    missing: list[str]
    to_run: list[str]


class FarTask:
    """See `Handle`. `document`: as it was last seen."""

    def __init__(self, client: Client, document: dict[str, Any], *, replayed: bool = False) -> None:
        self._client = client
        self.document = document
        self.id = str(document["uuid"])
        self.replayed = replayed

    @property
    def state(self) -> str:
        return str(self.document["state"])

    @property
    def trace(self) -> list[str]:
        heard = self._client.tasks.events(self.id, follow=False)
        steps = map(step_of, self._client.tasks.steps(self.id))
        return [line for _, line in Telling().news(heard, steps)]

    def view(self) -> dict[str, Any]:
        self.document = self._client.tasks.show(self.id)
        return self.document

    def cancel(self, *, revert: bool = True) -> FarTask:
        return self._now(self._client.tasks.cancel(self.id, revert=revert))

    def abort(self) -> FarTask:
        return self._now(self._client.tasks.abort(self.id))

    def suspend(self, *, release_claims: bool = False) -> FarTask:
        return self._now(self._client.tasks.suspend(self.id, release_claims=release_claims))

    def resume(self, answers: Answers | None = None) -> FarTask:
        return self._now(self._client.tasks.resume(self.id, answers))

    def rollback(self, *, force: bool = False) -> FarTask:
        return self._now(self._client.tasks.rollback(self.id, force=force))

    def retry(self) -> FarTask:
        return self._now(self._client.tasks.retry(self.id))

    def force_fail(self, reason: str) -> FarTask:
        return self._now(self._client.tasks.force_fail(self.id, reason))

    def deliver(self, event: str, payload: Any = None) -> FarTask:
        return self._now(self._client.tasks.deliver(self.id, event, payload))

    def adopt(self, *, dry_run: bool = False) -> Adoption:
        found = self._client.tasks.adopt(self.id, dry_run=dry_run)
        if not dry_run:
            self.view()
        return Adoption(list(found.get("missing", ())), list(found.get("to_run", ())))

    def _now(self, document: dict[str, Any]) -> FarTask:
        if document["uuid"] != self.id:
            return FarTask(self._client, document)
        self.document = document
        return self


# --- its story ---------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """As show.py wants it."""

    ord: int
    node: str
    state: str
    attempt: int
    started_at: float
    ended_at: float | None
    progress: float | None
    message: str | None
    why: str


class Story:
    """A thread hears the task's events; whoever looks gets them as lines, and the task as it is. What happened up to
    `after` (a time) is no news. Where the service keeps no events of it any more, the task is only looked at."""

    def __init__(self, client: Client, task: FarTask, after: str | None) -> None:
        self._client = client
        self._task = task
        self._after = seconds(after)
        self._telling = Telling()
        self._seen: str | None = None
        self._quiet_s = 0.0  # since the last look
        self._heard: deque[Event] = deque()
        self._woken = threading.Event()
        self._error: HoldfastError | None = None
        self._ended = False
        self._last: Look | None = None
        self._plan: list[str] | None = None
        threading.Thread(target=self._listen, name="holdfast-events", daemon=True).start()

    def _listen(self) -> None:
        try:
            for event in self._client.tasks.events(self._task.id):
                self._heard.append(event)
                self._woken.set()
        except Gone:
            pass
        except HoldfastError as error:
            self._error = error
        except Exception:
            if not self._ended:  # closing the client breaks the stream
                raise
        self._woken.set()

    def look(self) -> Look:
        if self._error is not None:
            raise self._error
        if self._last is None:
            self._woken.wait(FIRST_S)
        is_woken = self._woken.is_set()
        self._woken.clear()
        if self._last is not None and not is_woken and self._quiet_s < LOOK_S:
            return self._last._replace(news=[])
        self._quiet_s = 0.0
        view = self._task.view()
        heard = self._hear(to_the_end=at_rest(view))
        steps = [step_of(each) for each in self._client.tasks.steps(self._task.id)]
        since = seconds(view["created_at"])
        news = [(at - since, line) for at, line in self._telling.news(heard, steps) if at > self._after]
        begun = {step.node for step in steps}
        self._last = Look(view, steps, [node for node in self._planned() if node not in begun], news)
        return self._last

    def _hear(self, *, to_the_end: bool) -> list[Event]:
        """What the stream brought. Where the task is at rest, nobody looks again: what it has not brought is asked
        for."""
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        self._seen = heard[-1].id if heard else self._seen
        if to_the_end:
            heard += self._client.tasks.events(self._task.id, after=self._seen, follow=False)
        return heard

    def _planned(self) -> list[str]:
        """The ids of the plan's steps and maps, in its order, where they are not too many for a screen."""
        if self._plan is None:
            nodes = self._client.tasks.graph(self._task.id)["nodes"]
            names = [node["id"] for node in nodes if node["kind"] in ("step", "map")]
            self._plan = names if len(names) <= STEPS_SEEN else []
        return self._plan

    def wait(self) -> None:
        if not self._woken.wait(WAIT_S):
            self._quiet_s += WAIT_S

    def close(self) -> None:
        self._ended = True


class Telling:
    """Makes the lines of a task's trace (core/trace.py): what becomes of the task is told by its events; what becomes
    of its steps by the steps themselves, because events of steps are few where there are many."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[str, int]] = {}
        self._last = 0.0

    def news(self, events: Iterable[Event], steps: Iterable[Step]) -> list[tuple[float, str]]:
        """When, in seconds since the epoch, and the line; in this order, and of one moment in that of a journal."""
        found: list[tuple[float, str]] = []
        for event in events:
            self._last = max(self._last, seconds(event.time))
            line = line_of(event)
            if line is not None:
                found.append((seconds(event.time), line))
        for step in steps:
            found += self._of_step(step)
        return sorted(found, key=lambda told: (told[0], _rank(told[1])))

    def _of_step(self, step: Step) -> Iterator[tuple[float, str]]:
        before, now = self._told.get(step.ord), (step.state, step.attempt)
        if before == now:
            return
        self._told[step.ord] = now
        if before is None and step.state != "RUNNING":
            yield step.started_at, f"{step.node} RUNNING"
        at = step.started_at if step.state == "RUNNING" and before is None else step.ended_at
        why = f" ({step.why})" if step.why and step.state in ("FAILED", "REVERT_FAILED") else ""
        yield max(self._last, step.started_at) if at is None else at, f"{step.node} {step.state}{why}"


def _rank(line: str) -> int:
    """A task runs before its steps do, and is what they have made of it behind them."""
    return 1 if not line.startswith("task ") else 0 if line == "task RUNNING" else 2


def line_of(event: Event) -> str | None:
    """What an event says of the task itself."""
    data = event.data
    if event.type == "task.state" and data.get("from") is not None:
        reason = f" ({data['reason']})" if data.get("reason") else ""
        return f"task {data['to']}{reason}"
    if event.type == "task.control":
        verb = str(data["verb"])
        return f"task {_VERBS.get(verb, f'asked to {verb.upper()}')}"
    return None


def step_of(found: Mapping[str, Any]) -> Step:
    ended, error = found["ended_at"], found["error"]
    return Step(
        found["number"], found["id"], found["state"], found["attempt"], seconds(found["started_at"]),
        None if ended is None else seconds(ended), found["progress"], found["message"],
        "" if error is None else f"{error['title']}: {error['detail']}",
    )  # fmt: skip


def seconds(text: str | None) -> float:
    """Seconds since the epoch of a time in RFC 3339."""
    return 0.0 if text is None else datetime.fromisoformat(text).timestamp()
