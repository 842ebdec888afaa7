"""Servers to be measured, each a process of its own: `holdfast serve`, and its web stack answering a constant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


@contextmanager
def holdfast(database: Path, *options: str) -> Iterator[int]:
    """The port of a service over that database, with default settings."""
    with process(database, *options) as (port, _pid):
        yield port


@contextmanager
def process(database: Path, *options: str, settings: Mapping[str, str] | None = None) -> Iterator[tuple[int, int]]:
    """The port of a service over that database, and its process."""
    env = {**os.environ, **(settings or {})}
    command = [
        sys.executable,
        "-m",
        "holdfast",
        "serve",
        "--database",
        f"sqlite:///{database.resolve()}",
        "--port",
        "0",
    ]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env
    ) as server:
        assert server.stderr is not None
        try:
            said = server.stderr.readline()
            assert " on http://" in said, said + server.stderr.read()
            # Somebody has to read what it says, or a server that logs would wait for that.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            yield int(said.rstrip().rpartition(":")[2]), server.pid
        finally:
            server.terminate()


@contextmanager
def constant() -> Iterator[int]:
    """The port of bench/constant.py."""
    with subprocess.Popen([sys.executable, "-m", "bench.constant"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def get(port: int, path: str) -> Any:
    """What a GET is answered with."""
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}") as answer:
        return json.load(answer)


def ids(port: int) -> list[str]:
    """Of the servers."""
    return [each["id"] for each in get(port, "/v3/servers")["servers"]]
