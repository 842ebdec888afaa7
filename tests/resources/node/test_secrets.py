"""What is secret of a node: sealed where it is stored, in the clear for its driver alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.resources.node import drivers
from holdfast.resources.node.fake import Fake
from holdfast.resources.node.power import Bmc
from holdfast.seal import new_key
from tests.postgresql import stored_at
from tests.resources.node.conftest import Yard


@pytest.mark.requirement("IRONIC-1")
def test_what_a_driver_calls_secret_is_sealed_as_the_password_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Guarded(Fake):
        secrets = ("token",)

        def get_power_state(self, bmc: Bmc) -> str:
            opened.append((bmc.info["password"], bmc.info["token"]))
            return super().get_power_state(bmc)

    opened: list[tuple[str, str]] = []
    monkeypatch.setitem(drivers._made, "guarded", Guarded())
    yard = Yard(tmp_path, secret_key=new_key())
    info = {"password": "open sesame", "token": "t0ken-of-the-bmc", "fake": {}}
    with yard.hold, yard.hold.working():
        task = yard.hold.operate("node", "create", desired={"name": "n", "driver": "guarded", "driver_info": info})
        assert yard.until_ended(task).state == "SUCCEEDED", task.failure
        node = yard.hold.resource("node", task.view()["resource_id"])
        assert node.desired["driver_info"] == {**info, "password": "******", "token": "******"}
        assert yard.until_ended(node.update({**node.desired, "extra": {"rack": 7}})).state == "SUCCEEDED"
        assert yard.do(node, "power_off").state == "SUCCEEDED"
        yard.until_ended(yard.hold.watch_drift(rounds=1)[0])
        stored = stored_at(tmp_path / "tasks.db")
    assert b"power_off" in stored
    assert set(opened) == {("open sesame", "t0ken-of-the-bmc")}
    assert len(opened) >= 4  # enrolled, looked at before and after it went off, and by the watch
    assert b"open sesame" not in stored
    assert b"t0ken-of-the-bmc" not in stored


def test_the_password_is_secret_whatever_the_driver() -> None:
    assert drivers.secrets("fake") == drivers.secrets("no-such-driver") == ("password",)
