"""What `holdfast doctor` looks at, and what it says. Each look is a finding: good or not, in one sentence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.cli import options
from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.local import Holdfast
    from holdfast.settings import Settings
    from holdfast.store.base import Tx
    from holdfast.tasks.lease import WorkerRow
    from holdfast.tasks.row import TaskRow
    from holdfast.tasks.schedules import Schedule

SPACE_BYTES_LEAST: Final = 100 << 20
SYNCHRONOUS: Final = {0: "off", 1: "normal", 2: "full", 3: "extra"}


class Finding(NamedTuple):
    """`text` names the thing and, where it is not good, what to do."""

    good: bool
    text: str


def examine(database: str | None, flows: Sequence[str]) -> Iterator[Finding]:
    """Everything, the surroundings first. What can't be looked at is a finding too."""
    from holdfast.settings import Settings, unknown_variables
    from holdfast.store import redacted

    for name in unknown_variables(os.environ):
        yield Finding(False, f"{name} is no setting of Holdfast: unset it, or see docs/reference/settings.md")
    try:
        settings = Settings.load()
    except HoldfastError as error:
        yield Finding(False, str(error))
        return
    yield _secret_key(settings)
    if settings.url is not None:
        yield _service(settings)
        if database is None and "HOLDFAST_DATABASE" not in os.environ:
            return  # nobody has named one, and no command looks at it
    url = redacted(database or settings.database)
    try:
        with options.opened(database, flows=flows, kinds=True) as hold:
            yield Finding(True, f"{url} can be written and has this Holdfast's schema")
            yield from _store(hold)
            yield from _workers(hold)
            yield from _pools(hold)
            yield from _tasks(hold)
            yield from _resources(hold)
            yield from _secrets(hold)
            yield from _flows(hold)
            yield from _schedules(hold)
    except HoldfastError as error:
        yield Finding(False, str(error))


# --- surroundings ------------------------------------------------------------------------------------------------


def _secret_key(settings: Settings) -> Finding:
    from holdfast.seal import Sealer

    try:
        if settings.read_keys() is None:
            return Finding(True, "no secret key, which only secrets need (`holdfast key new` prints one)")
        Sealer(settings.read_keys).seal("")
    except HoldfastError as error:
        return Finding(False, str(error))
    except ImportError:
        return Finding(False, "a secret key is set, but not what uses it: pip install 'holdfast[secrets]'")
    return Finding(True, "the secret key can be used")


def _service(settings: Settings) -> Finding:
    """Whether the service that commands are given to answers, and knows who asks."""
    from holdfast.client import connect
    from holdfast.client.patience import Patience

    assert settings.url is not None
    try:
        patience = Patience(deadline_s=2, answer_s=2, connect_s=2)
        with connect(settings.url, token=settings.token, project=settings.project, patience=patience) as client:
            version = client.version()
            list(client.tasks.list(limit=1))
    except HoldfastError as error:
        return Finding(False, f"commands go to the service {settings.url} (HOLDFAST_URL), and {error}")
    return Finding(True, f"commands go to the service {settings.url} (HOLDFAST_URL), Holdfast {version['holdfast']}")


def _store(hold: Holdfast) -> Iterator[Finding]:
    from holdfast.store import is_postgresql, sqlite_path

    store: Any = hold.store
    if is_postgresql(hold.url):
        yield from _server(store)
        return
    path = sqlite_path(hold.url)
    mode, synchronous = str(store.setting("journal_mode")), SYNCHRONOUS[store.setting("synchronous")]
    kept = path == ":memory:" or (mode == "wal" and synchronous in ("full", "extra"))
    told = f"journal_mode is {mode}, synchronous is {synchronous}"
    yield Finding(
        kept, told if kept else f"{told}: a power failure may take back what was acknowledged, move it to a local disk"
    )
    if path != ":memory:":
        yield _space(path)


def _server(store: Any) -> Iterator[Finding]:
    """What a PostgreSQL must be set to so that what was acknowledged is on disk, and what it is."""
    wanted = {name: store.setting(name) for name in ("fsync", "full_page_writes", "synchronous_commit")}
    told = f"PostgreSQL {store.setting('server_version')}, " + ", ".join(
        f"{name} {is_}" for name, is_ in wanted.items()
    )
    if "off" in (wanted["fsync"], wanted["full_page_writes"]):
        yield Finding(False, f"{told}: a power failure may take back what was acknowledged, turn them on")
    else:
        yield Finding(True, told)  # synchronous_commit, if it is off, is turned on for each transaction
    if store.pooled and store.hears:
        yield Finding(True, "a pooler of connections stands before it; others' commits are told past that")
    elif store.pooled:
        yield Finding(
            False,
            "a pooler of connections stands before it, and through one nobody is told of others' commits: they are seen"
            " up to a second later; say in the URL where the server is (direct=HOST:PORT)",
        )


def _space(path: str) -> Finding:
    import shutil

    free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    if free < SPACE_BYTES_LEAST:
        return Finding(False, f"only {free >> 20} MiB are free under {path}: make room")
    return Finding(True, f"{free >> 30} GiB are free on the disk")


# --- workers and tasks -------------------------------------------------------------------------------------------


def _workers(hold: Holdfast) -> Iterator[Finding]:
    from holdfast.tasks import lease

    now = hold.clock.time()
    living = 0
    for worker in hold.store.read(lease.alive):
        name = f"worker {worker.id[:8]} (process {worker.pid} on {worker.host})"
        if is_dead(worker, now):
            has = hold.store.read(lambda tx, worker=worker: len(_tasks_of(tx, worker.id)))  # type: ignore[misc]
            yield Finding(False, f"{name} is dead and has {has} tasks: start a `holdfast worker`, it takes them over")
        else:
            living += 1
            drained = "" if worker.draining_at is None else "; it is drained: `holdfast drain --off` lets it take tasks"
            yield Finding(True, f"{name} lives, pool {worker.pool}{drained}")
    if not living:
        yield Finding(True, "no worker lives; `holdfast run` and the verbs do their tasks themselves")


def _pools(hold: Holdfast) -> Iterator[Finding]:
    """What waits for a person's word, or for a worker that there is not."""
    from holdfast.tasks import fleet

    now = hold.clock.time()
    for pool in hold.store.read(lambda tx: fleet.all_pools(tx, now)):
        name, most, runs = pool["name"], pool["running_max"], pool["running"]
        if pool["state"] != fleet.OPEN and pool["due"]:
            yield Finding(
                True,
                f"pool {name} is {pool['state']} and {pool['due']} of its tasks wait: `holdfast pool resume {name}`",
            )
        elif most is not None and runs > most:
            yield Finding(
                True, f"pool {name} runs {runs} and its limit is {most} since they began: it takes no more yet"
            )


def is_dead(worker: WorkerRow, now: float) -> bool:
    """Its lease has run out; or, if it was on this host, nobody holds its lock."""
    import fcntl

    from holdfast.worker.lease import boot_id

    if worker.heartbeat_at + worker.lease_s <= now:
        return True
    if (
        worker.lock_path is None
        or worker.host != os.uname().nodename
        or not os.path.isdir(os.path.dirname(worker.lock_path))
        or worker.boot != boot_id(worker.lock_path)
    ):
        return False
    try:
        with open(worker.lock_path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except OSError:  # who finds none knows nothing
        return False


def _tasks_of(tx: Tx, worker: str) -> list[int]:
    from sqlalchemy import select

    from holdfast.store.schema import tasks

    return tx.execute(select(tasks.c.id).where(tasks.c.worker_id == worker)).scalars()


def _tasks(hold: Holdfast) -> Iterator[Finding]:
    from holdfast.core import states
    from holdfast.tasks import examine, query

    found = hold.store.read(_unfinished)
    now = hold.clock.time()
    wrong = hold.store.read(lambda tx: list(examine.faults(tx, now)))
    for _, said in wrong:
        yield Finding(False, said)
    counted = ", ".join(f"{count} {state}" for state, count in hold.store.read(query.counts).items())
    yield Finding(True, f"tasks: {counted or 'none'}" + ("" if wrong else "; each is as it may be"))
    resting = [at for at in found if at.reason in states.REASONS and states.REASONS[at.reason].needs_answer]
    if resting:
        names = ", ".join(at.uuid for at in resting[:3]) + (" …" if len(resting) > 3 else "")
        yield Finding(True, f"{len(resting)} wait for a person: `holdfast task show {names}` says for what")
    for at in found:
        if at.reason == "definition_changed":
            yield Finding(
                False,
                f"task {at.uuid} rests because the flow {at.flow} is not the one it began with: put the old one back"
                f" and `holdfast task resume {at.uuid}`, or see what `holdfast task adopt {at.uuid} --dry-run` would"
                " run and adopt it",
            )


def _resources(hold: Holdfast) -> Iterator[Finding]:
    from holdfast.resources import examine

    counted, wrong = hold.store.read(lambda tx: (examine.counts(tx), list(examine.faults(tx))))
    for said in wrong:
        yield Finding(False, f"resource {said}: report it, with the output of `holdfast resource show`")
    if counted:
        numbers = ", ".join(f"{number} {word}" for word, number in counted.items())
        yield Finding(True, f"resources: {numbers}" + ("" if wrong else "; each is as it may be"))


def _secrets(hold: Holdfast) -> Iterator[Finding]:
    from holdfast.cli import key
    from holdfast.store import sealed

    names = sealed.lost(hold.store, hold.sealer)
    if names:
        yield Finding(False, key.lost(names))


def _unfinished(tx: Tx) -> list[TaskRow]:
    from sqlalchemy import select

    from holdfast.store.schema import tasks
    from holdfast.tasks import row

    return [row.of(each) for each in tx.execute(select(tasks).where(tasks.c.finished_at.is_(None))).all()]


def _flows(hold: Holdfast) -> Iterator[Finding]:
    """Whether the flows of the tasks that have not ended can be found from here."""
    from holdfast.flow.registry import find

    references = {at.reference: at.uuid for at in hold.store.read(_unfinished)}
    lost: Iterable[tuple[str, str]] = sorted(references.items())
    for reference, uuid in lost:
        try:
            find(reference, hold.flows)
        except HoldfastError as error:
            yield Finding(False, f"the flow of task {uuid} can't be found from here: {error}")
    if references:
        yield Finding(True, f"{len(references)} flows of unfinished tasks were looked for")


def _schedules(hold: Holdfast) -> Iterator[Finding]:
    """Whether what is asked for again and again can be found from here, and is asked for at moments that there are."""
    from holdfast.flow.registry import find
    from holdfast.tasks import schedules

    known = hold.store.read(_all_schedules)
    for at in known:
        try:
            schedules.check(at)
            asked = at.asked
            if "flow" in asked:
                find(asked["flow"]["reference"], hold.flows)
            else:
                hold.kinds.operation(asked["operation"]["kind"], asked["operation"]["operation"])
        except HoldfastError as error:
            yield Finding(
                False,
                f"schedule {at.name} makes no task from here: {error}; give its flow with --flows, or"
                f" `holdfast schedule remove {at.id}`",
            )
    if known:
        counted = ", ".join(f"{count} {state}" for state, count in sorted(Counter(at.state for at in known).items()))
        yield Finding(True, f"schedules: {counted}")


def _all_schedules(tx: Tx) -> list[Schedule]:
    from holdfast.tasks import schedules

    found: list[Schedule] = []
    while page := schedules.page(tx, None, after=found[-1].id if found else ""):
        found += page
    return found
