"""Random flows under random outcomes, verbs and crashes: the journal replays to the very state that was live, undo is
in order, and every task comes to its end."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

import holdfast as hf
from holdfast.core import events as e
from holdfast.core.states import S_SUCCEEDED, TASK
from holdfast.errors import StateError
from holdfast.flow.compile import compile
from tests.core.scripted import Script, differences, is_final

BLOCK = int(os.environ.get("HOLDFAST_TEST_WALKS", "150"))


def ok() -> int:
    return 1


def undo() -> None: ...


def make_step(chance: random.Random, name: str) -> Any:
    options: dict[str, Any] = {"name": name, "on_interrupt": chance.choice(("rerun", "rerun", "undo", "suspend"))}
    if chance.random() < 0.3:
        options["retry"] = hf.Retry(attempts=chance.randint(1, 3), backoff_s=chance.choice((0, 1)))
    if chance.random() < 0.2:
        options["timeout_s"] = 30.0
    if chance.random() < 0.05:
        options["pivot"] = True
    if chance.random() < 0.5:
        options["provides"] = f"v_{name}"
    step = hf.step(ok, **options)
    if chance.random() < 0.7:
        step.revert(undo)
    if chance.random() < 0.2:
        step.probe(lambda: hf.NotDone())
    return step


def make_flow(chance: random.Random, depth: int, name: str) -> Any:
    if depth == 0 or chance.random() < 0.3:
        return make_step(chance, name)
    size = chance.randint(1, 4)
    children = [make_flow(chance, depth - 1, f"{name}{i}") for i in range(size)]
    keywords: dict[str, Any] = {}
    if chance.random() < 0.25:
        keywords["retry"] = hf.Retry(attempts=chance.randint(1, 3), backoff_s=chance.choice((0, 1)))
    elif chance.random() < 0.1:
        keywords["retry"] = hf.Retry(over="items", item=f"try_{name}", spent=chance.choice(("flow", "all")))
    pattern = chance.choice(("linear", "unordered", "graph", "map"))
    if pattern == "map":
        return hf.map(name, children[0], over="items", item="it", at_once=chance.choice((None, 1, 2)))
    if pattern == "graph":
        graph = hf.graph(name, *children, **keywords)
        for i in range(size):
            for j in range(i + 1, size):
                if chance.random() < 0.5:
                    when = (lambda: True) if chance.random() < 0.7 else (lambda: False)
                    graph.link(children[i], children[j], when=when if chance.random() < 0.4 else None)
        return graph
    return (hf.linear if pattern == "linear" else hf.unordered)(name, *children, **keywords)


def outcome(chance: random.Random, call: Any, calm: float) -> tuple[str, Any]:
    if call.stop_reason is not None and chance.random() < 0.8:
        if chance.random() < 0.2:
            call.began = False  # it was still in the queue
            return "stopped", call.stop_reason
        return chance.choice((("stopped", call.stop_reason), ("killed", None)))
    if call.what == "probe":
        return "returned", chance.choice((hf.NotDone(), hf.Done(1), hf.Unknown("?")))
    draw = chance.random()
    if draw < calm:
        return "returned", None if call.what == "revert" else 1
    if draw < calm + (1 - calm) * 0.6:
        return "raised", ConnectionError("x")
    if call.what == "execute" and draw < calm + (1 - calm) * 0.7:
        return "returned", hf.WaitFor(chance.choice("xy"), chance.choice((None, 3)))
    if call.what == "execute" and draw < calm + (1 - calm) * 0.9:
        return "returned", hf.Again(chance.choice((0, 1, 5)), checkpoint=chance.randint(0, 9))
    return "died", "signal 9"


VERBS = (
    ("cancel", lambda at: e.CancelAsked(True, "t", at)),
    ("cancel", lambda at: e.CancelAsked(False, "t", at)),
    ("suspend", lambda at: e.SuspendAsked(False, "t", at)),
    ("abort", lambda at: e.AbortAsked("t", at)),
    ("rollback", lambda at: e.RollbackAsked("t", at)),
)


def ask(chance: random.Random, script: Script, rare: bool) -> None:
    name, make = chance.choice(VERBS[:3] if rare else VERBS)
    seen = script.replayed()
    try:
        following = TASK.move(seen.phase, name)
    except StateError:
        return
    if following != seen.phase and not (name in ("cancel", "rollback") and seen.pivots):
        script.verb(make(script.clock.now))


def resume(chance: random.Random, script: Script) -> None:
    """A person answers whatever the task rests for."""
    state = script.replayed()
    words = {
        "outcome_unknown": ("done", "rerun", "undo", "skip"), "revert_failed": ("done", "rerun", "skip"),
        "past_pivot": ("done", "rerun", "skip"), "step_unresponsive": ("done", "rerun", "undo", "skip"),
        "poison": ("done", "rerun", "undo", "skip"),
    }.get(state.reason or "", ())  # fmt: skip
    answers = {state.ids[row]: (chance.choice(words), None) for row in state.resting} if words else {}
    script.verb(e.ResumeAsked(answers, "t", script.clock.now))


def walk(seed: int) -> Script:
    chance = random.Random(seed)
    plan = compile(make_flow(chance, chance.randint(1, 3), "f"))
    options: dict[str, Any] = {
        "on_failure": chance.choice(("revert", "revert", "suspend", "keep")),
        "on_revert_failure": chance.choice(("suspend", "fail")),
        "undo": chance.choice(("parallel", "serial")),
    }
    plan.options = plan.options._replace(**options)
    script = Script(plan, {"items": [1, 2, 3]}, slots=chance.choice((1, 2, 8)), deaths_max=chance.choice((2, 3, 99)))
    calm = chance.choice((0.5, 0.8, 0.95))
    trouble = chance.choice((0.0, 0.02, 0.1))
    for step in range(3_000):
        peaceful = step > 1_500
        if is_final(script.state) and not script.unseen:
            return script
        if chance.random() < trouble and not peaceful:
            ask(chance, script, rare=chance.random() < 0.7)
        if chance.random() < trouble / 2 and not peaceful:
            script.crash()
        if chance.random() < trouble and script.state.phase in ("RUNNING", "WAITING", "SUSPENDED/forward"):
            script.verb(e.Delivered(chance.choice("xy"), chance.randint(0, 9), script.clock.now))
        if script.turn():
            check_company(script)
            continue
        check_replay(script)
        if is_final(script.state):
            continue
        if script.runtime.calls:
            call = chance.choice(script.runtime.calls)
            script.runtime.end(call, *outcome(chance, call, 0.97 if peaceful else calm))
        elif script.state.phase.startswith("SUSPENDED"):
            resume(chance, script)
        elif (due := script.drive.next_at()) is not None and chance.random() < 0.8:
            script.clock.now = max(script.clock.now, due)
        else:
            assert due is not None or script.state.event_waits, f"seed {seed}: stuck in {script.state.phase}"
            script.verb(e.Delivered(chance.choice("xy"), 7, script.clock.now))
    raise AssertionError(f"seed {seed}: no end after 3,000 turns, in {script.state.phase} {script.state.reason}")


def check_replay(script: Script) -> None:
    found = differences(script.state, script.replayed())
    assert not found, f"the journal does not replay to the live state: {found}"


def check_company(script: Script) -> None:
    """Who was in flight at a death runs by himself."""
    calls = [call for call in script.runtime.calls if call.what != "probe"]
    assert len(calls) == 1 or not any(call.row in script.state.suspects for call in calls)


def check_undo_order(script: Script, seed: int) -> None:
    """In what the journal says: when a revert begins, nothing that began after it and depends on it is still done."""
    state = script.state
    below: dict[int, set[int]] = {}
    for row in reversed(range(state.static)):
        below[row] = set()
        for target in state.succ[row]:
            if target < state.static:
                below[row] |= {target} | below.get(target, set())
    done: dict[int, bool] = {}
    for event in script.journal:
        kind = type(event)
        if kind is e.Succeeded:
            done[event.row] = True  # type: ignore[union-attr]
        elif kind is e.Reverted:
            done[event.row] = False  # type: ignore[union-attr]
        elif kind is e.ResumeAsked:
            return  # a person may say anything
        elif kind is e.RevertStarted and event.row < state.static:  # type: ignore[union-attr]
            for other in below[event.row]:  # type: ignore[union-attr]
                step = state.steps[other]
                if state.kind[other] == 0 and step is not None and step.has_revert:
                    assert not done.get(other), f"seed {seed}: {state.ids[event.row]} undone before {state.ids[other]}"  # type: ignore[union-attr]


@pytest.mark.requirement("NOVA-9")
@pytest.mark.parametrize("block", range(8))
def test_random_walks_end_and_replay(block: int) -> None:
    for seed in range(block * BLOCK, block * BLOCK + BLOCK):
        script = walk(seed)
        check_replay(script)
        check_undo_order(script, seed)
        if script.state.phase == "SUCCEEDED":
            assert script.state.left == 0
            assert all(script.state.st[row] in (S_SUCCEEDED, 7) for row in range(script.state.static)), f"seed {seed}"
