"""G1 to G4 and G10 against real `kill -9`: whatever moment it comes, the witness file tells one consistent story."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from holdfast.flow.compile import compile
from holdfast.local import open as open_database
from tests.crash import flows
from tests.forked import Forked
from tests.postgresql import database_at

KILLS = int(os.environ.get("HOLDFAST_TEST_KILLS", "300"))
REPOSITORY = Path(__file__).parents[2]


def start(database: str) -> Forked:
    process = Forked("tests.crash.worker", database, cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def killed(process: Forked, moment_s: float) -> bool:
    """Let a worker work for a moment and kill it; whether it had not ended by itself."""
    try:
        process.wait(moment_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    code = process.wait()
    process.close()
    assert code in (0, -signal.SIGKILL)
    return code != 0


class Story:
    """What the steps of one task said they did."""

    def __init__(self, lines: list[list[str]]) -> None:
        self.first: dict[tuple[str, str], int] = {}
        self.last: dict[tuple[str, str], int] = {}
        for at, (what, _, _, key) in enumerate(lines):
            event = (what, key)
            self.first.setdefault(event, at)
            self.last[event] = at
        self.keys: dict[str, list[str]] = defaultdict(list)
        for _, _, step, key in lines:
            if key not in self.keys[step]:
                self.keys[step].append(key)


def check(story: Story, edges: list[tuple[str, str]], name: str) -> None:
    """`before` comes before `after` in the flow: so it is done when `after` begins, never begins again under the same
    key, and is undone only when `after` is."""
    for before, after in edges:
        for key in story.keys[before]:
            incarnation = key.rpartition(":")[2]
            other = next((k for k in story.keys[after] if k.rpartition(":")[2] == incarnation), None)
            if other is None or ("begin", other) not in story.first:
                continue
            assert story.last[("begin", key)] < story.first[("begin", other)], (
                f"{name}: {before} ran again after {after}"
            )
            assert story.last[("end", key)] < story.first[("begin", other)], (
                f"{name}: {after} began before {before} ended"
            )
            if ("unbegin", key) in story.first:
                assert ("unend", other) in story.last, f"{name}: {before} was undone and {after} was not"
                assert story.last[("unend", other)] < story.first[("unbegin", key)], f"{name}: undone out of order"


def edges_of(flow: object) -> list[tuple[str, str]]:
    """Which steps with a revert follow which, through the rows that are no steps."""
    plan = compile(flow)  # type: ignore[arg-type]
    found = []
    for row in range(len(plan)):
        if plan.kind[row] != 0:
            continue
        seen, stack = set(), list(plan.succ[row])
        while stack:
            target = stack.pop()
            if target in seen:
                continue
            seen.add(target)
            if plan.kind[target] == 0:
                if plan.steps[row].has_revert and plan.steps[target].has_revert:  # type: ignore[union-attr]
                    found.append((plan.ids[row], plan.ids[target]))
            else:
                stack.extend(plan.succ[target])
    return found


def test_who_ends_by_itself_as_it_is_to_be_killed_was_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it has ended is heard a moment after there is nobody any more to kill."""
    process = start(database_at(tmp_path / "tasks.db"))
    assert process.wait(60) == 0
    monkeypatch.setattr(process, "poll", lambda: None)
    process.kill()
    assert not killed(process, 0)


@pytest.mark.timeout(900)
@pytest.mark.requirement("NOVA-14")
@pytest.mark.requirement("TF-2")
@pytest.mark.requirement("TF-4")
def test_three_hundred_kills_leave_one_story(tmp_path: Path) -> None:
    seed = int(os.environ.get("HOLDFAST_TEST_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: HOLDFAST_TEST_SEED={seed} repeats the draws")
    chance = random.Random(seed)
    database, witness = database_at(tmp_path / "tasks.db"), tmp_path / "witness"
    submitted: dict[str, str] = {}
    kills = 0
    while kills < KILLS:
        with open_database(database) as hold:
            open_tasks = hold.tasks(state="pending,running,waiting,reverting", limit=1000)
            for flow in chance.choices((*flows.FORWARD, *flows.BACKWARD), k=max(0, 8 - len(open_tasks))):
                inputs = {"witness": str(witness), "pause": chance.uniform(0.0, 0.08)}
                wanted = compile(flow).inputs
                if "items" in wanted:
                    inputs["items"] = [1, 2, 3]
                task = hold.submit(flow, {name: value for name, value in inputs.items() if name in wanted})
                submitted[task.id] = flow.name
        kills += killed(start(database), chance.uniform(0.02, 0.5))
    finishing = start(database)
    assert finishing.wait(240) == 0
    finishing.close()
    judge(database, witness, submitted)


def judge(database: str, witness: Path, submitted: dict[str, str]) -> None:
    lines: dict[str, list[list[str]]] = defaultdict(list)
    for line in witness.read_text().splitlines():
        words = line.split(" ")
        lines[words[1]].append(words)
    flows_by_name = {flow.name: flow for flow in (*flows.FORWARD, *flows.BACKWARD)}
    edges = {name: edges_of(flow) for name, flow in flows_by_name.items()}
    forward = {flow.name for flow in flows.FORWARD}
    with open_database(database) as hold:
        for uuid, name in submitted.items():
            task = hold.task(uuid)
            assert task.state == ("SUCCEEDED" if name in forward else "FAILED"), f"{name}: {task.trace}"
            assert task.view()["revert"] == ("none" if name in forward else "done")
            check(Story(lines[uuid]), edges[name], f"{name} {uuid}")
            journal = hold.store.journal(hold.task(uuid)._id)
            ends: dict[str, int] = defaultdict(int)
            for row in journal:
                if row.kind in ("succeeded", "reverted"):
                    ends[f"{row.kind} {row.node}"] += 1
                elif row.kind == "scope_reset":
                    ends.clear()
            assert all(count == 1 for count in ends.values()), f"{name}: an outcome was recorded twice: {dict(ends)}"
