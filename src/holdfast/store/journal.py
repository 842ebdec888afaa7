"""Events as rows of the journal, and back.

Theory: a row must be readable for as long as there are databases, by people too. `kind` is the event's name in snake
case; a `row` of the state's table is kept as the node's id, so that a journal outlives its plan; `data` is JSON: the
codec's text where the event carries one value and nothing else, a failure as its own JSON, else an object by field
name. What is absent is NULL or left out, and reads as None. A stored value comes back as a `Stored`, decoded when
somebody looks: a resumed task reads its journal and not its results.

The events are in core/events.py, the codec in core/values.py. A new field of an event needs a reading of old rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from holdfast.core import values
from holdfast.core.events import DECISIONS, FACTS, VERBS, Checkpointed, Event, Started, Succeeded
from holdfast.core.failure import Failure
from holdfast.core.values import Seal, Stored
from holdfast.store.base import JournalRow, Row

#: Fields that hold a user's value. All others are plain.
VALUES: Final = frozenset(("result", "checkpoint", "value", "payload"))
ROWS: Final = frozenset(("rows", "away"))  # kept as ids
BARE: Final = (Succeeded, Checkpointed)  # `data` is the value's text itself


class _Kind(NamedTuple):
    event: type[Any]
    word: str
    has_row: bool
    fields: tuple[str, ...]  # those in `data`
    bare: str | None  # the one field whose text is `data`


def _kind(event: type[Any]) -> _Kind:
    word = re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()
    names: tuple[str, ...] = event._fields
    inside = tuple(name for name in names if name not in ("row", "at"))
    bare = inside[0] if event in BARE or inside == ("failure",) else None
    return _Kind(event, word, "row" in names, inside, bare)


KINDS: Final = {event: _kind(event) for event in (*VERBS, *FACTS, *DECISIONS)}
WORDS: Final = {kind.word: kind for kind in KINDS.values()}


# --- to the journal ----------------------------------------------------------------------------------------------


def encode(event: Event, ids: Sequence[str], seal: Seal | None = None) -> Row:
    """The event as a row; `ids` has the id of each row of the state's table.

    Raises what the codec raises for a value that isn't a `Stored` yet.
    """
    if type(event) is Started:  # these two are every step's
        plain = event.attempt == 1 and event.deadline_at is None and not event.agent
        return Row("started", ids[event.row], None if plain else _object(KINDS[Started], event, ids, seal), event.at)
    if type(event) is Succeeded:
        return Row("succeeded", ids[event.row], _text(event.result, seal), event.at)
    kind = KINDS[type(event)]
    if kind.bare is not None:
        data = _field(kind.bare, getattr(event, kind.bare), ids, seal)
    else:
        data = _object(kind, event, ids, seal)
    node = ids[event.row] if kind.has_row else None  # type: ignore[union-attr]
    return Row(kind.word, node, data, event.at)


def _text(value: Any, seal: Seal | None) -> str | None:
    """None is NULL."""
    if value is None:
        return None
    text = value.text if type(value) is Stored else values.encode(value, seal)
    return None if text == "null" else text


def _object(kind: _Kind, event: Any, ids: Sequence[str], seal: Seal | None) -> str | None:
    parts = []
    for name in kind.fields:
        text = _field(name, getattr(event, name), ids, seal)
        if text is not None:
            parts.append(f'"{name}": {text}')
    return f"{{{', '.join(parts)}}}" if parts else None


def _field(name: str, value: Any, ids: Sequence[str], seal: Seal | None) -> str | None:
    if value is None:
        return None
    if name in VALUES:
        return _text(value, seal)
    if name == "failure":
        return json.dumps(value.to_json())
    if name in ROWS:
        return json.dumps([ids[row] for row in value])
    if name == "answers":
        return _answers(value, seal)
    return json.dumps(value)


def _answers(answers: dict[str, tuple[str, Any]], seal: Seal | None) -> str:
    said = (f"{json.dumps(step)}: [{json.dumps(word)}, {_text(result, seal) or 'null'}]" for step, (word, result) in
            answers.items())  # fmt: skip
    return f"{{{', '.join(said)}}}"


# --- from the journal --------------------------------------------------------------------------------------------


def decode(row: JournalRow, index_of: Callable[[str], int], unseal: Seal | None = None) -> Event:
    """The event of a row; `index_of` finds a node's row in the state's table as it is after the events before.

    Raises: KeyError: what `index_of` raised, or a kind of event that this Holdfast doesn't know.
    """
    _, word, node, data, at = row
    if word == "started" and data is None:
        return Started(index_of(node or ""), 1, None, at)
    if word == "succeeded":
        return Succeeded(index_of(node or ""), None if data is None else Stored(data, unseal), at)
    kind = WORDS[word]
    found: dict[str, Any] = dict.fromkeys(kind.fields)
    if kind.has_row:
        found["row"] = index_of(node or "")
    if kind.bare is not None and kind.bare != "failure":
        found[kind.bare] = None if data is None else Stored(data, unseal)
    elif data is not None:
        read = json.loads(data)
        if kind.bare is not None:
            read = {kind.bare: read}
        for name in kind.fields:
            found[name] = _read(name, read.get(name), index_of, unseal)
    event: Event = kind.event(**found, at=at)
    return event


def _read(name: str, value: Any, index_of: Callable[[str], int], unseal: Seal | None) -> Any:
    if name == "answers":
        return {step: (word, _stored(result, unseal)) for step, (word, result) in (value or {}).items()}
    if value is None:
        return None
    if name in VALUES:
        return _stored(value, unseal)
    if name == "failure":
        return Failure.from_json(value)
    if name in ROWS:
        return tuple(map(index_of, value))
    return value


def _stored(value: Any, unseal: Seal | None) -> Stored | None:
    """The text again: these are rare and small, and their values are decoded later or never."""
    return None if value is None else Stored(json.dumps(value), unseal)
