"""Undo, as a user of steps sees it: what a revert is given, the order, and a revert that cannot succeed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.local import open as open_database
from tests.doing import Doing, Told
from tests.postgresql import database_at


def pair(told: Told, name: str, *, wait: threading.Event | None = None, **options: object) -> hf.Step:
    """A step and its revert; both say so."""

    def execute() -> str:
        told(name)
        return name.upper()

    made = hf.step(execute, name=name, **options)  # type: ignore[call-overload]

    def undo() -> None:
        if wait is not None:
            assert wait.wait(60)
        told(f"un{name}")

    made.revert(undo)
    return made  # type: ignore[no-any-return]


def stuck(told: Told, name: str, mended: threading.Event | None = None) -> hf.Step:
    """A step whose revert fails until it is mended."""

    def execute() -> None:
        told(name)

    made = hf.step(execute, name=name)

    @made.revert
    def undo() -> None:
        told(f"un{name}?")
        if mended is None or not mended.is_set():
            raise OSError("the shelf is locked")

    return made


def failing(told: Told, name: str = "boom") -> hf.Step:
    def execute() -> None:
        told(name)
        raise ConnectionError("no carrier")

    return hf.step(execute, name=name)


@pytest.mark.requirement("TF-8")
class TestWhatARevertIsGiven:
    def test_its_inputs_its_result_its_outputs_and_what_failed(self, do: Doing) -> None:
        given: dict[str, object] = {}

        @hf.step(provides=("host", "port"))
        def bind(network: str) -> tuple[str, int]:
            return f"{network}.example", 80

        @bind.revert
        def unbind(
            network: str,
            result: object,
            failures: dict[str, hf.Failure],
            ctx: hf.Context,
            host: str = "",
            port: int = 0,
        ) -> None:
            given.update(network=network, result=result, host=host, port=port, step=ctx.step_id)
            given.update({step: failure.summary for step, failure in failures.items()})

        @hf.step
        def boom() -> None:
            raise ConnectionError("no carrier")

        ended = do(hf.linear("flow", bind, boom), {"network": "lab"})
        assert (ended.state, ended.revert) == ("FAILED", "done")
        assert given == {
            "network": "lab",
            "result": ("lab.example", 80),
            "host": "lab.example",
            "port": 80,
            "step": "flow/bind",
            "flow/boom": "ConnectionError: no carrier",
        }
        assert ended.failure is not None
        assert ended.failure.summary == "ConnectionError: no carrier"

    def test_the_step_that_failed_is_undone_too_and_has_no_result(self, do: Doing) -> None:
        given: list[object] = []

        @hf.step(provides="disk")
        def make_disk(ctx: hf.Context) -> str:
            given.append(ctx.idempotency_key)
            raise ConnectionError("made, and the answer was lost")

        @make_disk.revert
        def drop_disk(ctx: hf.Context, result: object, disk: str | None = None) -> None:
            given.extend([ctx.forward_key, result, disk])

        assert do(hf.linear("flow", make_disk)).state == "FAILED"
        assert given == [given[0], given[0], None, None]

    def test_a_class_has_both_and_what_it_was_made_with(self, do: Doing, told: Told) -> None:
        class Put(hf.Step):
            provides = "slot"

            def __init__(self, shelf: str) -> None:
                self.shelf = shelf

            def execute(self, what: str) -> str:
                told(f"put {what} on {self.shelf}")
                return f"{self.shelf}-1"

            def revert(self, what: str, slot: str = "?") -> None:
                told(f"take {what} from {slot}")

        assert do(hf.linear("flow", Put("shelf"), failing(told)), {"what": "box"}).state == "FAILED"
        assert told == ["put box on shelf", "boom", "take box from shelf-1"]

    def test_a_revert_is_tried_again_as_its_own_retry_says(self, do: Doing, told: Told) -> None:
        def execute() -> None:
            told("make")

        made = hf.step(execute, name="make")

        @made.revert(retry=hf.Retry(attempts=3, backoff_s=0.001))
        def undo(ctx: hf.Context) -> None:
            told(f"unmake {ctx.attempt}")
            if ctx.attempt < 3:
                raise OSError("busy")

        ended = do(hf.linear("flow", made, failing(told)))
        assert (ended.state, ended.revert) == ("FAILED", "done")
        assert told == ["make", "boom", "unmake 1", "unmake 2", "unmake 3"]


@pytest.mark.requirement("TF-9", "G4")
class TestOrder:
    def test_a_chain_is_undone_backwards(self, do: Doing, told: Told) -> None:
        flow = hf.linear("flow", *(pair(told, name) for name in "abc"), failing(told))
        assert do(flow).revert == "done"
        assert told == ["a", "b", "c", "boom", "unc", "unb", "una"]

    def test_siblings_are_undone_in_reverse_start_order(self, do: Doing, told: Told) -> None:
        names = "abcdef"
        flow = hf.linear(
            "flow", hf.unordered("all", *(pair(told, name) for name in names)), failing(told), undo="serial"
        )
        ended = do(flow)
        assert ended.revert == "done"
        began = [line.split()[0] for line in ended.trace if line.startswith("flow/all/") and line.endswith("RUNNING")]
        undone = [line.split()[0] for line in ended.trace if line.endswith("REVERTING") and "/" in line]
        assert undone == began[::-1]
        assert told[7:] == [f"un{step[-1]}" for step in undone]

    def test_a_second_try_whose_time_has_come_waits_for_an_undo_that_waits(self, do: Doing, told: Told) -> None:
        def fails(ctx: hf.Context) -> None:
            told(f"unlast {ctx.attempt}")
            if ctx.attempt < 2:
                raise OSError("busy")

        def looks(ctx: hf.Context) -> object:
            told("unfirst looked")
            return hf.Again(0.3, checkpoint="asked") if ctx.last_checkpoint is None else None

        first, last = hf.step(lambda: None, name="first"), hf.step(lambda: None, name="last")
        first.revert(looks)
        last.revert(retry=hf.Retry(attempts=2, backoff_s=0.05, jitter=0.0))(fails)
        both = hf.unordered("both", hf.linear("late", hf.step(lambda: None, name="before"), last), first)
        assert do(hf.linear("flow", both, failing(told), undo="serial")).revert == "done"
        assert told == ["boom", "unlast 1", "unfirst looked", "unfirst looked", "unlast 2"]

    def test_what_depends_on_a_step_is_undone_before_it(self, do: Doing, told: Told) -> None:
        flow = hf.graph("flow", *(pair(told, name) for name in "abcd"), failing(told))
        flow.link("a", "b").link("a", "c").link("b", "d").link("c", "d").link("d", "boom")
        assert do(flow).revert == "done"
        at = {what: place for place, what in enumerate(told)}
        assert at["und"] < at["unb"] < at["una"]
        assert at["und"] < at["unc"] < at["una"]

    @pytest.mark.parametrize("do", ["threads", "durable"], indirect=True)
    def test_independent_reverts_may_overlap(self, do: Doing, told: Told) -> None:
        """Each revert waits for the other to have begun; one after the other they would wait for ever."""
        both = threading.Barrier(2)

        def meeting(name: str) -> hf.Step:
            made = hf.step(lambda: None, name=name)

            @made.revert
            def undo() -> None:
                both.wait(60)
                told(f"un{name}")

            return made

        flow = hf.linear("flow", hf.unordered("both", meeting("a"), meeting("b")), failing(told))
        assert do(flow).revert == "done"
        assert sorted(told[1:]) == ["una", "unb"]

    def test_nested_flows_and_map_elements_are_undone(self, do: Doing, told: Told) -> None:
        @hf.step
        def volume(size: int) -> None:
            told(f"volume {size}")

        @volume.revert
        def drop(size: int) -> None:
            told(f"drop {size}")

        inner = hf.linear("inner", pair(told, "a"), hf.map("volumes", volume, over="sizes", item="size", at_once=1))
        ended = do(hf.linear("flow", inner, failing(told), undo="serial"), {"sizes": [1, 2]})
        assert ended.revert == "done"
        assert told == ["a", "volume 1", "volume 2", "boom", "drop 2", "drop 1", "una"]


@pytest.mark.requirement("TF-9", "G4")
class TestARevertThatFails:
    def test_what_does_not_depend_on_it_is_still_undone(self, do: Doing, told: Told) -> None:
        """b hangs on a; c and d are another branch. The undo of b fails: a must stay, c and d go."""
        branches = hf.unordered(
            "branches",
            hf.linear("one", pair(told, "a"), stuck(told, "b")),
            hf.linear("two", pair(told, "c"), pair(told, "d")),
        )
        ended = do(hf.linear("flow", branches, failing(told)))
        assert (ended.state, ended.reason, ended.revert) == ("SUSPENDED", "revert_failed", "partial")
        assert set(told[-3:]) == {"unb?", "und", "unc"}
        assert "una" not in told
        assert told.index("und") < told.index("unc")

    def test_within_a_flow_that_is_tried_again_too(self, do: Doing, told: Told) -> None:
        inner = hf.linear("inner", stuck(told, "b"), failing(told), retry=hf.Retry(attempts=2))
        ended = do(hf.linear("flow", pair(told, "a"), inner))
        assert (ended.state, ended.reason, ended.revert) == ("SUSPENDED", "revert_failed", "failed")
        assert told == ["a", "b", "boom", "unb?"], "it is not tried again beside what is left of the first try"

    def test_or_the_flow_says_that_it_fails(self, do: Doing, told: Told) -> None:
        flow = hf.linear("flow", pair(told, "a"), stuck(told, "b"), failing(told), on_revert_failure="fail")
        ended = do(flow)
        assert (ended.state, ended.revert) == ("FAILED", "failed")
        assert told == ["a", "b", "boom", "unb?"]

    @pytest.mark.parametrize(
        ("word", "then"), [("rerun", ["unb?", "una"]), ("done", ["una"]), ("skip", ["una"])], ids=lambda case: str(case)
    )
    def test_it_rests_with_its_claims_until_a_person_answers(
        self, tmp_path: Path, told: Told, word: str, then: list[str]
    ) -> None:
        mended = threading.Event()
        flow = hf.linear("flow", pair(told, "a"), stuck(told, "b", mended), failing(told))
        other = hf.linear("other", pair(told, "other"))
        with open_database(database_at(tmp_path / "tasks.db"), flows=[flow, other]) as hold:
            task = hold.submit(flow, claims=["node/1"])
            behind = hold.submit(other, claims=["node/1"])
            hold.work(until_idle=True)
            assert (task.state, task.reason) == ("SUSPENDED", "revert_failed")
            assert behind.view()["blocked_by"] == [task.id]
            assert behind.state == "PENDING"
            mended.set()
            task.resume({"flow/b": word})
            hold.work(until_idle=True)
            assert (task.state, behind.state) == ("FAILED", "SUCCEEDED")
        assert told == ["a", "b", "boom", "unb?", *then, "other"]


def test_reverts_are_shielded_from_cancel(tmp_path: Path, told: Told) -> None:
    """A cancel that comes while a revert runs is refused, and the revert runs to its end."""
    inside, go_on = threading.Event(), threading.Event()
    made = hf.step(lambda: told("a"), name="a")

    @made.revert
    def undo(ctx: hf.Context) -> None:
        inside.set()
        assert go_on.wait(60)
        ctx.raise_if_stopping()
        told("una")

    flow = hf.linear("flow", made, failing(told))
    with open_database(database_at(tmp_path / "tasks.db"), flows=[flow]) as hold, hold.working():
        task = hold.submit(flow)
        assert inside.wait(60)
        with pytest.raises(hf.HoldfastError, match="cancel"):
            task.cancel()
        go_on.set()
        assert task.wait(60).state == "FAILED"
    assert told == ["a", "boom", "una"]
