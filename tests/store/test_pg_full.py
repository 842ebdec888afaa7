"""A PostgreSQL whose disk is full: what was refused is not there, and when there is room all of it goes on."""

from __future__ import annotations

import pytest

from holdfast.errors import StoreFull
from holdfast.store.base import FeedRow, Tx
from holdfast.store.postgres import PostgresStore
from holdfast.tasks import tell
from tests.postgresql import Databases

_NO_ROOM = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''could not extend file'' USING ERRCODE = ''53100''; END';
CREATE TRIGGER no_room BEFORE INSERT ON feed EXECUTE FUNCTION no_room()
"""


@pytest.mark.requirement("TF-12", "P2")
@pytest.mark.parametrize("before", range(5))
def test_a_full_disk_is_full_for_as_long_as_it_is_and_no_longer(postgresql: Databases, before: int) -> None:
    """However often a statement was used before: the driver prepares it at some use, which may be one that fails."""
    url = postgresql.fresh()
    name = url.rpartition("/")[2]
    with PostgresStore(url) as store:

        def told(tx: Tx) -> None:
            tell.write(tx, [FeedRow(1.0, "task.state", "p", None, "tasks/x", None, "{}")])

        for _ in range(before):
            store.write(told)
        postgresql.server.execute(_NO_ROOM, name)
        for _ in range(6):
            with pytest.raises(StoreFull, match="make room"):
                store.write(told)
        postgresql.server.execute("DROP TRIGGER no_room ON feed; DROP FUNCTION no_room", name)
        for _ in range(6):
            store.write(told)
        assert postgresql.server.execute("SELECT count(*) FROM feed", name) == [(before + 6,)]
