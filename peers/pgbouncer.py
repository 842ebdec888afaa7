"""PgBouncer as a peer: a pooler in transaction mode on loopback, before a server of peers/postgres.py.

    with Postgres(tmp_path / "pg") as server, PgBouncer(tmp_path / "pool", server) as pooler:
        pooler.url("orders"), pooler.url("orders", direct=True)

Each transaction gets another of the server's sessions than the one before, where it can: what a session was told is
not there the next time.

    python -m peers.pgbouncer DIRECTORY

runs one before a server of its own until it is ended, and says its URL.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from peers.postgres import Postgres, environment, free_port, wait, wrapped

_SETTINGS = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = {size}
server_round_robin = 1
max_client_conn = 500
logfile = {directory}/log
pidfile = {directory}/pid
"""


def binary() -> str | None:
    """Debian has it where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncer:
    """One pooler, in a directory that is made for it. `size`: how many sessions of the server each database has."""

    def __init__(self, directory: Path, server: Postgres, *, size: int = 8) -> None:
        self.directory = directory
        self.server = server
        self.size = size
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> PgBouncer:
        """Again on the same port, if it ran before."""
        program = binary()
        if program is None:
            raise OSError("PgBouncer is not on this machine: tools/need pgbouncer")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        (self.directory / "users").write_text('"postgres" ""\n', encoding="utf-8")
        settings = self.directory / "pgbouncer.ini"
        settings.write_text(
            _SETTINGS.format(server=self.server.port, port=self.port, directory=self.directory, size=self.size),
            encoding="utf-8",
        )
        self._process = subprocess.Popen(
            wrapped(["setpriv", "--pdeathsig", "TERM", program, "--quiet", settings]),
            stdin=subprocess.DEVNULL, start_new_session=True, env=environment(),
        )  # fmt: skip
        process = self._process
        wait(lambda: process.poll() is not None or self._answers(), "PgBouncer to start")
        if process.poll() is not None:
            raise OSError(f"PgBouncer does not start: {(self.directory / 'log').read_text(encoding='utf-8')[-2000:]}")
        return self

    def stop(self) -> None:
        """At once, with all its connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def url(self, database: str = "postgres", *, direct: bool = False) -> str:
        """`direct`: it says too how to get past the pooler."""
        beside = f"?direct=127.0.0.1:{self.server.port}" if direct else ""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}{beside}"

    def __enter__(self) -> PgBouncer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url()).close()
        except psycopg.Error:
            return False
        return True


def main(directory: Path) -> None:
    with Postgres(directory / "pg") as server, PgBouncer(directory / "pool", server) as pooler:
        print(pooler.url(), flush=True)
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
