"""What every test has: hypothesis profiles and the check of requirement marks.

Strict markers, warnings as errors and the time limit of 120 s stand in pyproject.toml. Fixtures of one room stand in
the conftest.py of its folder.
"""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.doing import WAYS, Doing, Told
from tests.postgresql import ON_POSTGRESQL, Databases, drop_beneath, running

REQUIREMENTS = Path(__file__).with_name("requirements.toml")

# The cores are shared by the workers of pytest, so no deadline in milliseconds; and a failure must come again on every
# machine, so the examples are derived from the test. `HYPOTHESIS_PROFILE=search` looks for new ones.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.register_profile("search", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


def has_a_database(item: pytest.Item) -> bool:
    """Whether it may have one: a database is called by a path, or made by a fixture (tests/postgresql.py)."""
    named = getattr(item, "fixturenames", ())
    return any(name.startswith(("tmp_path", "postgresql")) for name in named)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the other database has shown already where the suite runs on PostgreSQL. Refuse a requirement mark
    that names no row: the table would lack the test and nobody would see it."""
    if ON_POSTGRESQL:
        left = {item for item in items if item.get_closest_marker("only_sqlite") or not has_a_database(item)}
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]
    rows = {row for group in tomllib.loads(REQUIREMENTS.read_text(encoding="utf-8")).values() for row in group}
    for item in items:
        for mark in item.iter_markers("requirement"):
            if unknown := [row for row in mark.args if row not in rows]:
                raise pytest.UsageError(f"{item.nodeid}: {unknown} is no row of tests/requirements.toml: add it there")
            if not mark.args:
                raise pytest.UsageError(f"{item.nodeid}: a requirement mark names the rows that the test proves")


@pytest.fixture(params=WAYS)
def do(request: pytest.FixtureRequest, tmp_path: Path) -> Doing:
    """Does a flow, in memory and as a task."""
    return Doing(request.param, tmp_path)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Databases]:
    with running() as databases:
        yield databases


@pytest.fixture
def postgresql(postgresql_server: Databases) -> Iterator[Databases]:
    """Makes databases of PostgreSQL, the oldest on this machine, which end with the test."""
    yield postgresql_server
    postgresql_server.take_back()


@pytest.fixture(scope="session")
def postgresql_18_server() -> Iterator[Databases]:
    with running(18) as databases:
        yield databases


@pytest.fixture
def postgresql_18(postgresql_18_server: Databases) -> Iterator[Databases]:
    """As `postgresql`, of the newest."""
    yield postgresql_18_server
    postgresql_18_server.take_back()


@pytest.fixture(autouse=True)
def no_database_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    place = request.getfixturevalue("tmp_path") if ON_POSTGRESQL and "tmp_path" in request.fixturenames else None
    yield
    if place is not None:
        drop_beneath(place)


@pytest.fixture(autouse=True)
def no_guest_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """The servers of a test outlive the process that made them, as they should; they don't outlive the test."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    place: Path = request.getfixturevalue("tmp_path")
    yield
    made = [*place.glob("*/current"), *place.glob("*/*/current")]
    if made:
        from holdfast.resources.server.process import Server

        for path in made:
            Server(str(path.parent.parent), path.parent.name).remove(threading.Event().wait)
