"""What goes through the writer: a function, functions that share a commit, an append, many.

How they come into a transaction: store/writer.py. What an append does there: store/appends.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from holdfast.errors import LeaseLost, StoreUnknown, WorldError
from holdfast.store.appends import Savepoints, accepted, append_all
from holdfast.store.base import Append, Appended, Tx
from holdfast.store.transaction import Transaction


class Entry:
    """A function on its way into a transaction, and what became of it."""

    __slots__ = ("error", "gate", "leads", "result")

    def __init__(self) -> None:
        self.gate: Any = None  # a lock, held until the entry is done or leads
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, tx: Transaction, points: Savepoints, *, alone: bool) -> Any:
        """`alone`: the transaction is this entry's. Else it is in a savepoint."""
        raise AssertionError("an entry is one of those below")

    def appends(self) -> Sequence[Append]:
        """What it comes to, if that is appends and nothing else; else nothing."""
        return ()

    def appended(self) -> None:
        """They were all taken."""

    def parts(self) -> Sequence[Entry]:
        """Smaller entries that come to the same, for a disk with room for some of them only."""
        return (self,)

    def join(self, parts: Sequence[Entry]) -> None:
        """Take the parts' ends for its own."""
        self.result, self.error = parts[0].result, parts[0].error


class Call(Entry):
    __slots__ = ("_fn",)

    def __init__(self, fn: Callable[[Tx], Any]) -> None:
        super().__init__()
        self._fn = fn

    def run(self, tx: Transaction, points: Savepoints, *, alone: bool) -> Any:
        try:
            result = self._fn(tx)
            tx.flush()
            return result
        except Exception as error:
            if not points.has_raced(error):
                raise
        if alone:
            points.start_over()
        else:
            points.rollback_to()
        tx.tasks = set()
        return self._fn(tx)


class CallMany(Entry):
    """Functions of one thread that share a commit; what one of them raises undoes what it wrote, and nothing else."""

    CAREFUL_RUNS: Final = 16  # with savepoints, once it was wrong to do without: whoever raises once, raises again

    __slots__ = ("_around", "_fns")

    def __init__(self, fns: Sequence[Callable[[Tx], Any]], around: AbstractContextManager[None] | None = None) -> None:
        super().__init__()
        self._fns = fns
        self._around = around

    def run(self, tx: Transaction, points: Savepoints, *, alone: bool) -> list[Any]:
        with self._around or nullcontext():
            answers = self._all(tx, points, alone=alone)
        tx.lasts = True  # one of them may need it
        return answers

    def _all(self, tx: Transaction, points: Savepoints, *, alone: bool) -> list[Any]:
        if tx.careful:
            tx.careful -= 1
        else:
            touched = set(tx.tasks)
            answers = self._together(tx, points)
            if answers is not None:
                return answers
            if alone:
                points.start_over()
            else:
                points.rollback_to()
            tx.tasks = touched
            tx.careful = self.CAREFUL_RUNS
        return [self._one(fn, tx, points) for fn in self._fns]

    def _together(self, tx: Transaction, points: Savepoints) -> list[Any] | None:
        """Without savepoints. None: that does not do."""
        answers: list[Any] = []
        for fn in self._fns:
            before = tx.written
            try:
                answers.append(fn(tx))
            except Exception as error:
                answers.append(own(error, points))
                if tx.written != before or points.is_spoilt():
                    return None
        try:
            tx.flush()
        except Exception as error:
            own(error, points)
            return None
        return answers

    def _one(self, fn: Callable[[Tx], Any], tx: Transaction, points: Savepoints) -> Any:
        touched = tx.tasks
        points.savepoint()
        tx.tasks = set()
        try:
            result = Call(fn).run(tx, points, alone=False)
            tx.flush()
        except Exception as error:
            told = own(error, points)
            points.rollback_to()
            points.release()
            tx.tasks = touched
            return told
        points.release()
        tx.tasks |= touched
        return result

    def parts(self) -> Sequence[Entry]:
        return [Call(fn) for fn in self._fns]

    def join(self, parts: Sequence[Entry]) -> None:
        self.result = [part.result if part.error is None else part.error for part in parts]
        if all(isinstance(part.error, WorldError) for part in parts):
            self.error = _worst(parts)


def own(error: Exception, points: Savepoints) -> Exception:
    """What a function raised of itself. Raises: WorldError: the database did."""
    told = points.translate(error)
    if isinstance(told, WorldError):
        raise told  # translate has chained them
    return told


class AppendOne(Entry):
    __slots__ = ("_one",)

    def __init__(self, one: Append) -> None:
        super().__init__()
        self._one = one

    def run(self, tx: Transaction, points: Savepoints, *, alone: bool) -> Appended:
        return tx.append(self._one)

    def appends(self) -> Sequence[Append]:
        return () if self._one.then is not None else (self._one,)

    def appended(self) -> None:
        self.result = accepted(self._one)


class AppendMany(Entry):
    __slots__ = ("_batch",)

    def __init__(self, batch: Sequence[Append]) -> None:
        super().__init__()
        self._batch = batch

    def run(self, tx: Transaction, points: Savepoints, *, alone: bool) -> list[Appended | LeaseLost | Exception]:
        return append_all(tx, self._batch, points, alone=alone)

    def appends(self) -> Sequence[Append]:
        return () if any(one.then is not None for one in self._batch) else self._batch

    def appended(self) -> None:
        self.result = list(map(accepted, self._batch))

    def parts(self) -> Sequence[Entry]:
        return [AppendOne(one) for one in self._batch]

    def join(self, parts: Sequence[Entry]) -> None:
        self.result = [part.result if part.error is None else part.error for part in parts]
        if all(isinstance(part.error, WorldError) for part in parts):
            self.error = _worst(parts)


def _worst(parts: Sequence[Entry]) -> BaseException | None:
    """A doubt hides behind no other error."""
    return min((part.error for part in parts), key=lambda error: not isinstance(error, StoreUnknown))
