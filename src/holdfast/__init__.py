"""Tasks that can be watched, stopped, resumed and undone, and that survive the machine they run on.

The public names; nothing is defined here. What needs more than a moment to load (asyncio, sqlite3, SQLAlchemy) is
loaded where it is used.
"""

from __future__ import annotations

from holdfast.core.failure import Failure
from holdfast.core.retry import Retry
from holdfast.core.values import Secret, register
from holdfast.errors import HoldfastError, Stopping, TaskFailed
from holdfast.flow.patterns import Flow, graph, linear, map, unordered
from holdfast.flow.step import Again, Done, NotDone, Probe, Step, Unknown, WaitFor, step
from holdfast.run import Outcome, run, run_async
from holdfast.runtime.context import AsyncContext, Context

__version__ = "0.1.0"

__all__ = [
    "Again",
    "AsyncContext",
    "Context",
    "Done",
    "Failure",
    "Flow",
    "HoldfastError",
    "NotDone",
    "Outcome",
    "Probe",
    "Retry",
    "Secret",
    "Step",
    "Stopping",
    "TaskFailed",
    "Unknown",
    "WaitFor",
    "graph",
    "linear",
    "map",
    "register",
    "run",
    "run_async",
    "step",
    "unordered",
]
