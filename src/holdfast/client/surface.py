"""What a client can be asked, once for both shells.

Theory: each name here is a call of tasks.py, resources.py, nodes.py, schedules.py or fleet.py, bound to a shell. `One`
and `Many` are descriptors: on a client that blocks, a call is a function that returns its value (or an iterator); on
one that awaits, an awaitable (or an async iterator). Type checkers see the same, by the mode that a surface carries in
its type.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from holdfast.client import fleet, nodes, resources, schedules, tasks
from holdfast.client.protocol import Call, Ways
from holdfast.client.stream import Event

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Blocking:
    """The mode of a client whose calls return."""


class Awaiting:
    """The mode of a client whose calls are awaited."""


M = TypeVar("M", Blocking, Awaiting)


class Shell(Protocol):
    """Who does what calls yield. What `run` and `each` return depends on the mode."""

    ways: Ways

    def run(self, call: Call[Any]) -> Any:
        """The call's value."""

    def each(self, call: Call[None]) -> Any:
        """What the call emits, one after the other."""


class Surface(Generic[M]):
    """Some calls, bound to a shell."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def _run(self, call: Callable[..., Call[Any]], *args: Any, **kwargs: Any) -> Any:
        return self._shell.run(call(self._shell.ways, *args, **kwargs))

    def _each(self, call: Callable[..., Call[None]], *args: Any, **kwargs: Any) -> Any:
        return self._shell.each(call(self._shell.ways, *args, **kwargs))


class One(Generic[P, T_co]):
    """A call with one value."""

    def __init__(self, call: Callable[Concatenate[Ways, P], Call[T_co]]) -> None:
        self.call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, bound: None, owner: Any = None) -> One[P, T_co]: ...
    @overload
    def __get__(self, bound: Surface[Blocking], owner: Any = None) -> Callable[P, T_co]: ...
    @overload
    def __get__(self, bound: Surface[Awaiting], owner: Any = None) -> Callable[P, Awaitable[T_co]]: ...
    def __get__(self, bound: Any, owner: Any = None) -> Any:
        return self if bound is None else _named(functools.partial(bound._run, self.call), self.call)


class Many(Generic[P, T]):
    """A call with many values, of type `T`."""

    def __init__(self, call: Callable[Concatenate[Ways, P], Call[None]], of: type[T]) -> None:
        self.call = call
        self.of = of
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, bound: None, owner: Any = None) -> Many[P, T]: ...
    @overload
    def __get__(self, bound: Surface[Blocking], owner: Any = None) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, bound: Surface[Awaiting], owner: Any = None) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, bound: Any, owner: Any = None) -> Any:
        return self if bound is None else _named(functools.partial(bound._each, self.call), self.call)


def _named(bound: Any, call: Callable[..., Any]) -> Any:
    bound.__doc__ = call.__doc__
    bound.__name__ = call.__name__
    return bound


class Tasks(Surface[M]):
    """`client.tasks`."""

    submit = One(tasks.submit)
    list = Many(tasks.tasks, dict[str, Any])
    find = One(tasks.find)
    show = One(tasks.show)
    steps = One(tasks.steps)
    children = Many(tasks.children, dict[str, Any])
    graph = One(tasks.graph)
    log = Many(tasks.log, dict[str, Any])
    events = Many(tasks.events, Event)
    wait = One(tasks.wait)
    cancel = One(tasks.cancel)
    abort = One(tasks.abort)
    suspend = One(tasks.suspend)
    resume = One(tasks.resume)
    rollback = One(tasks.rollback)
    retry = One(tasks.retry)
    adopt = One(tasks.adopt)
    force_fail = One(tasks.force_fail)
    deliver = One(tasks.deliver)
    verb = One(tasks.verb)
    verbs = One(tasks.verbs)


class Resources(Surface[M]):
    """`client.resources`."""

    kinds = One(resources.kinds)
    list = Many(resources.resources, dict[str, Any])
    get = One(resources.get)
    create = One(resources.create)
    set = One(resources.set)
    delete = One(resources.delete)
    operate = One(resources.operate)
    reconcile = One(resources.reconcile)
    revisions = Many(resources.revisions, dict[str, Any])
    tasks = Many(resources.tasks_of, dict[str, Any])


class Nodes(Surface[M]):
    """`client.nodes`."""

    get = One(nodes.get)
    states = One(nodes.states)
    power = One(nodes.power)


class Pools(Surface[M]):
    """`client.pools`."""

    list = One(fleet.pools)
    get = One(fleet.get)
    limit = One(fleet.limit)
    pause = One(fleet.pause)
    resume = One(fleet.resume)
    drain = One(fleet.drain)


class Workers(Surface[M]):
    """`client.workers`."""

    list = One(fleet.workers)


class Leases(Surface[M]):
    """`client.leases`."""

    list = Many(fleet.leases, dict[str, Any])


class Schedules(Surface[M]):
    """`client.schedules`."""

    create = One(schedules.create)
    list = Many(schedules.schedules, dict[str, Any])
    get = One(schedules.get)
    pause = One(schedules.pause)
    resume = One(schedules.resume)
    remove = One(schedules.remove)


class Root(Surface[M]):
    """A client: what is not about tasks or resources alone is its own."""

    version = One(resources.version)
    events = Many(tasks.all_events, Event)

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        self.tasks: Tasks[M] = Tasks(shell)
        self.resources: Resources[M] = Resources(shell)
        self.nodes: Nodes[M] = Nodes(shell)
        self.schedules: Schedules[M] = Schedules(shell)
        self.pools: Pools[M] = Pools(shell)
        self.workers: Workers[M] = Workers(shell)
        self.leases: Leases[M] = Leases(shell)
