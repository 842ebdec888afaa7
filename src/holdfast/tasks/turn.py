"""Turns: which of a pool's due tasks is taken next.

Theory: first what is most urgent; among equals the projects share the pool; within a project, tasks that a worker has
had before and those that none has had, one by one, and of each who has been due for longest. A place goes to the
project that has the fewest tasks running in the pool; where those are equal, to the next in a ring of the projects'
names, behind the one that was served last. So a project with ten thousand tasks queued, or with tasks that take long,
has its share of the places and not more, as long as another waits.

Nothing is sorted or counted that grows with the backlog: the ring is walked by seeks into one index
(pool, ready, priority, project, begun, due_at), two for each project, and `WINDOW` projects with something due are
candidates at once. Which project is served costs the same with a thousand tasks queued as with a million. Projects
whose tasks are all due later cost two seeks each.

Nothing is locked while the ring is walked. The rows that are taken then are locked as they are read (FOR UPDATE SKIP
LOCKED), where the conditions are looked at once more: of two takers one has the row, and the other goes past it. How
many may be taken: tasks/pools.py, whose lock comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heapreplace
from itertools import chain, islice, takewhile, zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Select, and_, bindparam, false, func, literal, null, select, true

from holdfast.store.base import Tx
from holdfast.store.schema import tasks

if TYPE_CHECKING:
    from holdfast.store.base import Result

WINDOW: Final = 64
PAGE: Final = 16  # projects that one statement looks at


class Candidate(NamedTuple):
    """A project with something due: that a worker has had before (`again`), or that none has (`new`)."""

    project: str
    again: bool
    new: bool


def _waits(of: Any) -> Any:
    """That the task could be taken, once it is due: the index's own words, and its first columns."""
    return and_(
        of.c.pool == bindparam("_pool"), of.c.ready == true(), of.c.worker_id.is_(null()), of.c.due_at.is_not(null())
    )


def _next_less(of: Any, *more: Any) -> Any:
    return select(of.c.priority).where(_waits(of), *more).order_by(of.c.priority.desc()).limit(1)


_less = tasks.alias()
#: The highest priority of the tasks that wait in the pool, and the next; where there is none, nothing more is asked.
MOST_URGENT: Final = _next_less(tasks).add_columns(
    _next_less(_less, _less.c.priority < tasks.c.priority).correlate(tasks).scalar_subquery().label("less")
)
_LESS_URGENT: Final = MOST_URGENT.where(tasks.c.priority < bindparam("_priority"))


def _ring(*, from_start: bool) -> Select[Any]:
    """The next projects that have anything in the queue of a priority, when the first of each is due, and whether it
    stands behind the one that was served last: how names are ordered is the database's affair."""

    def following(before: Any, of: Any, *, inclusive: bool = False) -> Any:
        """The next project, by one seek."""
        return (
            select(of.c.project_id)
            .where(_waits(of), of.c.priority == bindparam("_priority"))
            .where(of.c.project_id >= before if inclusive else of.c.project_id > before)
            .order_by(of.c.project_id)
            .limit(1)
        )

    def first_due(project: Any, begun: Any) -> Any:
        of = tasks.alias()
        return (
            select(of.c.due_at)
            .where(_waits(of), of.c.priority == bindparam("_priority"), of.c.project_id == project, of.c.begun == begun)
            .order_by(of.c.due_at)
            .limit(1)
            .correlate(ring)
            .scalar_subquery()
        )

    start = following(bindparam("_after"), tasks.alias(), inclusive=from_start).scalar_subquery()
    ring = select(start.label("project_id"), literal(1).label("n")).cte("ring", recursive=True)
    step = following(ring.c.project_id, tasks.alias()).correlate(ring).scalar_subquery()
    ring = ring.union_all(select(step, ring.c.n + 1).where(ring.c.project_id.is_not(null()), ring.c.n < PAGE))
    return (
        select(
            ring.c.project_id,
            first_due(ring.c.project_id, true()).label("again"),
            first_due(ring.c.project_id, false()).label("new"),
            (ring.c.project_id > bindparam("_served")).label("behind"),
        )
        .where(ring.c.project_id.is_not(null()))
        .order_by(ring.c.n)
    )


_FROM_START: Final = _ring(from_start=True)
_BEHIND: Final = _ring(from_start=False)
_HELD: Final = (
    select(tasks.c.project_id, func.count())
    .where(tasks.c.pool == bindparam("_pool"), tasks.c.worker_id.is_not(null()))
    .group_by(tasks.c.project_id)
)


def _first(begun: Any, *more: Any) -> Select[Any]:
    return (
        select(tasks.c.id)
        .where(
            _waits(tasks),
            tasks.c.priority == bindparam("_priority"),
            tasks.c.project_id == bindparam("_project"),
            tasks.c.begun == begun,
            tasks.c.due_at <= bindparam("_now"),
            *more,
        )
        .order_by(tasks.c.due_at, tasks.c.id)
        .limit(bindparam("_limit"))
        .with_for_update(skip_locked=True)
    )


#: Tasks of flows that are not for this worker are gone past, one by one: while workers are exchanged, and no longer.
ours = tasks.c.reference.not_in(bindparam("_without", expanding=True))
_AGAIN: Final = _first(true())
_NEW: Final = _first(false())
_AGAIN_OURS: Final = _first(true(), ours)
_NEW_OURS: Final = _first(false(), ours)


def is_any_due(tx: Tx, urgent: Result, pool: str, now: float, *, without: Sequence[str] = ()) -> bool:
    """Whether anything of the pool could be taken, as far as its limits go. `urgent`: what MOST_URGENT gave."""
    for each in _priorities(tx, pool, urgent):
        where = {"_pool": pool, "_priority": each, "_now": now, "_without": without}
        for candidate in _candidates(tx, pool, each, "", now):
            if not without or _first_of(tx, candidate, where, 1):
                return True
    return False


def choose(tx: Tx, pool: str, now: float, limit: int, *, after: str = "", without: Sequence[str] = ()) -> list[int]:
    """`choose_from` the most urgent on."""
    urgent = tx.execute(MOST_URGENT, {"_pool": pool})
    return choose_from(tx, urgent, pool, now, limit, after=after, without=without)


def choose_from(
    tx: Tx, urgent: Result, pool: str, now: float, limit: int, *, after: str = "", without: Sequence[str] = ()
) -> list[int]:
    """Up to `limit` tasks that are due, in the order in which they are to be begun; their rows are locked. `after`: the
    project that was served last. `without`: the references of flows that are not for this worker. `urgent`: what
    MOST_URGENT gave."""
    chosen: list[int] = []
    given: Counter[str] = Counter()
    for each in _priorities(tx, pool, urgent):
        ring = _candidates(tx, pool, each, after, now)
        while len(chosen) < limit and (window := list(islice(ring, WINDOW))):
            where = {"_pool": pool, "_priority": each, "_now": now, "_without": without}
            got = _share(tx, where, window, limit - len(chosen), given)
            chosen += [task for turn in zip_longest(*got.values()) for task in turn if task is not None]
            given.update({project: len(its) for project, its in got.items()})
        if len(chosen) >= limit:
            break
    return chosen


def _priorities(tx: Tx, pool: str, urgent: Result) -> Iterator[int]:
    """Those of the tasks that wait in the pool, from these on."""
    while (found := urgent.first()) is not None:
        yield found.priority
        if found.less is None:
            return
        urgent = tx.execute(_LESS_URGENT, {"_pool": pool, "_priority": found.priority})


def _candidates(tx: Tx, pool: str, priority: int, after: str, now: float) -> Iterator[Candidate]:
    """The projects with something due, once round the ring."""
    where = {"_pool": pool, "_priority": priority, "_served": after}
    first = tx.execute(_FROM_START, {**where, "_after": ""}).all()
    if len(first) < PAGE:  # that is all of them
        return _due(sorted(first, key=lambda row: not row.behind), now)
    behind = tx.execute(_BEHIND, {**where, "_after": after}).all()
    before = takewhile(lambda row: not row.behind, _pages(tx, where, first))
    return _due(chain(_pages(tx, where, behind), before), now)


def _pages(tx: Tx, where: dict[str, Any], rows: Sequence[Any]) -> Iterator[Any]:
    while True:
        yield from rows
        if len(rows) < PAGE:
            return
        rows = tx.execute(_BEHIND, {**where, "_after": rows[-1].project_id}).all()


def _due(rows: Iterable[Any], now: float) -> Iterator[Candidate]:
    for project, again, new, _ in rows:
        is_again, is_new = (at is not None and at <= now for at in (again, new))
        if is_again or is_new:
            yield Candidate(project, is_again, is_new)


def _share(
    tx: Tx, where: dict[str, Any], window: list[Candidate], room: int, given: Counter[str]
) -> dict[str, dict[int, None]]:
    """Tasks of these projects for so many places. `given`: what the projects got for more urgent tasks just now."""
    held = given.copy()
    if len(window) > 1:
        held.update(dict(map(tuple, tx.execute(_HELD, {"_pool": where["_pool"]}).all())))
    got: dict[str, dict[int, None]] = {each.project: {} for each in window}
    open_ = window
    while open_ and room > 0:
        places = _allot([held[each.project] + len(got[each.project]) for each in open_], room)
        still_open = []
        for each, number in zip(open_, places, strict=True):
            mine = got[each.project]
            before = len(mine)
            # What was got before is read again: the rows are this transaction's own, and still as they were.
            mine.update(dict.fromkeys(_first_of(tx, each, where, before + number) if number else ()))
            room -= len(mine) - before
            if len(mine) - before >= number:
                still_open.append(each)
        open_ = still_open
    return got


def _allot(has: list[int], room: int) -> list[int]:
    """How many of so many places each gets, of whom each has some already: always who has the fewest, the first of
    them."""
    line = [(number, place) for place, number in enumerate(has)]
    heapify(line)
    gets = [0] * len(has)
    if len(has) == 1:
        return [room]
    for _ in range(room):
        number, place = line[0]
        gets[place] += 1
        heapreplace(line, (number + 1, place))
    return gets


def _first_of(tx: Tx, of: Candidate, where: dict[str, Any], limit: int) -> list[int]:
    """Those that a worker has had before come first; but of each two places one is for those that none has had. Else
    nothing new would begin, an abort neither, once a worker has all it can do with those that look again and again."""
    first_again, first_new = (_AGAIN_OURS, _NEW_OURS) if where["_without"] else (_AGAIN, _NEW)
    where = {**where, "_project": of.project}
    new = tx.execute(first_new, {**where, "_limit": limit // 2}).scalars() if of.new and of.again and limit > 1 else []
    again = tx.execute(first_again, {**where, "_limit": limit - len(new)}).scalars() if of.again else []
    if of.new and len(new) + len(again) < limit:
        new = tx.execute(first_new, {**where, "_limit": limit - len(again)}).scalars()
    return [task for pair in zip_longest(again, new) for task in pair if task is not None]
