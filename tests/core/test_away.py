"""A worker died: what agents run did not die with it."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.core import events as e
from holdfast.core.machine import replay
from holdfast.core.state import State
from holdfast.flow.compile import compile
from holdfast.store.base import JournalRow
from holdfast.store.journal import decode, encode


@hf.step(on_interrupt="suspend")
def here() -> None: ...


@hf.step(on_interrupt="suspend", agent="hv1")
def there() -> None: ...


def begun() -> State:
    state = State(compile(hf.unordered("both", here, there)), {})
    rows = [state.row_of("both/here"), state.row_of("both/there")]
    replay(state, [e.Began(1.0), *(e.Started(row, 1, None, 2.0) for row in rows)])
    return state


@pytest.mark.requirement("TF-14")
def test_only_what_ran_with_the_worker_is_in_doubt() -> None:
    state = begun()
    away = state.row_of("both/there")
    replay(state, [e.TakenOver(2, 3.0, False, (away,))])
    assert list(state.running) == [away]
    assert state.doubts == {state.row_of("both/here"): "outcome_unknown"}
    assert (state.deaths, list(state.suspects)) == (1, [state.row_of("both/here")])


def test_the_journal_keeps_it_by_the_names_of_the_steps() -> None:
    state = begun()
    for event in (e.TakenOver(2, 3.0, False, (state.row_of("both/there"),)), e.TakenOver(2, 3.0, False)):
        row = encode(event, state.ids)
        assert decode(JournalRow(7, *row), state.row_of) == event
    old = JournalRow(7, "taken_over", None, '{"epoch": 2, "poisoned": false}', 3.0)
    assert decode(old, state.row_of) == e.TakenOver(2, 3.0, False, None)
