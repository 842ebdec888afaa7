"""A worker dies in the middle of an operation: the resource is as the story says, whoever goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.resources.conftest import Shop

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.requirement("G1", "G8")
def test_another_worker_goes_on_with_the_operation(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    behind = shop.ask("update", port.id, desired={"mtu": 3})
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.resources.process", shop.backend.directory, port.id, "0", "0"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert worker.stdin is not None
    worker.stdin.write(b"go\n")
    worker.stdin.flush()
    shop.until_said("write", port.id, 2)
    worker.kill()
    worker.communicate()
    assert (port.sync_status, port.applied_revision, port.view()["queue_length"]) == ("SYNCING", 1, 2)
    shop.backend.turn("go")
    shop.work()
    assert (task.state, behind.state) == ("SUCCEEDED", "SUCCEEDED")
    assert [line[2] for line in shop.backend.said("write", port.id)] == [1, 2, 2, 3]
    assert [line[2] for line in shop.backend.said("written", port.id)] == [1, 2, 3]
    assert (port.sync_status, port.applied_revision, port.view()["queue_length"]) == ("IN_SYNC", 3, 0)
