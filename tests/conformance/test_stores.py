"""Every store against the one suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.store import open_store
from holdfast.store.base import Store
from holdfast.testing.conformance.store import StoreBase, StoreConformance
from holdfast.testing.conformance.store_apart import StoreApart
from holdfast.testing.conformance.store_groups import StoreGroups
from holdfast.testing.conformance.store_threads import StoreThreads
from peers.pgbouncer import PgBouncer
from tests.postgresql import Databases


class _File(StoreBase):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/tasks.db"

    def make(self) -> Store:
        return open_store(self.url, look_s=0.005)

    again = make


class TestFile(_File, StoreConformance, StoreGroups, StoreThreads, StoreApart):
    pass


class _Postgres(StoreBase):
    @pytest.fixture(autouse=True)
    def _place(self, postgresql: Databases) -> None:
        self.url = self.direct = postgresql.fresh()

    @pytest.fixture(autouse=True)
    def _watched(self, _place: None) -> Iterator[None]:
        with psycopg.connect(self.direct, autocommit=True) as self.watch:
            yield

    def make(self) -> Store:
        return open_store(self.url)

    again = make

    def is_waiting(self) -> bool:
        found = self.watch.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return found.fetchone() is not None


class TestPostgres(_Postgres, StoreConformance, StoreGroups, StoreThreads, StoreApart):
    pass


class TestPostgres18(TestPostgres):
    @pytest.fixture(autouse=True)
    def _place(self, postgresql_18: Databases) -> None:
        self.url = self.direct = postgresql_18.fresh()


@pytest.fixture(scope="module")
def pooler(postgresql_server: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    with PgBouncer(tmp_path_factory.mktemp("pool"), postgresql_server.server) as running:
        yield running


class TestPooled(TestPostgres):
    """Through a pooler in transaction mode: each transaction is another session's."""

    @pytest.fixture(autouse=True)
    def _place(self, postgresql: Databases, pooler: PgBouncer) -> None:
        self.direct = postgresql.fresh()
        self.url = pooler.url(self.direct.rpartition("/")[2], direct=True)


class TestMemory(StoreConformance, StoreGroups, StoreThreads):
    def make(self) -> Store:
        return open_store("sqlite:///:memory:", look_s=0.005)
