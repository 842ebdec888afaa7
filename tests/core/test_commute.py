"""Folding a fact and folding a verb commute: the journal may hold them in either order (DESIGN.md §6)."""

from __future__ import annotations

from holdfast.core import events as e
from holdfast.core.machine import apply, replay
from holdfast.core.state import State
from tests.core.scripted import differences
from tests.core.test_random_walks import walk

LATE = frozenset((e.TakenOver, e.Withdrawn))  # a take-over is the new worker's first word, not a late outcome


def test_facts_and_verbs_commute() -> None:
    pairs = 0
    for seed in range(900):
        script = walk(seed)
        journal = script.journal
        for at in range(len(journal) - 1):
            verb, fact = journal[at], journal[at + 1]
            if type(verb) not in e.VERBS or type(fact) not in e.FACTS or type(fact) in LATE:
                continue
            states = []
            for pair in ((verb, fact), (fact, verb)):
                state = State(script.plan, script.inputs, deaths_max=script.deaths_max)
                replay(state, journal[:at])
                for event in pair:
                    apply(state, event)
                states.append(state)
            found = differences(*states)
            assert not found, f"seed {seed}: {type(verb).__name__} and {type(fact).__name__} do not commute: {found}"
            pairs += 1
    assert pairs > 100
