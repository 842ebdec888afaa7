"""The checker finds what is wrong with a table, and a drawing shows what is in it."""

from __future__ import annotations

import pytest

from holdfast.core.diagram import dot, mermaid, table
from holdfast.core.states import STEP, TASK
from holdfast.core.table import ANEW, IGNORE, REFUSE, Machine, Row, faults, final, moving, resting
from holdfast.errors import MachineFault

SOUND = {
    "BUILDING": moving(built="ACTIVE", stop="GONE", worker_died=IGNORE),
    "ACTIVE": resting(stop="GONE"),
    "GONE": final(stop=REFUSE),
}


def wrong(**rows: Row) -> list[str]:
    return faults(Machine("server", {**SOUND, **rows}, verbs=("stop",), check=False))


def test_a_sound_table_has_no_faults() -> None:
    assert wrong() == []


@pytest.mark.requirement("NOVA-9")
@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"ACTIVE": resting(stop="GON")}, "ACTIVE: stop leads to GON, which is not declared"),
        ({"LOST": resting(stop="GONE")}, "LOST can't be reached from BUILDING"),
        ({"ACTIVE": resting(stop="ACTIVE")}, "ACTIVE is a dead end: no final state can be reached"),
        ({"GONE": final(stop=REFUSE, built="ACTIVE")}, "GONE is final, and built leads out of it to ACTIVE"),
        ({"GONE": final()}, "GONE has no answer to stop"),
        ({"ACTIVE": resting()}, "ACTIVE has no answer to stop"),
        ({"ACTIVE": resting(stop=REFUSE)}, "ACTIVE is left by no input"),
        ({"ACTIVE": resting(stop=REFUSE, rot="GONE")}, "ACTIVE is left by no operator verb"),
        ({"ACTIVE": resting(stop=ANEW, rot="GONE")}, "ACTIVE: stop makes a new task while this one has not ended"),
        (
            {"BUILDING": moving(built="ACTIVE", stop="GONE")},
            "BUILDING is moving and has no answer to worker_died",
        ),
    ],
)
def test_every_fault_is_a_sentence_that_names_the_state(rows: dict[str, Row], says: str) -> None:
    assert says in wrong(**rows)


@pytest.mark.requirement("NOVA-9")
def test_an_unsound_machine_is_refused_when_it_is_made() -> None:
    with pytest.raises(MachineFault, match="LOST can't be reached"):
        Machine("server", {**SOUND, "LOST": resting(stop="GONE")}, verbs=("stop",))
    with pytest.raises(MachineFault, match="has no states"):
        Machine("server", {})


def test_a_misspelt_input_is_a_fault_where_the_inputs_are_known() -> None:
    machine = Machine("server", SOUND, verbs=("stop",), inputs=("bilt",), check=False)
    assert faults(machine) == ["BUILDING answers built, which is no input of server"]


@pytest.mark.requirement("NOVA-10")
@pytest.mark.parametrize("machine", [TASK, STEP], ids=["task", "step"])
def test_every_edge_is_drawn(machine: Machine) -> None:
    drawn, graph, rows = mermaid(machine), dot(machine), table(machine)
    assert drawn.startswith("stateDiagram-v2\n")
    assert graph.count("{") == graph.count("}") == 1
    for source, given, target in machine.edges():
        arrow = f"{source.replace('/', '_')} --> {target.replace('/', '_')}:"
        assert any(line.strip().startswith(arrow) and given in line for line in drawn.splitlines())
        assert any(f'"{source}" -> "{target}"' in line and given in line for line in graph.splitlines())
        assert any(line.startswith(source) and target in line for line in rows.splitlines())
