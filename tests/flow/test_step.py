"""Steps of functions and of classes: what they are asked for, and which options are refused with which sentence."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.core.retry import Retry
from holdfast.errors import FlowError
from holdfast.flow.compile import compile
from holdfast.flow.step import Again, Done, NotDone, Probe, Step, Unknown, WaitFor, step


@step(provides="port_id", retry=Retry(attempts=3), timeout_s=5)
def make_port(ctx: Any, network: str, size: int = 3) -> str:
    return f"{network}/{size}"


@make_port.revert(retry=Retry(attempts=9), timeout_s=7)
def drop_port(ctx: Any, network: str, port_id: str | None = None) -> str:
    return f"dropped {port_id}"


@make_port.probe
async def port_made(ctx: Any, network: str) -> Probe:
    return Done("p")


def nothing() -> None:
    """A step that does nothing."""


class Flash(Step):
    provides = "image"
    retry = Retry(attempts=2)
    weight = 5

    def __init__(self, writer: Callable[[str], str]) -> None:
        self.writer = writer

    def execute(self, ctx: Any, disk: str) -> str:
        return self.writer(disk)

    async def revert(self, image: str | None = None) -> None:
        self.writer(f"wipe {image}")


@pytest.mark.requirement("TF-1")
def test_a_decorated_function_called_directly_is_just_the_function() -> None:
    assert make_port(None, "public") == "public/3"
    assert make_port(None, network="n", size=4) == "n/4"
    assert drop_port(None, "n", "p") == "dropped p"
    assert (make_port.name, make_port.__name__, repr(make_port)) == ("make_port", "make_port", "<step make_port>")


def test_a_step_tells_what_it_wants_and_how_it_is_run() -> None:
    assert make_port.wants == (("network", True), ("size", False))
    assert make_port.wants_ctx
    assert make_port.revert_wants == (("ctx", True), ("network", True), ("port_id", False))
    assert make_port.probe_wants == (("ctx", True), ("network", True))
    assert (make_port.isolation, make_port.revert_isolation, make_port.probe_isolation) == ("thread", "thread", "async")
    assert (make_port.has_revert, make_port.has_probe, make_port.undo) == (True, True, drop_port)
    assert make_port.revert_retry is not None
    assert (make_port.revert_retry.attempts, make_port.revert_timeout_s, make_port.timeout_s) == (9, 7, 5)


@pytest.mark.requirement("TF-1")
def test_a_class_is_a_step_without_calling_its_base() -> None:
    written: list[str] = []
    flash = Flash(lambda text: written.append(text) or text)  # type: ignore[func-returns-value]
    plan = compile(flash)
    assert plan.ids == ["Flash"]
    assert list[object](plan.steps) == [flash]
    assert plan.weight == [5]
    assert (flash.name, flash.wants, flash.wants_ctx, flash.has_probe, flash.probing) == (
        "Flash",
        (("disk", True),),
        True,
        False,
        None,
    )
    assert (flash.isolation, flash.revert_isolation, flash.has_revert) == ("thread", "async", True)
    assert flash.execute(None, "d") == "d"
    assert flash.undo is not None
    asyncio.run(flash.undo(image="i"))
    assert written == ["d", "wipe i"]


def test_a_class_step_inherits_and_overrides() -> None:
    class Slow(Flash):
        name = "slow flash"

        async def execute(self, disk: str, speed: int = 1) -> str:  # type: ignore[override]
            return disk

    class Apart(Flash):
        isolation = "process"

    slow, apart = Slow(str), Apart(str)
    assert (slow.name, slow.isolation, slow.wants, slow.wants_ctx) == (
        "slow flash",
        "async",
        (("disk", True), ("speed", False)),
        False,
    )
    assert (slow.provides, slow.has_revert) == ("image", True)
    assert (apart.name, apart.isolation, apart.revert_isolation) == ("Apart", "process", "async")


def test_what_a_class_sets_in_its_own_init_is_checked_when_it_is_compiled() -> None:
    class Sized(Step):
        def __init__(self, pool: Any, name: str = "Sized") -> None:
            self.pool = pool
            self.name = name
            self.inject = {"disk": "sda"}

        def execute(self, disk: str) -> str:
            return disk

    assert compile(Sized("p", "one")).ids == ["one"]
    assert compile(Sized("p")).inputs == {}
    with pytest.raises(FlowError, match="must be the name of a pool; call an attribute of your own something else"):
        compile(Sized(object()))


def test_with_options_makes_another_step() -> None:
    other = make_port.with_options(
        name="second", bind={"network": "net"}, inject={"size": 9}, retry=None, timeout_s=None
    )
    assert (other.name, other.retry, other.timeout_s, other.provides) == ("second", None, None, "port_id")
    assert other.undo is drop_port
    assert compile(other).inputs == {"net": (True, "second")}
    assert (make_port.name, make_port.timeout_s, make_port.bind) == ("make_port", 5, {})
    flash = Flash(str)
    renamed = flash.with_options(name="flash 2", isolation="process")
    assert (renamed.name, renamed.isolation, flash.name, flash.isolation) == ("flash 2", "process", "Flash", "thread")
    assert renamed.execute(None, "x") == "x"
    assert step(make_port, name="third").name == "third"


def test_an_async_function_runs_on_the_loop_also_in_a_partial() -> None:
    async def later(x: int, y: int = 2) -> int:
        return x + y

    assert step(later).isolation == "async"
    held = step(functools.partial(later, y=3), name="held")
    assert (held.isolation, held.wants) == ("async", (("x", True), ("y", False)))


def test_methods_callables_and_wrapped_functions_are_read_through() -> None:
    class Cloud:
        def make(self, size: int) -> int:
            return size

        async def __call__(self, size: int) -> int:
            return size

    @functools.wraps(drop_port)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        return drop_port(*args, **kwargs)

    assert step(Cloud().make).wants == (("size", True),)
    assert step(Cloud(), name="cloud").wants == (("size", True),)
    assert step(Cloud(), name="cloud").isolation == "async"
    assert step(wrapper).wants == (("network", True), ("port_id", False))


def test_rest_is_given_only_what_is_bound_or_injected() -> None:
    def loose(a: int, **rest: int) -> dict[str, int]:
        return rest

    assert step(loose).wants == (("a", True),)
    assert step(loose, bind={"b": "c"}, inject={"d": 1}).wants == (("a", True), ("b", True), ("d", True))
    assert step(loose, bind={"b": "c"}).with_options(bind={}).wants == (("a", True),)


def test_keyword_only_parameters_count() -> None:
    def keyed(a: int, *, b: int, c: int = 3) -> None:
        """Nothing."""

    assert step(keyed).wants == (("a", True), ("b", True), ("c", False))


def make_generator() -> Iterator[int]:
    yield 1


async def make_later() -> None:
    """Nothing."""


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: step(lambda *a: a, name="s"), r"step 's' has \*args: arguments are given by name"),
    (lambda: step(divmod, name="s"), "positional-only"),
    (lambda: step(make_generator), "step 'make_generator' is a generator, which does nothing when called"),
    (lambda: step(lambda: 1), "the name '<lambda>' has one of"),
    (lambda: step(functools.partial(nothing)), "has no name of its own: say hf.step"),
    (lambda: step(Flash), "derive it from hf.Step and use an instance"),
    (lambda: step(5), "5 can't be a step: give it a function"),  # type: ignore[call-overload]
    (lambda: step(nothing, name="a/b"), "the name 'a/b' has one of"),
    (lambda: step(nothing, name=""), "the name must be printable text"),
    (lambda: step(nothing, provides=["a"]), "must be a name, a tuple of names"),  # type: ignore[call-overload]
    (lambda: step(nothing, provides=()), "must be a name, a tuple of names"),
    (lambda: step(nothing, provides=("a", "a")), "names one thing twice"),
    (lambda: step(nothing, provides=("a", "result")), "'result': a revert's parameter of that name is something else"),
    (lambda: step(nothing, provides="ctx"), "a revert's parameter of that name is something else"),
    (lambda: step(nothing, retry=3), r"must be a Retry, as hf\.Retry\(attempts=3\)"),  # type: ignore[call-overload]
    (lambda: step(nothing, retry=Retry(over="x", item="y")), "is for flows"),
    (lambda: step(nothing, timeout_s=0), "must be a number of seconds above 0"),
    (lambda: step(nothing, grace_s=-1), "must be a number of seconds above 0"),
    (lambda: step(nothing, on_interrupt="retry"), 'not one of "rerun", "undo", "suspend"'),
    (lambda: step(nothing, pivot=1), "pivot=1 must be True or False"),  # type: ignore[call-overload]
    (lambda: step(nothing, isolation="fork"), 'not one of "thread", "process", "async"'),
    (lambda: step(nothing, isolation="async"), "needs an async def"),
    (lambda: step(make_later, isolation="process"), "is an async def, which runs on the event loop"),
    (lambda: step(nothing, weight=-1), "must be a whole number"),
    (lambda: step(nothing, bind={"x": "y"}), "has no parameter 'x' to bind or inject; its parameters are: none"),
    (lambda: make_port.with_options(inject={"ctx": 1}), "has no parameter 'ctx' to bind or inject"),
    (lambda: make_port.with_options(inject={"size": 1}, bind={"size": "s"}), "both bound and injected"),
    (lambda: make_port.with_options(attempts=3), "takes no option 'attempts': it takes name, provides"),  # type: ignore[call-arg]
]


@pytest.mark.parametrize(("make", "sentence"), WRONG)
def test_a_wrong_step_is_refused_with_a_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(FlowError, match=sentence):
        make()


def test_a_wrong_class_is_refused_where_it_is_written() -> None:
    with pytest.raises(FlowError, match=r"class .*Bad: weight='heavy' must be a whole number"):

        class Bad(Step):
            weight = "heavy"  # type: ignore[assignment]

            def execute(self) -> None:
                """Nothing."""

    class Empty(Step):
        """It has no execute."""

    with pytest.raises(FlowError, match="Empty has no execute: give it that method"):
        compile(Empty())


@pytest.mark.requirement("TF-8")
def test_a_revert_can_have_inputs_outputs_result_failures_and_ctx() -> None:
    @step(provides=("x", "y"), bind={"n": "number"})
    def make(n: int, k: int = 3) -> tuple[int, int]:
        return n, k

    @make.revert
    def undo(
        n: int, result: object, failures: object, ctx: object, x: int = 0, y: int = 0, k: int = 3, own: int = 7
    ) -> None:
        """Nothing."""

    assert compile(make).ids == ["make"]
    assert [name for name, _required in make.revert_wants] == ["n", "result", "failures", "ctx", "x", "y", "k", "own"]


@pytest.mark.parametrize(
    ("undo", "sentence"),
    [
        (lambda port_id: port_id, r"own output 'port_id', but an interrupted step has none: .* \(port_id=None\)"),
        (lambda zone: zone, "wants 'zone', which is no input and no output of the step"),
        (lambda size: size, "requires 'size', which the step may go without: give it a default"),
    ],
)
def test_a_revert_that_could_not_be_called_is_a_compile_error(undo: Callable[..., Any], sentence: str) -> None:
    def make(size: int = 1) -> int:
        return size

    made = step(make, provides="port_id")
    made.revert(undo)
    with pytest.raises(FlowError, match=sentence):
        compile(made)
    compile(step(make, inject={"size": 1}, name="fixed"))


def test_a_probe_wants_no_more_than_its_step() -> None:
    made = step(lambda a: a, name="s", provides="b")
    made.probe(lambda b: b)
    with pytest.raises(FlowError, match="the probe of s requires 'b'"):
        compile(made)


def test_a_revert_declared_after_a_copy_was_made_is_refused() -> None:
    made = step(nothing)
    made.with_options(name="copy")
    with pytest.raises(FlowError, match="would lack the revert: declare it right after the step"):
        made.revert(nothing)


def test_answers_are_plain_data() -> None:
    assert (Again(3), WaitFor("go", 5), Unknown("x"), NotDone()) == ((3, None), ("go", 5), ("x",), ())
    assert [type(answer) for answer in (Done(1), NotDone())] == [Done, NotDone]
