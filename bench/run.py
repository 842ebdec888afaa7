"""`make bench`: measure Holdfast beside its peers in one go and print one table.

The measures that the chosen rows need are run in turn, round after round, each in a fresh interpreter, so that what
disturbs the machine disturbs both sides; a figure is the median of its rounds. The rows: rows.py. What each measure
runs: measures.py and cases/. How to read the table: README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.measures import MEASURES, Measure
from bench.rows import ROWS, Row, Side
from peers.postgres import Postgres

HOME = Path(__file__).parent.parent
TIMEOUT_S = 900


class Missing(Exception):
    """A case did not give its figures."""


class Server:
    """A PostgreSQL for all measures, started by the first that needs it, with the durability that it comes with."""

    SETTINGS = "\nfsync = on\nfull_page_writes = on\nautovacuum = on\nshared_buffers = 128MB\nmax_wal_size = 1GB\n"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: Postgres | None = None
        self._made = 0

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty one, which is dropped after."""
        if self._server is None:
            try:
                self._server = Postgres(self._directory.resolve(), settings=self.SETTINGS).start()
            except OSError as error:
                raise Missing(str(error)) from None
        self._made += 1
        name = f"bench{self._made}"
        try:
            yield self._server.make(name)
        finally:
            self._server.drop(name)

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()


def run_case(measure: Measure, directory: Path | None, *more: str) -> dict[str, Any]:
    """Run one case in a fresh interpreter and return its figures.

    Raises: Missing, with the last line the case had to say, if it fails.
    """
    command = [sys.executable, "-m", f"bench.cases.{measure.program}", *measure.arguments, *more]
    if directory is not None:
        command += ["--directory", str(directory.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=HOME)
    except subprocess.TimeoutExpired:
        raise Missing(f"{measure.program} did not end within {TIMEOUT_S} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines() or [f"exit code {done.returncode}"]
        raise Missing(f"{measure.program} {' '.join(measure.arguments)}: {words[-1]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures


def run_once(name: str, measure: Measure, root: Path, server: Server) -> dict[str, Any]:
    """Run one round of one measure, in a directory or a database of its own where it needs one."""
    if measure.needs_postgresql:
        with server.database() as url:
            return run_case(measure, None, "--url", url)
    if not measure.needs_directory:
        return run_case(measure, None)
    prepared = root / (measure.shares or name).replace("/", "-")
    if measure.prepares and not prepared.exists():
        prepared.mkdir()
        run_case(measure, prepared, "--prepare")
    with tempfile.TemporaryDirectory(dir=root) as fresh:
        if measure.prepares:
            shutil.copytree(prepared, fresh, dirs_exist_ok=True)
        return run_case(measure, Path(fresh))


def measure_all(
    names: list[str], root: Path, server: Server, *, quick: bool
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Run `names` in turn, round after round. Return the figures of every round, and why the missing ones are."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    rounds = 1 if quick else max(MEASURES[name].repeats for name in names)
    for round_ in range(rounds):
        for name in names:
            if name in missing or round_ >= MEASURES[name].repeats:
                continue
            say(f"round {round_ + 1} of {rounds}: {name}")
            try:
                taken[name].append(run_once(name, MEASURES[name], root, server))
            except Missing as reason:
                missing[name] = str(reason)
    say("")
    return taken, missing


def say(what: str) -> None:
    """Show what is being measured, where somebody is watching."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{what}")
        sys.stderr.flush()


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return {field: statistics.median(figures[field] for figures in rounds) for field in rounds[0]}


def judge(row: Row, taken: dict[str, list[dict[str, Any]]], missing: dict[str, str]) -> dict[str, Any]:
    """Make of the figures what the table shows of `row`."""
    sides = [side for side in (row.ours, row.peer) if side is not None]
    lost = [missing[name] for side in sides for name in side.measures if name in missing]
    shown: dict[str, Any] = {
        "row": row.name, "title": row.title, "unit": row.unit, "bar": row.bar, "at_least": row.at_least,
        "peer_name": row.peer.who if row.peer else None, "ours": None, "peer": None, "ratio": None, "met": False,
        "missing": lost[0] if lost else None, "beside": {},
    }  # fmt: skip
    if not lost:
        shown["ours"] = ours = figure(row.ours, taken)
        if row.peer is not None:
            shown["peer"] = figure(row.peer, taken)
            shown["ratio"] = ours / shown["peer"]
        shown["beside"] = {side.who: figure(side, taken) for side in row.beside}
        judged = ours if row.peer is None else shown["ratio"]
        shown["met"] = judged >= row.bar if row.at_least else judged <= row.bar
    return shown


def figure(side: Side, taken: dict[str, list[dict[str, Any]]]) -> float:
    return side.of(*(medians(taken[name]) for name in side.measures))


def number(value: float) -> str:
    """Three digits that mean something: 412,000 · 39.7 · 0.0183."""
    if value >= 1000:
        digits = len(str(int(value)))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


def render(shown: list[dict[str, Any]]) -> str:
    """The table as aligned text; the same on a terminal and in a pipe."""
    head = ("row", "work", "Holdfast", "against", "ratio", "bar", "")
    lines = [head]
    for row in shown:
        sign = ">=" if row["at_least"] else "<="
        bar = f"{sign} {row['bar']:,g}" + (" x" if row["peer_name"] else f" {row['unit']}")
        ours = "-" if row["ours"] is None else f"{number(row['ours'])} {row['unit']}"
        peer = "" if row["peer_name"] is None else row["peer_name"]
        if row["peer"] is not None:
            peer += f" {number(row['peer'])}"
        ratio = "" if row["ratio"] is None else f"{number(row['ratio'])} x"
        verdict = "met" if row["met"] else "FAILED" if row["missing"] else "MISSED"
        lines.append((row["row"], row["title"], ours, peer, ratio, bar, verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    right = {2, 4, 5}
    text = []
    for line in lines:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how busy it was: a busy machine wakes late after every fsync."""
    import sqlite3
    from importlib.metadata import PackageNotFoundError, version

    def version_of(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cpus": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {
            name: version_of(name)
            for name in ("holdfast", "taskflow", "dbos", "procrastinate", "psycopg", "sqlalchemy")
        },
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Holdfast beside its peers.")
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", default=[], help="only these rows; a prefix will do (flat, stop-process)"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows and leave")
    parser.add_argument("--quick", action="store_true", help="one round instead of several: coarse, but soon")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a row is missed")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument(
        "--directory", type=Path, default=Path(sys.prefix) / "bench-work", help="where databases go: the measured disk"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    chosen = [row for row in ROWS if not options.rows or any(row.name.startswith(name) for name in options.rows)]
    unknown = [name for name in options.rows if not any(row.name.startswith(name) for row in ROWS)]
    if unknown:
        print(f"bench: there is no row {unknown[0]!r}; the rows are {', '.join(r.name for r in ROWS)}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{row.name:18}{row.title}" for row in chosen))
        return 0
    wanted = {name for row in chosen for side in (row.ours, row.peer) if side for name in side.measures}
    names = [name for name in MEASURES if name in wanted]
    on = machine()
    began = time.monotonic()
    options.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.directory) as root:
        server = Server(Path(root) / "postgresql")
        try:
            taken, missing = measure_all(names, Path(root), server, quick=options.quick)
        finally:
            server.close()
    shown = [judge(row, taken, missing) for row in chosen]
    missed = [row for row in shown if not row["met"]]
    if options.output == "json":
        print(json.dumps({"machine": on, "rows": shown, "measures": taken}, indent=1))
    else:
        versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items() if version)
        print(f"{on['machine']}, {on['cpus']} CPUs, load {on['load_before']}")
        print(f"Python {on['python']}, SQLite {on['sqlite']}, {versions}\n")
        print(render(shown))
        for row in shown:
            if row["missing"]:
                print(f"{row['row']}: {row['missing']}")
            for who, value in row["beside"].items():
                print(f"{row['row']}: {who} {number(value)} {row['unit']}")
        print(f"\n{len(shown) - len(missed)} of {len(shown)} rows met, in {time.monotonic() - began:.0f} s")
    return 1 if options.strict and missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # the reader of the pipe has left; nothing more can be said to it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        sys.exit(0)
