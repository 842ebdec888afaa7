"""The table of a node's states, byte for byte as the proposal for Ironic shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.cli import node_table
from holdfast.resources.node import words

GOLDEN = Path(__file__).with_name("node_states.txt")
SAMPLE: dict[str, Any] = {
    "console_enabled": False,
    "last_error": None,
    "power_state": "power on",
    "provision_state": "active",
    "provision_updated_at": "2015-08-01T00:00:00.000000Z",
    "target_power_state": words.SOFT_POWER_OFF,
    "target_provision_state": None,
    "supported_power_states": list(words.TARGETS),
}


def table(**states: Any) -> list[str]:
    return list(node_table.lines(SAMPLE | states))


@pytest.mark.requirement("IRONIC-13")
def test_the_sample_of_the_proposal() -> None:
    assert "\n".join(table()) + "\n" == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.requirement("IRONIC-13")
def test_the_borders_stay_where_they_are_whatever_there_is_to_say() -> None:
    long = "the BMC said: " + "x" * 90 + " and no more"
    found: tuple[dict[str, Any], ...] = (
        {"last_error": long},
        {"last_error": "two\nlines\x1b[2J and a bell\a"},
        {"supported_power_states": []},
        {"supported_power_states": [words.POWER_ON]},
        {"supported_power_states": ["y" * 35, words.POWER_ON]},
        {"supported_power_states": [words.POWER_ON, "y" * 31, "z"]},
        {"provision_updated_at": None, "power_state": None},
        {"last_error": ""},
    )
    for states in found:
        lines = table(**states)
        assert {len(line) for line in lines} == {67}
        assert {(line[0], line[25], line[-1]) for line in lines} == {("+", "+", "+"), ("|", "|", "|")}
        assert all(line.isprintable() for line in lines)
        names = [line[2:24].strip() for line in lines if line[0] == "|" and line[2:24].strip()]
        assert names == ["Property", *node_table.ROWS]


def test_what_is_wrapped_can_be_put_together_again() -> None:
    said = "the machine was not off after 300 s: it may ignore its power button (soft power off)"
    lines = [line[27:66].strip() for line in table(last_error=said)[5:]]
    assert " ".join(lines[: lines.index("False")]) == said


def test_times_are_told_to_the_second_in_utc() -> None:
    assert "2026-11-21T05:58:24+00:00" in table(provision_updated_at="2026-11-21T06:58:24.999999+01:00")[7]
