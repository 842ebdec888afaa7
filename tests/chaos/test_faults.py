"""The faults do what they say, and what heals them does."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chaos.cluster import Member
from chaos.network import Network
from chaos.postgresql import Server
from chaos.witness import Witness
from tests.chaos.conftest import until

LARGE = "CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
SMALL = "CREATE TABLE IF NOT EXISTS small (n int); INSERT INTO small VALUES (1)"
DATABASE = "chaos"


@pytest.fixture
def server() -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="hf-chaos-"))  # a socket's path may not be long
    made = Server(directory / "pg")
    yield made
    made.close()
    shutil.rmtree(directory)


BUSY = """
import sys, threading
from chaos.witness import Guard, Witness
guard, never = Guard(Witness(sys.argv[1])), threading.Event()
while True:
    with guard._alone("r1", "a"):
        never.wait(0.05)
    never.wait(0.001)
"""


def test_who_is_frozen_leaves_the_devices_to_others(tmp_path: Path) -> None:
    """Freeze it at any moment: it is inside one nearly always."""
    witness = Witness(tmp_path)
    busy = Member("busy", [], tmp_path, witness)
    busy._process = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)])
    device = tmp_path / "devices" / "r1" / "a"
    try:
        until(device.exists, "it is at it")
        for _ in range(10):
            busy.freeze()
            assert is_free(device)
            busy.thaw()
    finally:
        busy.end()


def is_free(device: Path) -> bool:
    with device.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_full_disk_is_full_until_there_is_room(server: Server) -> None:
    give_room = server.fail(lambda: None, server.disk.fill(server.peer.pids))
    with pytest.raises(psycopg.Error):
        server.peer.execute(LARGE, DATABASE)
    assert server.fails
    give_room()
    until(lambda: answers(server), "it is there again")
    assert server.peer.execute(f"{LARGE}; SELECT count(*) FROM large", DATABASE) == []


def test_a_slow_disk_is_slow_until_it_is_not(server: Server) -> None:
    server.peer.execute(SMALL, DATABASE)
    heal = server.slow()
    until(lambda: seconds_of_a_commit(server) >= 0.1, "a commit takes long")
    heal()
    until(lambda: seconds_of_a_commit(server) < 0.1, "a commit takes no longer than before")
    assert server.peer.execute("SELECT count(*) > 2 FROM small", DATABASE) == [(True,)], "slow ones are commits too"


def test_a_server_that_ended_by_itself_is_started_again_and_one_that_was_ended_is_not(server: Server) -> None:
    give_back = server.fail(server.peer.kill)
    server.tend()
    assert not server.peer.is_up
    give_back()
    assert answers(server)
    server.peer.kill()
    server.tend()
    assert answers(server)


def test_a_host_that_is_cut_off_hears_nothing_until_it_is_joined_again() -> None:
    if os.geteuid() != 0:
        with pytest.raises(OSError, match="no network name spaces"):
            Network(2)
        return
    network = Network(2)
    try:
        one, other = network.prefix(0), network.address_of(1)
        assert pings(one, other)
        named = [subprocess.check_output([*network.prefix(host), "hostname"], text=True) for host in (0, 1)]
        assert len({*named, f"{os.uname().nodename}\n"}) == 3
        network.cut(1)
        assert not pings(one, other)
        network.join_again(1)
        until(lambda: pings(one, other), "it hears again")
    finally:
        network.close()
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert one[-1] not in left


def answers(server: Server) -> bool:
    try:
        return server.peer.execute("SELECT 1", DATABASE) == [(1,)]
    except psycopg.OperationalError:
        return False


def seconds_of_a_commit(server: Server) -> float:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("SELECT 1")
        began = time.monotonic()
        connection.execute("INSERT INTO small VALUES (2)")
        return time.monotonic() - began


def pings(prefix: list[str], address: str) -> bool:
    """Whether a connection is refused at least: who is cut off says nothing."""
    script = f"import socket, sys; s = socket.socket(); s.settimeout(0.5); sys.exit(s.connect_ex(('{address}', 9)))"
    code = subprocess.run([*prefix, "python3", "-c", script], capture_output=True, check=False).returncode
    return code == 111
