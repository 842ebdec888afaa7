"""Verbs at random moments among real `kill -9`: whatever meets, a task ends as it says it does, by the witness."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.errors import VerbRefused
from holdfast.flow.compile import compile
from holdfast.local import Holdfast, Task
from holdfast.local import open as open_database
from tests.crash import flows
from tests.crash.test_kill import Story, check, edges_of, killed, start
from tests.postgresql import database_at

KILLS = int(os.environ.get("HOLDFAST_TEST_VERB_KILLS", "25"))
FINAL = ("SUCCEEDED", "FAILED", "CANCELLED", "ABORTED", "REVERTED")


def give(task: Task, verb: str) -> bool:
    """Give the task the verb; whether it was accepted."""
    verbs: dict[str, Callable[[], object]] = {
        "cancel": task.cancel,
        "leave": lambda: task.cancel(revert=False),
        "abort": task.abort,
        "suspend": task.suspend,
        "release": lambda: task.suspend(release_claims=True),
        "resume": task.resume,
        "rollback": task.rollback,
    }
    try:
        verbs[verb]()
    except VerbRefused:
        return False
    return True


def submit_some(hold: Holdfast, chance: random.Random, witness: Path, submitted: dict[str, str]) -> None:
    going = hold.tasks(state="pending,running,waiting,reverting,cancelling,suspended", limit=1000)
    for flow in chance.choices((*flows.FORWARD, *flows.BACKWARD), k=max(0, 8 - len(going))):
        inputs = {"witness": str(witness), "pause": chance.uniform(0.0, 0.15), "items": [1, 2, 3]}
        wanted = compile(flow).inputs
        claims = [f"node/{chance.randrange(3)}"] if chance.random() < 0.5 else []
        task = hold.submit(flow, {name: inputs[name] for name in wanted}, claims=claims)
        submitted[task.id] = flow.name


def finish(database: str) -> None:
    """Let a worker do all there is to do."""
    process = start(database)
    assert process.wait(240) == 0
    process.close()


@pytest.mark.timeout(600)
@pytest.mark.requirement("IRONIC-1", "G4", "G6", "TF-12")
def test_verbs_among_kills_leave_one_story(tmp_path: Path) -> None:
    seed = int(os.environ.get("HOLDFAST_TEST_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: HOLDFAST_TEST_SEED={seed} repeats the draws")
    chance = random.Random(seed)
    database, witness = database_at(tmp_path / "tasks.db"), tmp_path / "witness"
    submitted: dict[str, str] = {}
    asked: dict[str, list[str]] = defaultdict(list)
    kills = 0
    with open_database(database) as hold:
        while kills < KILLS:
            submit_some(hold, chance, witness, submitted)
            worker = start(database)
            for _ in range(chance.randrange(1, 5)):
                hold.store.wait(hold.store.changes(), chance.uniform(0.0, 0.2))
                task = hold.task(chance.choice(list(submitted)[-10:]))
                verb = chance.choice(["cancel", "leave", "abort", "suspend", "release", "resume", "resume", "rollback"])
                if task.state not in FINAL and give(task, verb):
                    asked[task.id].append(verb)
            kills += killed(worker, chance.uniform(0.0, 0.3))
        while resting := hold.tasks(state="suspending,suspended", limit=1000):
            for task in resting:
                assert task.reason in (None, "asked"), f"{task}: {task.trace}"
                task.resume()
            finish(database)
        finish(database)
        judge(hold, witness, submitted, asked)


def judge(hold: Holdfast, witness: Path, submitted: dict[str, str], asked: dict[str, list[str]]) -> None:
    lines: dict[str, list[list[str]]] = defaultdict(list)
    for line in witness.read_text().splitlines():
        words = line.split(" ")
        lines[words[1]].append(words)
    by_name = {flow.name: flow for flow in (*flows.FORWARD, *flows.BACKWARD)}
    edges = {name: edges_of(flow) for name, flow in by_name.items()}
    ends = set()
    for uuid, name in submitted.items():
        task = hold.task(uuid)
        verbs, view, story = asked[uuid], task.view(), Story(lines[uuid])
        tale = f"{name} {uuid} {verbs}: {task.trace}"
        ends.add(task.state)
        check(story, edges[name], tale)
        match task.state:
            case "SUCCEEDED":
                assert name in {flow.name for flow in flows.FORWARD}, tale
                assert not {"cancel", "leave", "abort", "rollback"}.intersection(verbs), tale
            case "ABORTED":
                assert "abort" in verbs, tale
            case "CANCELLED":
                assert {"cancel", "leave"}.intersection(verbs), tale
            case "REVERTED":
                assert "rollback" in verbs, tale
            case "FAILED":
                assert name in {flow.name for flow in flows.BACKWARD}, tale
            case other:
                raise AssertionError(f"{other}: {tale}")
        if view["revert"] == "done":
            undone(story, tale)
        if task.state == "REVERTED":
            assert view["effect"] == "none", tale
    assert ends >= {"SUCCEEDED", "ABORTED", "CANCELLED"}, "the verbs met nothing"


def undone(story: Story, tale: str) -> None:
    """Every step that has a revert, and began, was undone to its end, and did not begin again afterwards."""
    for (what, key), at in story.last.items():
        if what == "begin" and not key.split(":")[1].endswith(("polled", "flaky")):
            assert story.last.get(("unend", key), -1) > at, f"{key} was not undone: {tale}"


def test_the_judge_sees_what_was_not_undone() -> None:
    line = ["begin", "t", "flow/a", "t:flow/a:0"]
    with pytest.raises(AssertionError, match="was not undone"):
        undone(Story([line]), "told")
    undone(Story([line, ["unend", *line[1:]]]), "told")
