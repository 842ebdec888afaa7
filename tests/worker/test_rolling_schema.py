"""A database is upgraded under running processes: those of the revision before go on beside those of the next one, if
it works with them; else they end, and say why."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from holdfast.errors import HoldfastError, SchemaNewer, StoreBusy
from holdfast.local import Holdfast
from holdfast.local import open as open_database
from holdfast.store import migrations
from tests.worker import pool_flows
from tests.worker.house import PATIENCE_S, REPOSITORY, House, until
from tests.worker.newer import NEXT

pytestmark = pytest.mark.requirement("P1")


def upgraded(house: House, works_with: str) -> subprocess.CompletedProcess[str]:
    """By the next revision's `holdfast db upgrade`."""
    return subprocess.run(
        newer(house, works_with, "upgrade"), cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_S
    )


def newer(house: House, works_with: str, what: str) -> list[str]:
    return [sys.executable, "-m", "tests.worker.newer", str(house.directory / "next"), works_with, what, house.url]


class NewerWorker:
    """A worker of the next revision: an interpreter of its own, because all of it is that revision."""

    def __init__(self, house: House, works_with: str) -> None:
        self.process = subprocess.Popen(
            [*newer(house, works_with, "worker"), json.dumps({"lease_s": 60.0})],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.process.pid
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def leave(self) -> int:
        """Ask it to go once it has nothing to do; its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.leave()


def ask(hold: Holdfast, house: House, numbers: range) -> list[str]:
    return [hold.submit(pool_flows.plugged, {"at": house.at, "number": number}).id for number in numbers]


def test_old_and_new_processes_work_on_one_database(house: House) -> None:
    hold = house.open()
    old = house.worker(lease_s=60.0, workers_max=1)
    first = ask(hold, house, range(5))
    done = upgraded(house, migrations.HEAD)
    assert done.stdout.strip() == str((migrations.HEAD, NEXT)), done.stderr
    new = NewerWorker(house, migrations.HEAD)
    try:
        second = ask(hold, house, range(5, 40))
        started_later = house.worker(lease_s=60.0)  # one that dies is started again, though its code is old
        with open_database(house.url) as again:
            third = ask(again, house, range(40, 60))
            for task in first + second + third:
                assert hold.task(task).wait(PATIENCE_S).state == "SUCCEEDED"
        lines = [line for line in house.lines() if line.what == "effect"]
        assert Counter(line.extra for line in lines) == Counter(range(60))
        worked = {line.pid for line in lines}
        assert {old.pid, new.pid} <= worked, "each has done some"
        assert {old.leave(), started_later.leave(), new.leave()} == {0}
    finally:
        new.kill()


def test_an_upgrade_that_cuts_code_off_ends_who_runs_it(house: House) -> None:
    """On a server they are disconnected, find what became of the schema, and end; a file must be in nobody's use."""
    hold = house.open()
    errors = house.directory / "said"
    with errors.open("w") as said:
        worker = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "worker", "--database", house.url],
            cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=said, text=True,
        )  # fmt: skip
    try:
        task = hold.submit(pool_flows.held, {"at": house.at, "number": 1})
        house.until_said("enter")
        done = upgraded(house, NEXT)
        if house.url.startswith("sqlite"):
            assert (done.returncode, "stop the services and workers first" in done.stderr) == (1, True)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_S) == 0
            hold.close()
            done = upgraded(house, NEXT)
        else:
            assert worker.wait(PATIENCE_S) == 2
            assert "upgrade this one" in errors.read_text()
            for asks in (lambda: hold.task(task.id), lambda: ask(hold, house, range(1))):
                until(lambda asks=asks: is_cut_off(asks))  # type: ignore[misc]
        assert done.stdout.strip() == str((migrations.HEAD, NEXT)), done.stderr
        with pytest.raises(SchemaNewer, match=f"works with {NEXT} and later.*upgrade this one"):
            open_database(house.url)
        assert "enter" in house.said()
        house.turn("go")
        new = NewerWorker(house, NEXT)
        until(lambda: house.said().count("leave") == 1, lambda: house.said())
        assert new.leave() == 0
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def is_cut_off(asks: object) -> bool:
    try:
        asks()  # type: ignore[operator]
    except SchemaNewer:
        return True
    except HoldfastError:
        pass
    return False


def test_a_file_is_upgraded_when_it_is_free(tmp_path: Path) -> None:
    assert StoreBusy.retryable
    url = f"sqlite:///{tmp_path}/a.db"
    open_database(url).close()
    with open_database(url):
        assert migrations.upgrade(url) == (migrations.HEAD, migrations.HEAD), "there is nothing to do"
