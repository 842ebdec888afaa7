"""What a store is, as protocols; and the plain rows that cross its border.

Theory: everything durable goes through two doors. `append` is the hot one: the writes of many tasks' drives, each
fenced by its token, in one transaction. `write` takes a function of the transaction (admission, verbs, leases);
many of them share a commit, and each is undone by itself. Both return when what they did is durable. `read` sees
one snapshot and changes nothing. Statements are SQLAlchemy Core over the tables of store/schema.py, so that the same
function runs on every database.

The rows of a journal as events: store/journal.py. The implementation over SQLite: store/sqlite.py. What every
implementation must do: testing/conformance/store.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from holdfast.errors import HoldfastError, LeaseLost

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Table
    from sqlalchemy.sql import Executable

T = TypeVar("T")
#: A little of what the caller's thread has to do anyway, while it waits for the database; whether there is more of it.
#: It is quick, raises nothing and asks no store. Where the database is part of this process, it is not called.
Meanwhile: TypeAlias = Callable[[], bool]

#: The option of a statement that changes nothing: an UPDATE for the sake of the row's lock, and of what it reads then.
LOCKS: Final = "only_locks"
#: The option of a statement for `executemany` of which no two rows of values change the same row: a database may then
#: do all of them as one. Where two did, the number of rows changed tells.
APART: Final = "rows_apart"


class Conflict(HoldfastError):
    """A row breaks a constraint of the schema."""

    code = "store.conflict"
    status = 409


class Row(NamedTuple):
    """An event on its way into a journal; its seq is drawn by the append."""

    kind: str
    node: str | None
    data: str | None
    at: float


class FeedRow(NamedTuple):
    """What is told of a task: a row of the event feed, whose id is drawn when it is written (tasks/tell.py)."""

    at: float
    type: str
    project_id: str
    task: int | None
    subject: str
    resource: str | None
    data: str


class JournalRow(NamedTuple):
    """An event of a journal."""

    seq: int
    kind: str
    node: str | None
    data: str | None
    at: float


class StepRow(NamedTuple):
    """One row of the `steps` projection, whole: it replaces the row of the same `ord`."""

    ord: int
    node: str
    state: str
    attempt: int
    started_at: float
    ended_at: float | None = None
    progress: float | None = None
    message: str | None = None
    error: str | None = None


#: Of what a worker gives `append` at a time, where one write has not got it already: meanwhile its heartbeat waits.
SIZE_MAX: Final = 16 << 20


class Append(NamedTuple):
    """One task's write.

    `seen` is the last seq its drive has folded. Where a verb lies behind it, only `facts` and `steps_facts` are
    taken. An append that has step rows has all that its task's events call for and no append before has brought:
    `steps_seq` moves up to its last event. One that has none leaves that to a later one. `projection` names the
    columns of `tasks` to set if all is taken: only those that change, because a column that is named costs its indexes
    even where its value stays. `folded` are the seqs of older journal rows that these supersede. `news` are told if all
    is taken. `then` runs in the transaction, last, if all is taken.
    """

    task: int
    token: str
    seen: int
    facts: Sequence[Row] = ()
    decisions: Sequence[Row] = ()
    steps_facts: Sequence[StepRow] = ()
    steps_all: Sequence[StepRow] = ()
    projection: Mapping[str, Any] | None = None
    folded: Sequence[int] = ()
    news: Sequence[FeedRow] = ()
    then: Callable[[Tx], None] | None = None

    @property
    def size(self) -> int:
        """Of what events carry, in characters."""
        return sum([len(row.data) for row in (*self.facts, *self.decisions) if row.data is not None])


class Joint:
    """An `Append.then` that those of a batch do together: `all` gets the `one` of each, in the order of their tasks."""

    __slots__ = ("all", "one")

    def __init__(self, all: Callable[[Tx, Sequence[Any]], None], one: Any) -> None:
        self.all = all
        self.one = one

    def __call__(self, tx: Tx) -> None:
        self.all(tx, [self.one])


def do_then(tx: Tx, thens: Iterable[Callable[[Tx], None]]) -> None:
    """What several appends have done last."""
    joint: dict[Callable[[Tx, Sequence[Any]], None], list[Any]] = {}
    for then in thens:
        if type(then) is Joint:
            joint.setdefault(then.all, []).append(then.one)
        else:
            then(tx)
    for all, ones in joint.items():
        all(tx, ones)


class Appended(NamedTuple):
    """`seq` is the task's last now. `accepted` False: the facts are stored behind `unseen`, the rest is refused."""

    seq: int
    accepted: bool
    unseen: Sequence[JournalRow] = ()


class Into:
    """Where new rows go: columns of a table, in its order. Make it once, as a statement."""

    __slots__ = ("columns", "table")

    def __init__(self, table: Table, *columns: str) -> None:
        self.table = table
        self.columns = columns


class Result(Protocol):
    """What a statement gave. Rows are named tuples, keyed by column name or label."""

    rowcount: int

    def all(self) -> list[Any]: ...
    def first(self) -> Any: ...
    def one(self) -> Any: ...
    def scalar(self) -> Any:
        """The first column of the first row, or None."""

    def scalars(self) -> list[Any]: ...


class Tx(Protocol):
    """A transaction. Good only inside the function it was given to.

    `known`: whatever a function has found to be in the database, or brought there, and that is never deleted. The
    transactions that write share it; when anything is undone it is empty again.

    `seen`: what a function has found that counts for this transaction as it was found, so that those that share it ask
    once. Whoever changes it there takes it out. Empty when a transaction begins, and when anything is undone.
    """

    known: set[Hashable]
    seen: dict[Hashable, Any]
    #: How many tasks others may be admitting beside this transaction, unseen by it: 0 where only one writes at a time.
    beside: int

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Result:
        """Statements that live as long as their module are compiled once; one made per call is compiled per call."""

    def execute_all(self, *asked: tuple[Executable, Mapping[str, Any]]) -> Sequence[Result]:
        """Statements of which none needs another's answer: one journey, where the database is elsewhere. Of those that
        may have to wait for a lock no more than the last."""

    def executemany(self, statement: Executable, parameters: Sequence[Mapping[str, Any]]) -> int:
        """The number of rows changed. All mappings have the keys of the first."""

    def add(self, into: Into, values: Sequence[Any]) -> None:
        """Insert a row, with the values of these columns: it is gathered with others of its table, and written before
        the function ends or a statement that names the table is run."""

    def insert(self, table: Table, values: Mapping[str, Any]) -> int:
        """Insert a row; the `id` that it was given."""

    def insert_new(self, table: Table, values: Mapping[str, Any]) -> bool:
        """Insert unless a unique key forbids it (ON CONFLICT DO NOTHING); whether it did."""

    def draw(self, table: Table, values: Mapping[str, Any], column: str) -> int:
        """Insert the row, or where there is one add 1 to that column of it; what the column has then. The row is
        locked."""

    def now(self, given: float) -> float:
        """The moment by the database's clock, where machines with clocks of their own share it; else `given`. What
        machines say to each other of time, as how long a lease lasts, is to be by one clock."""

    def hold(self, name: str) -> None:
        """Have who holds the same name wait for the end of this transaction: for what no row's lock guards. Before
        what it guards is read."""

    def append(self, one: Append) -> Appended:
        """An append inside this transaction. Raises LeaseLost."""

    def record(self, task: int, rows: Sequence[Row], projection: Mapping[str, Any] | None = None) -> int:
        """Append verbs (events without a token) under the task's lock; the seq of the last. Raises TaskNotFound."""

    def write_steps(self, task: int, rows: Sequence[StepRow]) -> None:
        """Rows of `steps`, which with these tell all that the task's journal calls for."""

    def journal(self, task: int, after: int = 0) -> list[JournalRow]: ...

    def keep_quiet(self) -> None:
        """What this transaction does is of no interest to anybody before the next commit: a heartbeat, housekeeping
        that found nothing. If it shares its commit with one that is not quiet, all are told as ever."""

    def need_not_last(self) -> None:
        """What this transaction does may be undone if the database's machine dies, like all that goes on from it; so
        nothing outside the database may follow from it before something that lasts was committed. If it shares its
        commit with one that must last, it lasts too."""

    def touched(self, task: int) -> None:
        """Name a task that this transaction changes, for those who subscribed."""

    def ring(self) -> None:
        """Others are told of this commit at once, as of one that touches a task."""


class Store(Protocol):
    @property
    def generation(self) -> str:
        """As far as this process has heard: it changes when the database is restored or promoted, and is part of every
        token."""

    runs_here: bool  # the database is part of this process: nobody else's answer is waited for

    @property
    def broken(self) -> bool:
        """Whether this object writes nothing any more, because nobody knows what became of a commit: open another."""

    def append(
        self, batch: Sequence[Append], meanwhile: Meanwhile | None = None
    ) -> list[Appended | LeaseLost | Exception]:
        """All in one transaction, one sync; an answer for each. One bad append hurts no other.

        Raises: StoreBusy, StoreFull, StoreUnwritable, StoreCorrupt: nothing of the batch was stored.
        """

    def write(self, fn: Callable[[Tx], T], meanwhile: Meanwhile | None = None) -> T:
        """What `fn` returns, once it is durable; what it raises, once it is undone. It may share its commit with
        others, may be run again after what it did was undone, and must not call the store itself. So where another
        process has made the same thing at the same moment, it is run again, and finds it. Raises as `append` does."""

    def write_all(
        self, fns: Sequence[Callable[[Tx], T]], around: AbstractContextManager[None] | None = None
    ) -> list[T | Exception]:
        """As `write` for each of them, all in one commit, from one thread; what each returned or raised. `around`: held
        while they run, which is before the commit, where their statements are work of this process and not of a
        server's.

        Raises: as `append` does.
        """

    def read(self, fn: Callable[[Tx], T]) -> T:
        """What `fn` returns, from one snapshot."""

    def within(self, connection: Any, fn: Callable[[Tx], T]) -> T:
        """What `fn` returns, done in the transaction of that connection, which is the caller's to commit: it is there
        exactly if he does, and others hear of it then. What it raises, once what it did is undone.

        Raises: UsageError: this database has no such thing, or the connection no transaction of it.
        """

    def journal(self, task: int, after: int = 0) -> list[JournalRow]: ...

    def fold(self) -> None:
        """Do some of what a commit leaves to be done, so that no later commit has to do much of it at once. Nobody who
        reads or writes waits for it."""

    def changes(self, *, went_on: bool = True) -> int:
        """A number that differs from the last one if anything was committed since, by whatever process. Cheap. Without
        `went_on` it need not differ where all that was is that tasks of others did (`append`, without `then`): where
        the database tells of commits, that is told to who asks for it alone."""

    def wait(self, seen: int, timeout_s: float) -> int:
        """`changes()`, as soon as it differs from `seen` or the time is up. Raises HoldfastClosed."""

    def subscribe(self, callback: Callable[[frozenset[int]], None]) -> Callable[[], None]:
        """Call back after each commit of this process with the tasks touched, on the thread that committed; it must
        be quick, raise nothing and not write. Returns what ends the subscription."""

    def hear_others(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Call back when the database tells that another process has committed, with whether all that was is that
        tasks went on, of which nothing is told before `hear_all` or `changes` was called; it must be quick, and
        raise nothing. Returns what ends it. Where the database doesn't tell (SQLite), look at `changes` now and
        then."""

    def hear_all(self) -> None:
        """Let the callbacks of `hear_others` hear that tasks of others went on, too."""

    def time_commits(self, told: Callable[[float], None]) -> Callable[[], None]:
        """Tell how many seconds each commit of this process took, from asking for the database on; as `subscribe`
        otherwise."""

    def begin_anew(self) -> str:
        """Say that the database was restored, where it can't find that out by itself: its new generation."""

    def close(self) -> None: ...
    def __enter__(self) -> Store: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
