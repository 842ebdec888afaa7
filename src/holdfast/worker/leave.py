"""Leaving: tasks are given back; steps are asked to stop, and what they say until the last is gone is stored.

What is stored of one task: worker/taken.py. Who leaves: worker/loop.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.errors import WorldError
from holdfast.store.base import SIZE_MAX
from holdfast.worker.pace import STARVED_S

if TYPE_CHECKING:
    from holdfast.runtime.choice import Runtimes
    from holdfast.store.base import Append, Store
    from holdfast.worker.pace import Pace
    from holdfast.worker.taken import Taken


def close_beside(
    runtimes: Runtimes, grace_s: float, woken: threading.Event, poll_s: float, save: Callable[[], None]
) -> None:
    """Close the runtimes on a thread of its own and `save` meanwhile, because steps that stop leave checkpoints, and
    wait until they are stored. `woken` is set whenever a step has said something."""

    def close() -> None:
        runtimes.close(grace_s)
        woken.set()

    closing = threading.Thread(target=close, name="holdfast-closing")
    closing.start()
    while closing.is_alive():
        woken.wait(poll_s)
        woken.clear()
        save()
    closing.join()


def save_all(store: Store, tasks: Iterable[Taken], now: float) -> list[Taken]:
    """Store what the steps of each task have said, and tell which can't be: another worker's, or broken. Whoever takes
    one of those finds what its journal says."""
    todo = deque(tasks)
    lost: list[Taken] = []
    while todo:
        batch: list[tuple[Taken, Append]] = []
        size = 0
        while todo and size < SIZE_MAX:
            taken = todo.popleft()
            try:
                append = taken.saving(now)
            except Exception:
                lost.append(taken)
                continue
            if append is not None:
                batch.append((taken, append))
                size += append.size
        lost += _save(store, batch)
    for taken in lost:
        taken.drive.drop()
    return lost


def _save(store: Store, batch: Sequence[tuple[Taken, Append]]) -> list[Taken]:
    answers: Sequence[Any]
    try:
        answers = store.append([append for _, append in batch]) if batch else ()
    except Exception as error:
        answers = [error] * len(batch)
    lost = []
    for (taken, _), answer in zip(batch, answers, strict=True):
        try:
            taken.saved(answer)
        except WorldError:
            pass  # the next time, if there is one
        except Exception:
            lost.append(taken)
    return lost


def starving(idle: Mapping[int, Taken], starved: Mapping[int, float], pace: Pace, now: float) -> list[Taken]:
    """Of the tasks that have lacked a thread for long (`starved`: since when), as many as there are too many: what was
    taken before them is longer than what came before. Who came last leaves first."""
    long = sorted((since, task) for task, since in starved.items() if now - since >= STARVED_S and task in idle)
    waiting = [idle[task] for _, task in reversed(long) if idle[task].is_kept_waiting]
    return list(pace.too_many(waiting, idle.values(), now)) if waiting else []


def give_back(
    store: Store,
    tasks: Sequence[Taken],
    now: float,
    given: Callable[[Taken], None],
    set_aside: Callable[[Taken, Exception, float], None],
) -> None:
    """Let others take the tasks when their time has come: all in one commit, because each is a sync of the disk.

    Raises: WorldError: for want of a database some are still this worker's.
    """
    error: WorldError | None = None
    for taken, answer in zip(tasks, store.write_all([taken.leaving(now) for taken in tasks]), strict=True):
        if isinstance(answer, WorldError):
            error = answer
        elif isinstance(answer, Exception):
            set_aside(taken, answer, now)
        else:
            given(taken)
    if error is not None:
        raise error
