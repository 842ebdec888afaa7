"""A store on a real file, and a task for each name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.store import open_store
from holdfast.store.base import Store
from tests.postgresql import ON_POSTGRESQL, database_at


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    options = {} if ON_POSTGRESQL else {"synchronous": "normal"}
    with open_store(database_at(tmp_path / "tasks.db"), **options) as opened:
        yield opened
