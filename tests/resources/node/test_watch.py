"""BMCs that can't be seen by the power sync: what is said of them, and how often they are asked."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import holdfast as hf
from holdfast.resources.node import watch, words
from holdfast.resources.node.kind import make_node
from tests.resources.node.conftest import Node, Yard
from tests.resources.node.test_sync import look

NOBODY = {"seen": 1, "drifted": 0, "busy": 0, "unreachable": 0}


def observed(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = node.view()["observed"]
    return found


def test_a_bmc_that_refuses_the_password_is_not_logged_in_to_each_round(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    again_s = 2.0
    monkeypatch.setattr(watch, "REFUSED_S", again_s)
    node = yard.enrol()
    yard.machine(node).behave(faults=[{"what": "auth"}])
    before = len(yard.calls(node))
    look(yard), look(yard), look(yard)
    assert len(yard.calls(node)) == before + 1
    error = yard.states(node)["last_error"]
    assert "unauthorized" in error
    assert "the power sync tries that again at 20" in error
    assert node.sync_status == "OUT_OF_SYNC"
    first = observed(node)["unseen"]
    assert (first["refused"], first["again_at"] - first["since"]) == (1, pytest.approx(again_s, abs=1.0))
    threading.Event().wait(again_s + 0.1)
    look(yard), look(yard)
    assert len(yard.calls(node)) == before + 2
    second = observed(node)["unseen"]
    assert (second["refused"], second["since"]) == (2, first["since"])
    assert second["again_at"] - first["again_at"] > 2 * again_s  # twice as long
    yard.machine(node).behave(faults=[])
    task = yard.do(node, "power_off")  # what somebody asks for is not put off
    assert task.state == "SUCCEEDED"
    assert look(yard) == NOBODY  # who was let in shows that the password is right
    assert len(yard.calls(node)) > before + 4
    assert (yard.states(node)["last_error"], observed(node)["unseen"]) == (None, None)


def test_another_password_is_tried_at_once(yard: Yard) -> None:
    node = yard.enrol()
    yard.machine(node).behave(faults=[{"what": "auth"}])
    look(yard)
    before = len(yard.calls(node))
    look(yard)
    assert len(yard.calls(node)) == before
    yard.machine(node).behave(faults=[])
    yard.machine(node).turn(words.POWER_OFF)
    yard.until_ended(node.update({**node.desired, "extra": {"rack": "7"}}))
    assert look(yard) == NOBODY
    assert len(yard.calls(node)) == before + 1
    assert yard.shown(node)[0] == words.POWER_OFF
    assert yard.states(node)["last_error"] is None


def test_a_restart_asks_nobody_who_has_refused(yard: Yard) -> None:
    node = yard.enrol()
    yard.machine(node).behave(faults=[{"what": "auth"}])
    look(yard)
    before = len(yard.calls(node))
    with hf.open(yard.url, kinds=[make_node()], lease_s=1.0) as other:
        (task,) = other.watch_drift(rounds=1)
        yard.hold.close()
        other.work(until_idle=True)
        assert task.view()["state"] == "SUCCEEDED"
    assert len(yard.calls(node)) == before


def test_a_bmc_that_gives_no_answer_is_shown_until_it_does(yard: Yard) -> None:
    node = yard.enrol()
    yard.machine(node).behave(faults=[{"what": "unreachable"}])
    assert look(yard) == {"seen": 0, "drifted": 0, "busy": 0, "unreachable": 1}
    told, since = yard.states(node)["last_error"], observed(node)["unseen"]["since"]
    assert told
    revision = node.view()["updated_at"]
    assert look(yard)["unreachable"] == 1  # each round asks it
    assert (observed(node)["unseen"]["since"], node.view()["updated_at"]) == (since, revision)  # and tells nothing anew
    assert yard.shown(node)[0] == words.POWER_ON  # as it was seen last
    yard.machine(node).behave(faults=[])
    assert look(yard) == NOBODY
    assert (yard.states(node)["last_error"], observed(node)["unseen"]) == (None, None)


def test_a_change_that_fails_says_why_until_it_is_taken_back(yard: Yard) -> None:
    node = yard.enrol()
    yard.machine(node).behave(faults=[{"what": "auth"}])
    good = node.desired
    info = {**good["driver_info"], "fake": {"delay_s": 0.01}}
    task = yard.until_ended(node.update({**good, "driver_info": info}))
    assert task.state == "FAILED"
    assert yard.states(node)["last_error"] == "the BMC answered: unauthorized name or password"
    assert yard.until_ended(node.update(good)).state == "SUCCEEDED"  # the way that is known, which is not checked
    assert yard.states(node)["last_error"] is None
    assert yard.do(node, "manage").state == "FAILED"
    assert "unauthorized" in yard.states(node)["last_error"]
