"""The demo's BMC as a real process: its knobs, its log, and its death with its parent."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.calls import Bmc, Node
from demo.children import Children, members, until

NAMES = ["quick", "slow", "deaf", "held", "broken", "nmi", "guided"]


@pytest.fixture(scope="module")
def bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bmc]:
    with Children() as children:
        bmc = Bmc(tmp_path_factory.mktemp("bmc"), NAMES)
        bmc.start(children)
        yield bmc


def ask(node: Node, reset: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", node.bmc.port, timeout=10)
    try:
        connection.request(
            "POST",
            f"/redfish/v1/Systems/{node.system}/Actions/ComputerSystem.Reset",
            body=json.dumps({"ResetType": reset}),
            headers={"Content-Type": "application/json", "User-Agent": "a test"},
        )
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def power(node: Node) -> str:
    node.look("a test")
    return node.calls()[-1].power


def test_off_and_on(bmc: Bmc) -> None:
    node = bmc.nodes["quick"]

    assert [power(node), ask(node, "ForceOff"), power(node), ask(node, "On"), power(node)] == [
        "On",
        204,
        "Off",
        204,
        "On",
    ]


def test_the_log_says_who_asked_what_and_what_was_answered(bmc: Bmc) -> None:
    node = bmc.nodes["guided"]
    node.set("acpi_delay", "hold")
    ask(node, "GracefulShutdown")
    node.clear("acpi_delay")
    node.look("somebody")

    assert [call[1:] for call in node.calls()] == [
        ("a test", "POST", "GracefulShutdown", 204, "On"),
        ("the guest", "guest", "went off", None, "Off"),
        ("somebody", "GET", "power", 200, "Off"),
    ]


def test_a_slow_guest_goes_off_in_its_own_time(bmc: Bmc) -> None:
    node = bmc.nodes["slow"]
    node.set("acpi_delay", "0.3")
    ask(node, "GracefulShutdown")
    until(lambda: power(node) == "Off", "the guest to go off", limit_s=20)
    pressed, off = (
        next(call.at for call in node.calls() if call.what == what) for what in ("GracefulShutdown", "went off")
    )

    assert off - pressed >= 0.25


def test_a_held_guest_goes_off_when_it_is_let(bmc: Bmc) -> None:
    node = bmc.nodes["held"]
    node.set("acpi_delay", "hold")
    ask(node, "GracefulShutdown")
    before = power(node)
    on_again = ask(node, "On")  # says nothing to a machine that is on: the button stays pressed
    node.clear("acpi_delay")

    assert (before, on_again, power(node)) == ("On", 204, "Off")


def test_a_deaf_guest_hears_the_button_later(bmc: Bmc) -> None:
    node = bmc.nodes["deaf"]
    node.set("ignore_acpi")
    ask(node, "GracefulShutdown")
    before = power(node)
    node.clear("ignore_acpi")

    assert (before, power(node)) == ("On", "Off")


def test_errors_are_counted_and_end(bmc: Bmc) -> None:
    node = bmc.nodes["broken"]
    ask(node, "ForceOff")
    node.set("fail", "503 2 On")

    assert [ask(node, "GracefulShutdown"), ask(node, "On"), ask(node, "On"), ask(node, "On")] == [204, 503, 503, 204]
    node.set("fail", "500")
    assert [ask(node, "On"), ask(node, "On")] == [500, 500]


def test_nmi_wants_a_machine_that_is_on(bmc: Bmc) -> None:
    node = bmc.nodes["nmi"]

    assert [ask(node, "Nmi"), ask(node, "ForceOff"), ask(node, "Nmi")] == [204, 204, 409]
    assert ask(node, "Nonsense") == 501


PARENT = """
import sys
from pathlib import Path
from demo.calls import Bmc
from demo.children import Children
bmc = Bmc(Path(sys.argv[1]), ["one"])
bmc.start(Children())
print(bmc.process.pid, flush=True)
sys.stdin.read()
"""


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        alive = members([pid])
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not members([pid]), "the BMC to die", limit_s=20)

    assert alive == [pid]


def test_ending_the_children_leaves_nobody(tmp_path: Path) -> None:
    children = Children()
    child = children.start(["sh", "-c", "trap '' TERM; sleep 1000 & echo ready; wait; sleep 1000"], tmp_path / "output")
    until(lambda: child.new_lines() == ["ready"], "the shell and its child", limit_s=20)
    before = len(members([child.pid]))
    child.kill9()
    children.end_all()

    assert (before, children.left()) == (2, [])
