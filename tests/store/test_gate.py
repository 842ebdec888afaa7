"""The gate between processes: fair, freed by death, never waited for without end."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from holdfast.errors import StoreBusy, StoreUnwritable
from holdfast.store.gate import FileGate

HOLDER = """
import sys
from holdfast.store.gate import FileGate
gate = FileGate(sys.argv[1], 5.0)
gate.enter()
print("in", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    first, second = (FileGate(str(tmp_path / "gate"), timeout_s) for timeout_s in (5.0, 0.0))
    first.enter()
    with pytest.raises(StoreBusy, match="another process"):
        second.enter()
    first.leave()
    second.enter()
    second.leave()
    first.enter()
    first.close()
    second.enter()  # what is closed is left
    second.close()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "gate")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        gate = FileGate(path, 0.0)
        with pytest.raises(StoreBusy):
            gate.enter()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    gate.enter()
    gate.close()


def test_who_has_had_a_turn_waits_behind_who_waits(tmp_path: Path) -> None:
    """Both want it again at once, always: without the queue the one that holds it would get it again and again."""
    path, turns = str(tmp_path / "gate"), 60
    order: list[int] = []
    begin = threading.Barrier(2)

    def work(number: int) -> None:
        gate = FileGate(path, 30.0)
        begin.wait(30.0)
        for _ in range(turns):
            gate.enter()
            order.append(number)
            threading.Event().wait(0.0005)
            gate.leave()
        gate.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared = order[: min(len(order) - order[::-1].index(number) for number in range(2))]
    changes = sum(before != after for before, after in itertools.pairwise(shared))
    assert changes > len(shared) // 4


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnwritable, match="directory"):
        FileGate(str(tmp_path / "missing" / "gate"), 1.0)
