"""A client that nobody here wrote: openstacksdk's bare metal, as it is, drives nodes and reads what it is answered."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.resources.node import words
from tests.service.nodes import Metal, _metal, metal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openstack
    from keystoneauth1 import noauth, session
    from openstack import exceptions

__all__ = ["_metal", "metal"]

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.fixture
def baremetal(metal: Metal) -> Iterator[Any]:
    said = {"X-User-Id": "u1", "X-Project-Id": metal.project, "X-Roles": "member"}
    base = f"{metal.url}/v1"
    asks = session.Session(auth=noauth.NoAuth(endpoint=base), additional_headers=said)
    made: Any = openstack.connection.Connection(
        session=asks, baremetal_endpoint_override=base, baremetal_api_version="1"
    )
    yield made.baremetal
    asks.session.close()


@pytest.mark.requirement("IRONIC-4", "IRONIC-12")
def test_a_node_from_its_enrolment_to_its_end(baremetal: Any, metal: Metal) -> None:
    info = {"path": str(metal.machines)}
    made = baremetal.create_node(name="sdk", driver="fake", driver_info=info, extra={"rack": "r1"})
    assert (made.name, made.driver, made.provision_state) == ("sdk", "fake", "enroll")
    baremetal.wait_for_nodes_provision_state([made], "manageable", timeout=20)
    assert [(node.id, node.name, node.power_state) for node in baremetal.nodes()] == [(made.id, "sdk", "power on")]
    assert [node.extra for node in baremetal.nodes(details=True, is_maintenance=False)] == [{"rack": "r1"}]
    assert [node.id for node in baremetal.nodes(fields=["uuid"], limit=1)] == [made.id]
    assert baremetal.find_node("sdk").id == baremetal.get_node("sdk").id == made.id
    assert baremetal.find_node("nobody") is None

    for target, wanted in (
        (words.POWER_OFF, words.POWER_OFF), (words.POWER_ON, words.POWER_ON), (words.SOFT_POWER_OFF, words.POWER_OFF),
        (words.REBOOT, words.POWER_ON), (words.SOFT_REBOOT, words.POWER_ON),
    ):  # fmt: skip
        baremetal.set_node_power_state("sdk", target)
        metal.ended(metal.tasks()[0]["uuid"])
        baremetal.wait_for_node_power_state("sdk", wanted, timeout=20)
        assert baremetal.get_node("sdk").power_state == wanted
    baremetal.inject_nmi_to_node("sdk")
    metal.ended(metal.tasks()[0]["uuid"])

    baremetal.set_node_maintenance("sdk", reason="new fan")
    seen = baremetal.get_node("sdk", fields=["maintenance", "maintenance_reason"])
    assert (seen.is_maintenance, seen.maintenance_reason) == (True, "new fan")
    baremetal.unset_node_maintenance("sdk")
    changed = baremetal.update_node(baremetal.get_node("sdk"), name="renamed", extra={"rack": "r2"})
    assert (changed.name, baremetal.get_node("renamed").extra) == ("renamed", {"rack": "r2"})
    patched = baremetal.patch_node("renamed", [{"op": "replace", "path": "/extra/rack", "value": "r3"}])
    assert patched.extra == {"rack": "r3"}
    baremetal.delete_node("renamed")
    metal.ended(metal.tasks()[0]["uuid"])
    assert list(baremetal.nodes()) == []


def test_a_node_that_is_to_be_manageable_at_once(baremetal: Any, metal: Metal) -> None:
    made = baremetal.create_node(name="sdk", driver="fake", driver_info={}, provision_state="manageable")
    assert made.provision_state == "manageable"


@pytest.mark.requirement("IRONIC-4", "IRONIC-6", "IRONIC-7")
def test_targets_that_ironic_never_had_and_refusals(baremetal: Any, metal: Metal) -> None:
    ident = metal.enrol("hung", soft_off="ignored", supported=list(words.TARGETS[:-1]))
    baremetal.set_node_power_state("hung", words.SOFT_POWER_OFF)
    task = metal.tasks()[0]
    metal.until(task["uuid"], "RUNNING", "WAITING")
    baremetal.set_node_power_state("hung", words.ABORT_SOFT_POWER_OFF)
    assert metal.ended(task["uuid"])["state"] == "ABORTED"
    metal.ended(metal.tasks()[0]["uuid"])
    seen = baremetal.get_node(ident)
    assert (seen.power_state, seen.target_power_state) == ("error", None)
    assert seen.last_error
    with pytest.raises(exceptions.BadRequestException) as refused:
        baremetal.set_node_power_state("hung", words.ABORT_INJECT_NMI)
    assert "does not support the power state, abort inject nmi" in str(refused.value)
    with pytest.raises(exceptions.NotFoundException):
        baremetal.get_node("nobody")
