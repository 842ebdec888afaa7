"""Every pattern, in memory and durable, by its trace and by what the steps say."""

from __future__ import annotations

import threading

import pytest

import holdfast as hf
from holdfast.flow.step import FunctionStep
from tests.doing import Doing, Told


def saying(told: Told, name: str) -> FunctionStep[[], None]:
    return hf.step(lambda: told(name), name=name)


@pytest.mark.requirement("TF-1")
def test_a_class_a_decorated_function_and_a_plain_one_are_steps_of_one_flow(do: Doing) -> None:
    class Scale(hf.Step):
        provides = "scaled"

        def __init__(self, factor: int) -> None:
            self.factor = factor

        def execute(self, number: int) -> int:
            return number * self.factor

    @hf.step(provides="text")
    async def write(ctx: hf.AsyncContext, scaled: int) -> str:
        await ctx.sleep(0)
        return f"it is {scaled}"

    def shout(text: str) -> None:
        assert text == "it is 42"

    ended = do(hf.linear("flow", Scale(6), write, shout), {"number": 7})
    assert ended.results == {"scaled": 42, "text": "it is 42"}
    assert ended.trace == [
        "task RUNNING",
        "flow/Scale RUNNING",
        "flow/Scale SUCCEEDED",
        "flow/write RUNNING",
        "flow/write SUCCEEDED",
        "flow/shout RUNNING",
        "flow/shout SUCCEEDED",
        "task SUCCEEDED",
    ]


@pytest.mark.requirement("TF-1")
def test_a_bare_step_is_a_flow_of_one(do: Doing, told: Told) -> None:
    assert do(saying(told, "alone")).state == "SUCCEEDED"
    assert told == ["alone"]


@pytest.mark.requirement("TF-10")
class TestPatterns:
    def test_linear(self, do: Doing, told: Told) -> None:
        assert do(hf.linear("flow", *(saying(told, name) for name in "abcd"))).state == "SUCCEEDED"
        assert told == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("do", ["threads", "durable"], indirect=True)
    def test_unordered_runs_side_by_side(self, do: Doing) -> None:
        """Each waits until all three are there; one after the other they would wait for ever."""
        all_there = threading.Barrier(3)
        flow = hf.unordered("flow", *(hf.step(lambda: all_there.wait(60) and None, name=name) for name in "abc"))
        assert do(flow).state == "SUCCEEDED"

    def test_graph_goes_by_its_data(self, do: Doing) -> None:
        @hf.step(provides="sum")
        def add(left: int, right: int) -> int:
            return left + right

        @hf.step(provides="right")
        def make_right(left: int) -> int:
            return left + 1

        @hf.step(provides="left")
        def make_left() -> int:
            return 20

        ended = do(hf.graph("flow", add, make_right, make_left))
        assert ended.results["sum"] == 41

    @pytest.mark.parametrize(("big", "way"), [(True, "split"), (False, "whole")])
    def test_graph_chooses_its_way_and_joins(self, do: Doing, told: Told, big: bool, way: str) -> None:
        @hf.step(provides="size")
        def measure() -> int:
            told("measure")
            return 10 if big else 1

        flow = hf.graph("flow", measure, saying(told, "split"), saying(told, "whole"), saying(told, "join"))
        flow.link("measure", "split", when=lambda size: size > 5).link(
            "measure", "whole", when=lambda size: size <= 5
        ).link("split", "join").link("whole", "join")
        assert do(flow).state == "SUCCEEDED"
        assert told == ["measure", way, "join"]

    def test_nested(self, do: Doing, told: Told) -> None:
        inner = hf.linear("inner", saying(told, "b"), hf.unordered("deeper", saying(told, "c")))
        ended = do(hf.linear("flow", saying(told, "a"), inner, saying(told, "d")))
        assert told == ["a", "b", "c", "d"]
        assert "flow/inner/deeper/c SUCCEEDED" in ended.trace

    def test_map_gives_results_in_the_order_of_its_items(self, do: Doing) -> None:
        @hf.step(provides="double")
        def double(item: int) -> int:
            return item * 2

        flow = hf.linear("flow", hf.map("each", double, over="items", item="item", provides="double"))
        assert do(flow, {"items": [3, 1, 2]}).results["double"] == [6, 2, 4]

    def test_a_map_over_nothing_succeeds(self, do: Doing) -> None:
        @hf.step(provides="double")
        def double(item: int) -> int:
            return item * 2

        flow = hf.linear("flow", hf.map("each", double, over="items", item="item", provides="double"))
        ended = do(flow, {"items": []})
        assert (ended.state, ended.results["double"]) == ("SUCCEEDED", [])

    def test_a_map_over_a_list_that_a_step_made(self, do: Doing, told: Told) -> None:
        @hf.step(provides="items")
        def find() -> list[str]:
            return ["x", "y"]

        @hf.step
        def visit(item: str) -> None:
            told(item)

        do(hf.linear("flow", find, hf.map("each", visit, over="items", item="item")))
        assert sorted(told) == ["x", "y"]

    @pytest.mark.parametrize("do", ["threads", "durable"], indirect=True)
    def test_a_map_runs_so_many_at_once_and_no_more(self, do: Doing) -> None:
        inside: list[int] = []
        most: list[int] = []
        pair = threading.Barrier(2)

        @hf.step
        def visit(item: int) -> None:
            inside.append(item)
            pair.wait(60)  # two are here
            most.append(len(inside))
            pair.wait(60)
            inside.remove(item)

        flow = hf.linear("flow", hf.map("each", visit, over="items", item="item", at_once=2))
        assert do(flow, {"items": list(range(6))}).state == "SUCCEEDED"
        assert len(most) == 6
        assert max(most) == 2


@pytest.mark.requirement("TF-10")
class TestRetry:
    def test_of_a_step(self, do: Doing, told: Told) -> None:
        @hf.step(retry=hf.Retry(attempts=3, backoff_s=0.001, on=(ConnectionError,)))
        def flaky(ctx: hf.Context) -> None:
            told(f"try {ctx.attempt}")
            if ctx.attempt < 3:
                raise ConnectionError("not yet")

        assert do(hf.linear("flow", flaky)).state == "SUCCEEDED"
        assert told == ["try 1", "try 2", "try 3"]

    def test_of_a_step_for_other_errors_it_does_not_count(self, do: Doing, told: Told) -> None:
        @hf.step(retry=hf.Retry(attempts=3, on=(ConnectionError,)))
        def wrong() -> None:
            told("wrong")
            raise LookupError("no such disk")

        assert do(hf.linear("flow", wrong)).state == "FAILED"
        assert told == ["wrong"]

    def test_of_a_flow_undoes_it_and_begins_anew(self, do: Doing, told: Told) -> None:
        tries: list[int] = []
        made = saying(told, "make")
        made.revert(lambda: told("unmake"))

        def use() -> None:
            tries.append(1)
            told("use")
            if len(tries) < 3:
                raise ConnectionError("not yet")

        inner = hf.linear("inner", made, hf.step(use, name="use"), retry=hf.Retry(attempts=3))
        ended = do(hf.linear("flow", saying(told, "before"), inner, saying(told, "after")))
        assert ended.state == "SUCCEEDED"
        assert told == ["before", *["make", "use", "unmake"] * 2, "make", "use", "after"]
        assert ended.trace.count("flow/inner RETRYING") == 2

    def test_of_a_flow_spent_undoes_everything(self, do: Doing, told: Told) -> None:
        made = saying(told, "make")
        made.revert(lambda: told("unmake"))

        def use() -> None:
            told("use")
            raise ConnectionError("never")

        inner = hf.linear("inner", hf.step(use, name="use"), retry=hf.Retry(attempts=2))
        ended = do(hf.linear("flow", made, inner))
        assert (ended.state, ended.revert) == ("FAILED", "done")
        assert told == ["make", "use", "use", "unmake"]

    def test_once_for_each_value(self, do: Doing, told: Told) -> None:
        @hf.step(provides="place")
        def place(zone: str) -> str:
            told(zone)
            if zone != "c":
                raise ConnectionError(f"{zone} is full")
            return zone

        flow = hf.linear(
            "flow", hf.linear("inner", place, retry=hf.Retry(over="zones", item="zone")), saying(told, "after")
        )
        assert do(flow, {"zones": ["a", "b", "c", "d"]}).state == "SUCCEEDED"
        assert told == ["a", "b", "c", "after"]

    def test_a_failing_flow_asks_its_other_steps_to_stop_and_waits_for_them(self, told: Told) -> None:
        """A sibling of a failing step is stopped, undone, and the flow is tried again."""
        began = threading.Event()
        tries: list[int] = []

        @hf.step
        def fails() -> None:
            assert began.wait(60)
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError("once")

        @hf.step
        def naps(ctx: hf.Context) -> None:
            told("naps")
            began.set()
            if not tries:
                ctx.sleep(3600)

        @naps.revert
        def unnaps() -> None:
            told("unnaps")

        both = hf.unordered("both", naps, fails, retry=hf.Retry(attempts=2))
        outcome = hf.run(hf.linear("flow", both), runtime="threads")
        assert outcome.state == "SUCCEEDED"
        assert told == ["naps", "unnaps", "naps"]


class TestDurableWaits:
    @pytest.mark.requirement("TF-10")
    def test_again_comes_back_with_what_it_left(self, do: Doing, told: Told) -> None:
        @hf.step(provides="power")
        def poll(ctx: hf.Context) -> object:
            seen = (ctx.last_checkpoint or 0) + 1
            told(f"look {seen}")
            return hf.Again(0.001, checkpoint=seen) if seen < 3 else "off"

        ended = do(hf.linear("flow", poll))
        assert ended.results == {"power": "off"}
        assert told == ["look 1", "look 2", "look 3"]

    @pytest.mark.requirement("TF-10")
    def test_a_step_that_waits_blocks_no_other(self, do: Doing, told: Told) -> None:
        @hf.step
        def waits(ctx: hf.Context) -> object:
            if ctx.last_checkpoint is None:
                told("waits")
                return hf.Again(0.05, checkpoint=True)
            told("has waited")
            return None

        assert do(hf.unordered("flow", waits, saying(told, "other"))).state == "SUCCEEDED"
        assert set(told[:2]) == {"waits", "other"}
        assert told[2] == "has waited"


@pytest.mark.requirement("TF-10")
@pytest.mark.parametrize(
    ("policy", "state", "reason", "said"),
    [
        ("revert", "FAILED", None, ["make", "boom", "unmake"]),
        ("suspend", "SUSPENDED", "on_failure", ["make", "boom"]),
        ("keep", "FAILED", None, ["make", "boom"]),
    ],
)
def test_what_follows_a_failure_is_declared(
    do: Doing, told: Told, policy: str, state: str, reason: str | None, said: list[str]
) -> None:
    made = saying(told, "make")
    made.revert(lambda: told("unmake"))

    def boom() -> None:
        told("boom")
        raise ConnectionError("no carrier")

    ended = do(hf.linear("flow", made, hf.step(boom, name="boom"), on_failure=policy))
    assert (ended.state, ended.reason) == (state, reason)
    assert told == said
