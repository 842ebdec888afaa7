"""A kind is checked when it is registered, and an operation needs no other edit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import holdfast as hf
from holdfast.core.table import Row
from holdfast.errors import HoldfastError, KindError, MissingInput
from holdfast.resources.kind import Kind, final, resting
from holdfast.resources.registry import Kinds, World
from holdfast.resources.state import ResourceRow
from holdfast.store.schema import resources
from tests.resources.conftest import Shop
from tests.resources.ports import make_kind


class Fields(msgspec.Struct, kw_only=True):
    name: str = ""


def nothing(kind: Kind) -> hf.Flow:
    def noop() -> None: ...

    return hf.linear("nothing", noop)


def kind_of(lifecycle: dict[str, Row], operations: dict[str, dict[str, Any]], **options: Any) -> Kind:
    made = Kind("thing", fields=Fields, lifecycle=lifecycle, **options)
    for name, given in operations.items():
        made.operation(name, **given)(nothing)
    return made


SOUND: dict[str, dict[str, Any]] = {"create": {"ends": "UP"}, "delete": {"ends": "GONE"}}
STATES = {"NEW": resting(), "UP": resting(), "GONE": final()}


def test_a_sound_kind_is_registered() -> None:
    kinds = Kinds([kind_of(STATES, SOUND)])
    assert [kind.name for kind in kinds] == ["thing"]
    machine = kinds.kind("thing").machine()
    assert set(machine.edges()) == {
        ("NEW", "create", "UP"), ("NEW", "create_undone", "GONE"), ("UP", "delete", "GONE")
    }  # fmt: skip
    assert machine.verbs_allowed("UP") == ["delete"]


@pytest.mark.requirement("NOVA-9")
@pytest.mark.parametrize(
    ("states", "operations", "said"),
    [
        ({"LOST": resting()}, {}, "LOST can't be reached from NEW"),
        ({"STUCK": resting()}, {"wedge": {"starts": ("UP",), "ends": "STUCK"}}, "STUCK is left by no input"),
        ({"STUCK": resting()}, {"wedge": {"starts": ("UP",), "ends": "STUCK"}}, "STUCK is a dead end"),
        (
            {"STUCK": resting(heals="UP")},
            {"wedge": {"starts": ("UP",), "ends": "STUCK"}},
            "STUCK is left by no operator verb",
        ),
        (
            {"A": resting(), "B": resting()},
            {
                "in": {"starts": ("UP",), "ends": "A"},
                "to": {"starts": ("A",), "ends": "B"},
                "fro": {"starts": ("B",), "ends": "A"},
            },
            "A is a dead end.*B is a dead end",
        ),
        ({"ERROR": resting()}, {}, "ERROR is left by no"),
        ({"END": final(out="UP")}, {"end": {"starts": ("UP",), "ends": "END"}}, "END is final, and out leads out"),
        ({}, {"heal": {"starts": ("GONE",), "ends": "UP"}}, "GONE is final, and heal leads out of it"),
    ],
)
def test_a_fault_of_the_lifecycle_is_an_error_that_names_the_state(
    states: dict[str, Row], operations: dict[str, dict[str, Any]], said: str
) -> None:
    given = {name: {"starts": ("UP",), **each} if name == "delete" else each for name, each in SOUND.items()}
    kind = kind_of({**STATES, **states}, {**given, **operations})
    with pytest.raises(KindError, match=said):
        Kinds([kind])


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda kind: kind.operation("stop", starts=("UPP",)), "'UPP' is no state of its lifecycle"),
        (lambda kind: kind.operation("stop", ends="OFF"), "'OFF' is no state"),
        (lambda kind: kind.operation("delete"), "declared already"),
        (lambda kind: kind.operation("verify"), "the system makes it"),
        (lambda kind: kind.operation("a/b"), "a/b"),
        (lambda kind: kind.operation("stop", mode="alone"), "mode='alone'"),
        (lambda kind: kind.operation("stop", params=Desired), "a parameter can't be called 'desired'"),
        (lambda kind: Kind("x", fields=Fields, lifecycle={}), "has no lifecycle"),
        (lambda kind: Kind("x", fields=Fields, lifecycle=STATES, fault="BAD"), "fault: 'BAD' is no state"),
        (lambda kind: Kinds([kind, kind_of(STATES, SOUND)]), "two kinds are called 'thing'"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(declare: Callable[[Kind], Any], said: str) -> None:
    with pytest.raises(HoldfastError, match=said):
        declare(kind_of(STATES, SOUND))


class Desired(msgspec.Struct):
    desired: str


def test_a_step_that_asks_for_what_nobody_gives_is_found_when_the_database_is_opened() -> None:
    kind = kind_of(STATES, SOUND)

    @kind.operation("frob")
    def frob(kind: Kind) -> hf.Flow:
        def needs(colour: str) -> None: ...

        return hf.linear("frob", needs)

    with pytest.raises(KindError, match=r"operation thing\.frob: .*colour") as refused:
        hf.open("sqlite:///:memory:", kinds=[kind])
    assert isinstance(refused.value.__cause__, MissingInput)


@pytest.mark.requirement("NOVA-12")
def test_another_operation_needs_no_other_edit(tmp_path: Path) -> None:
    port = make_kind(tmp_path)

    class Frob(msgspec.Struct):
        times: int = 2

    @port.operation("frobnicate", starts=("ACTIVE",), params=Frob)
    def frobnicate(kind: Kind) -> hf.Flow:
        def frob(resource_id: str, times: int) -> dict[str, Any]:
            kind.driver.say("frob", resource_id, times)
            return {"frobs": times}

        return hf.linear("frobnicate", hf.step(frob, provides="observed"), version="7", on_failure="keep")

    shop = Shop(tmp_path, port)
    made = shop.port()
    task = shop.do("frobnicate", made.id)
    view = task.view()
    assert (view["task"], view["state"], view["resource_type"], view["resource_id"]) == (
        "frobnicate", "SUCCEEDED", "port", made.id
    )  # fmt: skip
    assert shop.backend.said("frob") == [["frob", made.id, 2]]
    assert made.view()["observed"]["frobs"] == 2
    assert [each.id for each in shop.hold.tasks(resource_id=made.id, task="frobnicate")] == [task.id]
    shop.hold.close()


def test_one_kind_can_have_several_drivers(tmp_path: Path) -> None:
    def reader(kind: Kind) -> hf.Flow:
        def ask() -> str:
            return str(kind.driver)

        return hf.linear("ask", hf.step(ask, provides="answer"))

    kind = kind_of(STATES, SOUND)
    kind.operation("ask", starts=("UP",))(reader)
    for driver in ("one", "two"):
        with hf.open("sqlite:///:memory:", kinds=[kind.using(driver)]) as hold:
            hold.operate("thing", "create", "t", desired={})
            task = hold.operate("thing", "ask", "t")
            hold.work(until_idle=True)
            assert task.results["answer"] == driver


def test_the_row_is_the_table() -> None:
    assert ResourceRow._fields == tuple(column.name for column in resources.columns)


def test_what_needs_the_database_of_kinds_that_are_not_open_says_how_to_open_them() -> None:
    with pytest.raises(KindError, match=r"not open: give them to hf\.open"):
        _ = World().hold
