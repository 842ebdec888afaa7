"""The checker of histories: a good one breaks no rule, and each rule sees what breaks it. Who would believe a checker
that was never seen to find anything?"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from chaos.history import History, longest_lost_s
from chaos.rules import RULES, judge
from chaos.witness import Guard, Line, Witness

ALONE = {"r1": "exclusive"}
TOGETHER = {"r1": "shared"}


class Story:
    """Lines as a witness would have them, a second apart."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def say(self, who: str, what: str, **more: Any) -> Story:
        place = len(self.lines) + 1
        self.lines.append(Line(place, float(place), who, what, more))
        return self

    def ask(self, task: str, claims: dict[str, str] | None = None, pool: str = "default") -> Story:
        return self.say("c", "asked", tag=f"tag-{task}", claims=ALONE if claims is None else claims, pool=pool)

    def accept(self, task: str, tag: str | None = None) -> Story:
        return self.say("c", "accepted", tag=tag or f"tag-{task}", task=task, replayed=False)

    def asked(self, task: str, claims: dict[str, str] | None = None, pool: str = "default") -> Story:
        return self.ask(task, claims, pool).accept(task)

    def begin(
        self, task: str, step: int, *, entry: str = "", who: str = "w1", way: str = "do", given: str | None = None,
        claims: dict[str, str] | None = None, pool: str | None = None,
    ) -> Story:  # fmt: skip
        told = given if given is not None or step == 1 or way == "undo" else f"{task}{step - 1}"
        return self.say(
            who, "begin", entry=entry or f"{task}{step}{way if way == 'undo' else ''}", task=task, step=step, way=way,
            attempt=1, key=f"{task}:{step}", given=told, claims=list((ALONE if claims is None else claims).items()),
            pool=pool,
        )  # fmt: skip

    def end(self, entry: str, how: str = "returned", who: str = "w1") -> Story:
        return self.say(who, "end", entry=entry, how=how)

    def step(self, task: str, step: int, **more: Any) -> Story:
        way = more.get("way", "do")
        entry = more.get("entry") or f"{task}{step}{way if way == 'undo' else ''}"
        return self.begin(task, step, **more).end(entry, who=more.get("who", "w1"))

    def final(self, task: str, state: str = "SUCCEEDED", steps: int = 2, **more: Any) -> Story:
        told = {
            "tag": f"tag-{task}",
            "retry_of": None,
            "rollback_of": None,
            "revert": "none",
            "undoable": steps,
            **more,
        }
        return self.say("o", "final", task=task, state=state, steps=steps, **told)

    def record(self, task: str, step: int, value: str = "") -> Story:
        return self.say("o", "recorded", task=task, step=step, seq=step, value=value or f"{task}{step}")

    def tell(self, task: str, *states: str, first: int = 1, what: str = "told") -> Story:
        """A follower of what happened to a task, from its beginning."""
        for place, (before, state) in enumerate(pairwise([None, *states]), first):
            self.say("o", what, id=place, task=task, before=before, state=state)
        return self

    def keep(self, task: str, *states: str, first: int = 1) -> Story:
        """What is kept of that."""
        return self.tell(task, *states, first=first, what="kept")

    def whole(self, task: str, claims: dict[str, str] | None = None, who: str = "w1") -> Story:
        return self.step(task, 1, claims=claims, who=who).step(task, 2, claims=claims, who=who)

    def broken(self) -> dict[str, list[str]]:
        found = judge(History(self.lines))
        return {rule: [each.said for each in broken] for rule, broken in found.items() if broken}


def test_a_good_history_breaks_nothing() -> None:
    story = Story().asked("a").asked("b").asked("c", TOGETHER).asked("d", TOGETHER)
    story.whole("a").step("b", 1).say("f", "killed", member="w1")
    story.step("b", 2, who="w2")
    story.begin("c", 1, claims=TOGETHER, who="w2").begin("d", 1, claims=TOGETHER, who="w3")
    story.end("c1", who="w2").end("d1", who="w3")
    story.step("d", 2, who="w3", claims=TOGETHER).step("c", 2, who="w2", claims=TOGETHER)
    story.asked("e").step("e", 1).begin("e", 2).end("e2", "RuntimeError")
    story.step("e", 2, way="undo").step("e", 1, way="undo")
    for task in "abcd":
        story.record(task, 1).record(task, 2).final(task)
    story.record("e", 1).final("e", "FAILED", revert="done")
    for say in (story.tell, story.keep):
        say("a", "PENDING", "RUNNING", "SUCCEEDED")
        say("e", "PENDING", "FAILED", first=7)
    assert story.broken() == {}


def test_a_lost_reply_may_have_been_either() -> None:
    story = Story().ask("a").ask("b").accept("b").whole("b").whole("a").accept("a")
    assert story.final("a").final("b").broken() == {}


def test_every_rule_says_what_it_is_for() -> None:
    assert [rule.__name__ for rule in RULES if not rule.__doc__] == []


BAD: dict[str, list[Story]] = {
    "durable": [
        Story().asked("a").whole("a"),
        Story().asked("a").step("a", 1).final("a", "RUNNING"),
    ],
    "once": [
        Story().asked("a").accept("b", "tag-a").final("a").final("b", tag="tag-a"),
        Story().final("a", "CANCELLED"),
        Story().final("a", "CANCELLED", tag=None),
    ],
    "order": [
        Story().asked("a").asked("b").whole("b").whole("a").final("a").final("b"),
        Story().asked("a", TOGETHER).asked("b").whole("b").whole("a", TOGETHER).final("a").final("b"),
    ],
    "exclusion": [
        Story().ask("a").asked("b").accept("a").begin("a", 1).begin("b", 1).end("a1").end("b1").final("a", steps=1),
        Story().asked("a").begin("a", 1).begin("a", 1, entry="x", who="w2").end("a1").end("x", who="w2").final("a"),
        Story().asked("a").begin("a", 1).begin("b", 1, claims=TOGETHER).end("a1").end("b1").final("a", steps=1),
    ],
    "recorded": [
        Story().asked("a").whole("a").record("a", 1).record("a", 1).final("a"),
        Story().asked("a").whole("a").record("a", 1, "a2").final("a"),
        Story().asked("a").whole("a").record("a", 1, "elsewhere").final("a"),
        Story().asked("a").step("a", 1).step("a", 1, entry="x").step("a", 2, given="a1").final("a"),
        Story().asked("a").step("a", 1).step("a", 1, entry="x").record("a", 1).step("a", 2, given="x").final("a"),
        Story().asked("a").begin("a", 1).end("a1", "Stopping").step("a", 2).final("a", "ABORTED"),
    ],
    "sequence": [
        Story().asked("a").step("a", 1).step("a", 2).step("a", 1, entry="x").final("a", "ABORTED"),
        Story().asked("a").step("a", 1).step("a", 3, given="a1").final("a", "ABORTED"),
        Story().asked("a").whole("a").step("a", 1, way="undo").step("a", 2, way="undo").final("a", "CANCELLED"),
        Story().asked("a").step("a", 1).step("a", 1, way="undo").step("a", 2).final("a", "CANCELLED"),
        Story().asked("a").begin("a", 1).end("a1", "Stopping").step("a", 2).final("a", "ABORTED"),
        Story().asked("a").step("a", 1).step("a", 1, way="undo").step("a", 2, way="undo").final("a", "CANCELLED"),
    ],
    "complete": [
        Story().asked("a").step("a", 1).final("a"),
        Story().asked("a").whole("a").step("a", 2, way="undo").final("a"),
        Story().asked("a").whole("a").step("a", 2, way="undo").final("a", "CANCELLED", revert="done"),
    ],
    "ended": [
        Story().asked("a").whole("a").say("c", "saw", task="a", state="SUCCEEDED").final("a", "FAILED"),
        Story().asked("a").step("a", 1).say("c", "saw", task="a", state="ABORTED").step("a", 2).final("a", "ABORTED"),
    ],
    "capped": [
        Story().say("f", "capped", pool="p", running_max=1).asked("a", {}, "p").asked("b", {}, "p")
        .begin("a", 1, claims={}).begin("b", 1, claims={}).end("a1").end("b1").final("a", steps=1).final("b", steps=1),
        Story().say("f", "capped", pool="field", running_max=1).asked("a", {}).asked("b", {})
        .begin("a", 1, claims={}, pool="field").begin("b", 1, claims={}, pool="field").end("a1").end("b1")
        .final("a", steps=1).final("b", steps=1),
    ],
    "told": [
        Story().tell("a", "PENDING").tell("a", "PENDING").keep("a", "PENDING"),
        Story().tell("a", "RUNNING", first=2).keep("a", "PENDING", "RUNNING"),
        Story().tell("a", "PENDING").keep("a", "PENDING", "RUNNING"),
        Story().tell("a", "PENDING", first=2).tell("b", "PENDING").keep("b", "PENDING").keep("a", "PENDING", first=2),
        Story().keep("a", "PENDING").keep("a", "SUCCEEDED", first=2),
        Story().tell("a", "PENDING", "RUNNING").keep("a", "PENDING", "RUNNING").final("a"),
    ],
    "usable": [
        Story().say("o", "unusable", resource="r1", task="a", state="PENDING"),
        Story().say("d", "wrong", said="a ticket of nobody"),
        Story().say("f", "left", member="w1", code=1, excused=False),
    ],
    "fencing": [
        Story().asked("a").begin("a", 1).say("w1", "write", entry="a1", resource="r1", token=2, newest=0)
        .say("w1", "write", entry="a1", resource="r1", token=1, newest=2).end("a1").final("a", steps=1),
        Story().asked("a").begin("a", 1).say("w1", "refused", entry="a1", resource="r1", token=1, newest=2)
        .end("a1").final("a", steps=1),
        Story().asked("a").step("a", 1).say("w1", "write", entry="a1", resource="r1", token=2, newest=0)
        .begin("a", 2, who="w2").say("w2", "write", entry="a2", resource="r1", token=2, newest=2).end("a2", who="w2")
        .final("a"),
        Story().asked("a").begin("a", 1).say("w1", "write", entry="a1", resource="r1", token=0, newest=0).end("a1")
        .final("a", steps=1),
        Story().asked("a").begin("a", 1, pool="field").say("w1", "write", entry="a1", resource="r1", token=2, newest=0)
        .begin("a", 1, entry="x", who="w2", pool="field")
        .say("w2", "write", entry="x", resource="r1", token=2, newest=2).end("a1").end("x", who="w2")
        .final("a", steps=1),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("rule", "place"), [(rule, place) for rule, some in BAD.items() for place in range(len(some))])
def test_a_bad_history_breaks_the_rule_that_it_is_to_break(rule: str, place: int) -> None:
    assert rule in BAD[rule][place].broken()


def test_there_is_a_bad_history_for_every_rule() -> None:
    assert sorted(BAD) == sorted(rule.__name__ for rule in RULES)


def test_what_a_frozen_process_does_when_it_thaws_is_excused_but_for_devices_that_check() -> None:
    story = Story().asked("a").asked("b").begin("a", 1).say("f", "frozen", member="w1")
    story.step("a", 1, entry="x", who="w2").step("a", 2, who="w2", given="x").begin("b", 1, who="w2")
    story.say("w2", "write", entry="x", resource="r1", token=7, newest=0).say("f", "thaw", member="w1")
    story.say("w1", "refused", entry="a1", resource="r1", token=3, newest=7).end("a1")
    story.end("b1", who="w2").record("a", 1, "x").final("a").final("b", steps=1)
    assert story.broken() == {}
    lost_s, entry = longest_lost_s(History(story.lines))
    assert (lost_s, str(entry)) == (1.0, "do 1 of a by w1")
    story.lines = [line._replace(more={**line.more, "entry": "b1"}) if line.what == "refused" else line
                   for line in story.lines]  # fmt: skip
    assert list(story.broken()) == ["fencing"]


def test_agents_share_the_token_of_their_task_after_one_another_and_have_a_limit_of_their_own() -> None:
    story = Story().asked("a").asked("b", {}).say("f", "capped", pool="default", running_max=1)
    story.begin("b", 1, claims={}, who="w2").begin("a", 1, pool="field")
    story.say("w1", "write", entry="a1", resource="r1", token=2, newest=0).end("a1")
    story.begin("a", 2, who="w3", pool="field").say("w3", "write", entry="a2", resource="r1", token=2, newest=2)
    story.end("a2", who="w3").end("b1", who="w2").final("a").final("b", steps=1)
    assert story.broken() == {}


def test_who_was_held_before_it_began_is_passed_over() -> None:
    story = Story().asked("a").say("c", "verb", task="a", verb="suspend").asked("b").whole("b").whole("a")
    assert story.final("a").final("b").broken() == {}


def test_a_guard_refuses_an_older_token_and_the_witness_hears_of_it(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    guard = Guard(witness)
    assert [guard.write("w", "r1", "a", token, entry="e") for token in (1, 3, 2, 3)] == [True, True, False, True]
    assert guard.write("w", "r1", "b", 1, entry="e")
    heard = [(line.place, line.what, line.more["token"], line.more["newest"]) for line in witness.lines()]
    assert heard == [
        (1, "write", 1, 0),
        (2, "write", 3, 1),
        (3, "refused", 2, 3),
        (4, "write", 3, 3),
        (5, "write", 1, 0),
    ]
    with pytest.raises(ValueError, match="torn"):
        witness.say("w", "long", text="x" * 5000)


def test_the_last_lines_of_a_long_story_are_whole(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    for number in range(100):
        witness.say("w", "x", number=number)
    size = (tmp_path / "lines").stat().st_size
    last = [line.more["number"] for line in witness.lately(size // 10)]
    assert last in (list(range(90, 100)), list(range(91, 100))), "lines are not all as long as each other"
    assert [line.more["number"] for line in witness.lately(size * 2)] == list(range(100))


def test_of_a_line_that_is_being_written_nothing_is_read_yet(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    witness.say("w", "end")
    whole = (tmp_path / "lines").read_bytes()
    with open(tmp_path / "lines", "ab") as file:
        file.write(whole[:20])
    assert [line.what for line in witness.lines()] == [line.what for line in witness.lately(1000)] == ["end"]
    with open(tmp_path / "lines", "ab") as file:
        file.write(whole[20:])
    assert [line.what for line in witness.lines()] == ["end", "end"]
