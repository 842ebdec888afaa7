"""A whole database into an empty one, of the same kind or another: how one grows out of SQLite, and back.

Theory: what is copied is one snapshot of the source, table by table in the order of its keys, some rows at a time; it
is written in one transaction, so a target has all or nothing. Nothing here knows what a table is for, but for what may
not be the same in two places: the target has a generation of its own, so that tokens of the source are good for nothing
there; the workers of the source are dead there, so that their tasks are free and go on; and ids go on behind those that
the source has ever given.

The tables: store/schema.py. The command: cli/db.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Table,
    bindparam,
    column,
    exists,
    false,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    table,
    tuple_,
    update,
)
from sqlalchemy.types import Text

from holdfast.errors import CopyRefused
from holdfast.store.base import Store, Tx
from holdfast.store.schema import leases, metadata, store_info, tasks, workers, writers
from holdfast.tasks import lease
from holdfast.tasks.lease import WorkerRow

ROWS: Final = 500  # that are read and written at once
#: What is of one database alone: which generation it is, and whose connections write to it.
OWN: Final = (store_info, writers)
COPIED: Final = tuple(each for each in metadata.sorted_tables if each not in OWN)

_sqlite_sequence = table("sqlite_sequence", column("name"), column("seq"))
_pg_sequences = table("pg_sequences", column("schemaname"), column("sequencename"), column("last_value"))
#: (the table, rows of it so far, of how many)
Told = Callable[[str, int, int], None]


class Side(NamedTuple):
    """A database, and which kind it is."""

    store: Store
    is_postgresql: bool


def copy(
    source: Side, target: Side, now: float, *, is_dead: Callable[[WorkerRow], bool], told: Told | None = None
) -> dict[str, int]:
    """Copy everything; how many rows each table has that has any. `is_dead`: whether a worker has died, as far as one
    can tell before its lease has run out.

    Raises: CopyRefused: the target is not empty, somebody lives in the source, or wrote to it meanwhile. Nothing has
    been copied then.
    """
    seen = source.store.changes()

    def write(to: Tx) -> dict[str, int]:
        check_empty(to)

        def read(of: Tx) -> dict[str, int]:
            check_left(of, now, is_dead)
            counts = {each.name: int(of.execute(select(func.count()).select_from(each)).scalar()) for each in COPIED}
            for each in COPIED:
                _copy(of, to, each, counts[each.name], target.is_postgresql, told)
                _go_on_behind(of, to, each, source, target)
            _keep_info(of, to)
            _free(of, to, now, target.store.generation)
            return {name: count for name, count in counts.items() if count}

        counts = source.store.read(read)
        if source.store.changes() != seen:
            raise CopyRefused("somebody wrote to the source meanwhile: stop the services and programs that use it")
        return counts

    return target.store.write(write)


def check_empty(tx: Tx) -> None:
    """Raises: CopyRefused."""
    for each in COPIED:
        if tx.execute(select(literal(1)).select_from(each).limit(1)).first() is not None:
            raise CopyRefused(
                f"the target is not empty, its table {each.name} has rows: give the copy a database of its own"
            )


def check_left(tx: Tx, now: float, is_dead: Callable[[WorkerRow], bool]) -> None:
    """Raises: CopyRefused: a worker lives that is not drained."""
    for worker in lease.alive(tx):
        if worker.heartbeat_at + worker.lease_s <= now or is_dead(worker):
            continue
        has = tx.execute(select(exists().where(tasks.c.worker_id == worker.id))).scalar()
        if worker.draining_at is None or has:
            raise CopyRefused(
                f"worker {worker.id[:8]} of {worker.host} (pid {worker.pid}) lives: stop it, or `holdfast drain` it",
                worker=worker.id,
            )


def _copy(of: Tx, to: Tx, one: Table, total: int, is_postgresql: bool, told: Told | None) -> None:
    done = 0
    fields = [(each.name, is_postgresql and isinstance(each.type, Text)) for each in one.columns]
    for rows in _batches(of, one):
        made = [
            {name: _without_nul(value) if check else value for (name, check), value in zip(fields, row, strict=True)}
            for row in rows
        ]
        to.executemany(insert(one), made)
        done += len(rows)
        if told is not None:
            told(one.name, done, total)


def _without_nul(value: Any) -> Any:
    """PostgreSQL's text can't hold that letter; no JSON text has it."""
    return value.replace("\0", "\ufffd") if value is not None and "\0" in value else value


def _batches(tx: Tx, one: Table) -> Iterator[Sequence[Any]]:
    """Its rows in the order of its key."""
    keys = list(one.primary_key.columns)
    first = select(one).order_by(*keys).limit(ROWS)
    names = [f"_{key.name}" for key in keys]
    behind = first.where(
        tuple_(*keys) > tuple_(*(bindparam(name, type_=key.type) for name, key in zip(names, keys, strict=True)))
    )
    rows = tx.execute(first).all()
    while rows:
        yield rows
        last = rows[-1]
        if len(rows) < ROWS:
            return
        rows = tx.execute(behind, {name: getattr(last, key.name) for name, key in zip(names, keys, strict=True)}).all()


# --- what may not be the same in two places ------------------------------------------------------------------------


def _keep_info(of: Tx, to: Tx) -> None:
    """What fingerprints are made with stays: repeated requests are known. The generation is the target's own."""
    known = of.execute(select(store_info)).one()
    to.execute(update(store_info).values(created_at=known.created_at, pepper=known.pepper))


def _free(of: Tx, to: Tx, now: float, generation: str) -> None:
    """Everybody of the source is dead in the target."""
    for worker in lease.alive(of):
        lease.mark_dead(to, worker.id, now)
    to.execute(
        update(tasks)
        .where(tasks.c.worker_id.is_not(null()))
        .values(worker_id=null(), token=null(), epoch=tasks.c.epoch + 1, due_at=now)
    )
    to.execute(update(workers).where(workers.c.dead == false()).values(dead=True))
    to.execute(
        update(leases)
        .where(leases.c.token.is_not(null()), leases.c.ended_at.is_(null()))
        .values(token=f"{generation}.moved", expires_at=now)
    )


def _go_on_behind(of: Tx, to: Tx, one: Table, source: Side, target: Side) -> None:
    """Ids that the source has given are not given again, even of rows that are no more."""
    counting = one.autoincrement_column
    if counting is None or (not source.is_postgresql and not one.dialect_kwargs.get("sqlite_autoincrement")):
        return
    sequence = f"{one.name}_{counting.name}_seq"
    if source.is_postgresql:
        last = of.execute(
            select(_pg_sequences.c.last_value).where(
                _pg_sequences.c.schemaname == literal_column("current_schema()"),
                _pg_sequences.c.sequencename == sequence,
            )
        ).scalar()
    else:
        last = of.execute(select(_sqlite_sequence.c.seq).where(_sqlite_sequence.c.name == one.name)).scalar()
    if last is None:
        return
    if target.is_postgresql:
        to.execute(select(func.setval(sequence, bindparam("_last"))), {"_last": int(last)})
        return
    changed = to.execute(update(_sqlite_sequence).where(_sqlite_sequence.c.name == one.name).values(seq=int(last)))
    if changed.rowcount == 0:
        to.execute(insert(_sqlite_sequence), {"name": one.name, "seq": int(last)})
