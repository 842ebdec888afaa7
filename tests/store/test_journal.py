"""Events survive their journal: every kind, every field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import values
from holdfast.core.events import DECISIONS, FACTS, VERBS, Checkpointed, Event, ResumeAsked, Started, Succeeded
from holdfast.core.failure import Failure
from holdfast.core.values import Stored
from holdfast.errors import ValueRefused
from holdfast.store import journal
from holdfast.store.base import JournalRow

EVENTS = (*VERBS, *FACTS, *DECISIONS)
IDS = ["build/(open)", "build/a", "build/ü[0]/b", "build/(close)"]

ROWS = st.integers(0, len(IDS) - 1)
TIMES = st.floats(0, 4e9)
TEXTS = st.text(max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)
CAUSES = st.builds(Failure, st.tuples(TEXTS, TEXTS), TEXTS, st.none() | TEXTS)
FAILURES = CAUSES | st.builds(Failure, st.tuples(TEXTS), TEXTS, st.none(), st.tuples(CAUSES))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "row": ROWS,
    "rows": st.lists(ROWS, max_size=3).map(tuple),
    "away": st.none() | st.lists(ROWS, min_size=1, max_size=3).map(tuple),
    **dict.fromkeys(("agent", "ours"), st.none() | st.just(True)),
    "failure": FAILURES,
    "answers": st.dictionaries(TEXTS, st.tuples(TEXTS, PLAIN), max_size=3),
    **dict.fromkeys(("result", "checkpoint", "value", "payload"), PLAIN),
    **dict.fromkeys(("attempt", "entries", "epoch", "length"), st.integers(0, 99)),
    **dict.fromkeys(("poisoned", "release_claims", "revert", "yes"), st.booleans()),
    **dict.fromkeys(("event", "deadline_at", "why"), st.none() | TEXTS),
    **dict.fromkeys(("actor", "reason", "name", "goal", "state", "digest", "verdict"), TEXTS),
    "deadline_at": st.none() | TIMES,
    "until": TIMES,
    "at": TIMES,
}


def opened(event: Any) -> Any:
    """The event with its values decoded, to be compared."""
    if type(event) is ResumeAsked:
        return event._replace(answers={step: (word, _open(value)) for step, (word, value) in event.answers.items()})
    return event._replace(**{name: _open(getattr(event, name)) for name in event._fields if name in journal.VALUES})


def _open(value: Any) -> Any:
    return value.value if type(value) is Stored else value


def through(event: Event) -> Event:
    row = journal.encode(event, IDS)
    return journal.decode(JournalRow(7, *row), IDS.index)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_every_event_comes_back(kind: type[Any], data: st.DataObject) -> None:
    event = kind(**{name: data.draw(FIELDS[name]) for name in kind._fields})
    assert opened(through(event)) == event
    row = journal.encode(event, IDS)
    assert row.at == event.at
    assert row.node == (IDS[event.row] if hasattr(event, "row") else None)
    assert row.data is None or json.loads(row.data) is not None


def test_kinds_are_the_names_of_the_events() -> None:
    assert {kind.event for kind in journal.WORDS.values()} == set(EVENTS)
    assert {"cancel_asked", "succeeded", "scope_turned", "revert_started"} <= set(journal.WORDS)


def test_a_stored_value_is_kept_as_it_is() -> None:
    text = values.encode({"when": (1, 2)})
    assert journal.encode(Succeeded(1, Stored(text), 5.0), IDS) == ("succeeded", "build/a", text, 5.0)


def test_a_value_is_decoded_when_somebody_asks_for_it() -> None:
    event = journal.decode(JournalRow(1, "succeeded", "build/a", '{"$": "gone", "v": 1}', 5.0), IDS.index)
    assert isinstance(event, Succeeded)
    with pytest.raises(ValueRefused):
        _open(event.result)


@pytest.mark.parametrize("event", [Succeeded(1, None, 1.0), Checkpointed(1, None, 1.0), Started(1, 1, None, 1.0)])
def test_nothing_to_say_is_null(event: Event) -> None:
    assert journal.encode(event, IDS).data is None
    assert through(event) == event


def test_a_node_that_is_gone_is_not_guessed() -> None:
    row = JournalRow(1, "succeeded", "build/renamed", None, 1.0)
    with pytest.raises(KeyError):
        journal.decode(row, {name: at for at, name in enumerate(IDS)}.__getitem__)


def test_a_kind_of_a_later_version_is_refused() -> None:
    with pytest.raises(KeyError, match="levitated"):
        journal.decode(JournalRow(1, "levitated", None, None, 1.0), IDS.index)
