"""The service answers."""

from __future__ import annotations

from tests.service.conftest import Served, Service


def test_a_task_is_asked_for_done_and_looked_at(service: Service) -> None:
    task = service.submit("quick", params={"number": 2})
    done = service.until(task["uuid"], "SUCCEEDED")
    assert done["result"] == {"sum": 3}


def test_a_served_process_does_the_same(served: Served) -> None:
    task = served.submit("undoable")
    served.until(task["uuid"], "SUCCEEDED")
    assert served.witnessed() == ["mark"]
    assert served.terminate() < 5
    assert served.process.returncode == 0
