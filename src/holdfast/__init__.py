"""Tasks that can be watched, stopped, resumed and undone, and that survive the machine they run on.

The public names; nothing is defined here. What needs more than a moment to load (asyncio, sqlite3, SQLAlchemy) is
loaded where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.core.failure import Failure
from holdfast.core.retry import Retry
from holdfast.core.values import Secret, register
from holdfast.errors import HoldfastError, Stopping, TaskFailed
from holdfast.flow.child import child
from holdfast.flow.patterns import Flow, graph, linear, map, unordered
from holdfast.flow.step import Again, Done, NotDone, Probe, Step, Unknown, WaitFor, step
from holdfast.run import Outcome, run, run_async
from holdfast.runtime.context import AsyncContext, Context
from holdfast.version import __version__ as __version__

if TYPE_CHECKING:
    from holdfast.local import Holdfast, Task, open


__all__ = [
    "Again",
    "AsyncContext",
    "Context",
    "Done",
    "Failure",
    "Flow",
    "Holdfast",
    "HoldfastError",
    "NotDone",
    "Outcome",
    "Probe",
    "Retry",
    "Secret",
    "Step",
    "Stopping",
    "Task",
    "TaskFailed",
    "Unknown",
    "WaitFor",
    "child",
    "graph",
    "linear",
    "map",
    "open",
    "register",
    "run",
    "run_async",
    "step",
    "unordered",
]

_OF_LOCAL = ("Holdfast", "Task", "open")


def __getattr__(name: str) -> Any:
    """The durable half, loaded when it is first asked for."""
    if name in _OF_LOCAL:
        from holdfast import local

        return getattr(local, name)
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
