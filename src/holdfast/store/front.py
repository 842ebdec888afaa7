"""What the stores of all databases have in common: the way into the writer, and who is told of a commit.

What each of them adds: store/sqlite.py, store/postgres.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from holdfast.errors import HoldfastClosed, LeaseLost, UsageError, WorldError
from holdfast.store.base import Append, Appended, JournalRow, Meanwhile, Tx
from holdfast.store.entries import AppendMany, AppendOne, Call, CallMany
from holdfast.store.wakeups import Wakeups
from holdfast.store.writer import Writer

T = TypeVar("T")


class Front:
    """See store/base.py for what each method promises."""

    runs_here = False
    _writer: Writer
    _wakeups: Wakeups

    # --- writing --------------------------------------------------------------------------------------------------

    @property
    def broken(self) -> bool:
        return self._writer.broken

    def append(
        self, batch: Sequence[Append], meanwhile: Meanwhile | None = None
    ) -> list[Appended | LeaseLost | Exception]:
        if len(batch) != 1:
            return self._writer.run(AppendMany(batch), meanwhile) if batch else []
        try:
            return [self._writer.run(AppendOne(batch[0]), meanwhile)]
        except (WorldError, HoldfastClosed):
            raise
        except Exception as error:
            return [error]

    def write(self, fn: Callable[[Tx], T], meanwhile: Meanwhile | None = None) -> T:
        return self._writer.run(Call(fn), meanwhile)  # type: ignore[no-any-return]

    def write_all(
        self, fns: Sequence[Callable[[Tx], T]], around: AbstractContextManager[None] | None = None
    ) -> list[T | Exception]:
        if len(fns) != 1:
            return self._writer.run(CallMany(fns, around if self.runs_here else None)) if fns else []
        try:
            return [self._writer.run(Call(fns[0]))]
        except (WorldError, HoldfastClosed):
            raise
        except Exception as error:
            return [error]

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self, fn: Callable[[Tx], T]) -> T:
        raise AssertionError("each database has its own")

    def journal(self, task: int, after: int = 0) -> list[JournalRow]:
        return self.read(lambda tx: tx.journal(task, after))

    # --- tidiness -------------------------------------------------------------------------------------------------

    def fold(self) -> None:
        """Nothing, where the database has a process of its own for that."""

    # --- a caller's own transaction -------------------------------------------------------------------------------

    def within(self, connection: Any, fn: Callable[[Tx], T]) -> T:
        raise UsageError("connection= is for PostgreSQL: a file of SQLite has one writer at a time")

    # --- wake-ups -------------------------------------------------------------------------------------------------

    def wait(self, seen: int, timeout_s: float) -> int:
        return self._wakeups.wait(seen, timeout_s)

    def subscribe(self, callback: Callable[[frozenset[int]], None]) -> Callable[[], None]:
        return self._wakeups.subscribe(callback)

    def hear_others(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        return self._wakeups.hear_others(callback)

    def hear_all(self) -> None:
        """Nothing, where the database doesn't tell."""

    def time_commits(self, told: Callable[[float], None]) -> Callable[[], None]:
        return self._writer.time_commits(told)

    # --- another generation ---------------------------------------------------------------------------------------

    def begin_anew(self) -> str:
        raise AssertionError("each database has its own")

    # --- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        raise AssertionError("each database has its own")

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
