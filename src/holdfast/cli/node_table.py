"""A node's states as the proposal of 2015 shows them: a table of two columns that scripts have read ever since.

The columns have fixed widths. A list is broken after commas, and a comma at the end of a line may stand in the margin:
the sample in the proposal has such a line, so a wrapper that keeps the margin does not reproduce it.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.cli.show import plain

PROPERTY: Final = 22
VALUE: Final = 38
INDENT: Final = "  "
#: The rows, in the proposal's order.
ROWS: Final = (
    "target_power_state",
    "target_provision_state",
    "last_error",
    "console_enabled",
    "provision_updated_at",
    "power_state",
    "provision_state",
    "supported_power_states",
)
_BORDER: Final = f"+{'-' * (PROPERTY + 2)}+{'-' * (VALUE + 2)}+"


def lines(states: Mapping[str, Any]) -> Iterator[str]:
    """The table, a line each."""
    yield _BORDER
    yield _row("Property", "Value")
    yield _BORDER
    for name in ROWS:
        for number, line in enumerate(_cell(name, states.get(name))):
            yield _row("" if number else name, line)
    yield _BORDER


def _row(name: str, value: str) -> str:
    return f"| {name:<{PROPERTY}} | {value:<{VALUE + 1}}|"


def _cell(name: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return _wrapped(value)
    if name.endswith("_at") and isinstance(value, str):
        value = datetime.fromisoformat(value).astimezone(UTC).isoformat(timespec="seconds")
    return textwrap.wrap(plain(str(value)), VALUE) or [""]


def _wrapped(words: Sequence[Any]) -> list[str]:
    """`["a", "b",` and, beneath, `  "c"]`."""
    texts = [json.dumps(word, ensure_ascii=False) for word in words]
    parts = [*(f"{text}," for text in texts[:-1]), *(f"{text}]" for text in texts[-1:])] or ["]"]
    found = [f"[{parts[0]}"]
    for part in parts[1:]:
        line = f"{found[-1]} {part}"
        if len(line.removesuffix(",")) <= VALUE:
            found[-1] = line
        else:
            found.append(INDENT + part)
    return found
