"""Which runtime runs a step: the one its author asked for, the one its kind of function needs, else the main one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.errors import UsageError
from holdfast.runtime.base import Runtime
from holdfast.runtime.inline import InlineRuntime
from holdfast.runtime.places import Places

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from holdfast.runtime.aio import AsyncRuntime
    from holdfast.runtime.processes import ProcessRuntime


class Runtimes:
    """The runtimes of one owner; those of coroutines and processes are made when first needed.

    main: "inline", "threads", or any concurrent.futures.Executor.
    """

    def __init__(
        self,
        main: str | Executor = "inline",
        *,
        workers_max: int = 32,
        loop: Any = None,
        inherit: Any = (),
        value_bytes_max: int | None = None,
    ) -> None:
        self.alone: set[tuple[str, int]] = set()  # starts that get a process of their own
        self.agents: Runtime | None = None  # what runs the steps that are an agent's; None: they are run here
        self._loop = loop
        self._inherit = inherit
        self._value_bytes_max = value_bytes_max
        self._aio: AsyncRuntime | None = None
        self._processes: ProcessRuntime | None = None
        self._lease_until: float | None = None
        self.main: Runtime
        if main == "inline":
            self.main, self._main_name = InlineRuntime(), "inline"
        elif main == "threads":
            from holdfast.runtime.threads import ThreadRuntime

            self.main, self._main_name = ThreadRuntime(workers_max), "thread"
        elif isinstance(main, str):
            raise UsageError(
                f'runtime={main!r}: there are "inline" and "threads", or give a concurrent.futures.Executor'
            )
        else:
            from holdfast.runtime.executor import runtime_of

            self.main, self._main_name = runtime_of(main), "thread"

        limits = {"process": workers_max}
        if not self.is_inline:
            # A pool of a size of its own has a queue, and what waits there would be taken for what runs.
            own = getattr(main, "_max_workers", None)
            limits["thread"] = min(workers_max, own) if isinstance(own, int) else workers_max
        self.places = Places(limits)

    def name_of(self, isolation: str, alone: bool) -> str:
        """How a step with that isolation is run: inline, thread, async or process."""
        if isolation == "process" or (alone and isolation == "thread"):
            return "process"
        return "async" if isolation == "async" else self._main_name

    @property
    def is_inline(self) -> bool:
        return self._main_name == "inline"

    def of(self, isolation: str, alone: bool) -> tuple[Runtime, str]:
        """The runtime for a step with that isolation, and the isolation that this is. `alone`: in its own process."""
        if isolation == "process" or (alone and isolation == "thread"):
            if self._processes is None:
                from holdfast.runtime.processes import ProcessRuntime

                self._processes = ProcessRuntime(inherit=self._inherit, value_bytes_max=self._value_bytes_max)
                if self._lease_until is not None:
                    self._processes.extend(self._lease_until)
            return self._processes, "process"
        if isolation == "async":
            if self._aio is None:
                from holdfast.runtime.aio import AsyncRuntime

                self._aio = AsyncRuntime(self._loop)
            return self._aio, "async"
        return self.main, self._main_name

    def begin_batch(self) -> None:
        """Many starts follow: those on the event loop wait for `end_batch` and wake it once."""
        if self._aio is not None:
            self._aio.holding = True

    def end_batch(self) -> None:
        if self._aio is not None:
            self._aio.let_go()

    def extend(self, until: float) -> None:
        """The owner may write until then, by its boot clock. From any thread."""
        self._lease_until = until
        if self._processes is not None:
            self._processes.extend(until)

    def close(self, grace_s: float = 5.0) -> None:
        for runtime in (self.main, self._aio, self._processes):
            if runtime is not None:
                runtime.close(grace_s)
