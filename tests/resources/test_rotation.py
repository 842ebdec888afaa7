"""Another key for what is sealed: everywhere, while others work, and again after it broke off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import holdfast as hf
from holdfast.errors import SecretKeyMissing, TagReused
from holdfast.feed import hooks
from holdfast.feed.hooks import Hook
from holdfast.seal import Sealer, new_key
from holdfast.store import sealed
from holdfast.store.schema import metadata
from tests.postgresql import database_at
from tests.resources.boxes import make_kind

OLD, NEW = new_key(), new_key()
TOKEN = re.compile(r"gAAAA[\w=-]+")


@hf.step(provides="token")
def log_in(ctx: hf.Context, password: hf.Secret) -> object:
    if ctx.event is None:
        ctx.checkpoint(hf.Secret({"inner": hf.Secret("nonce")}))
        return hf.WaitFor("go")
    return hf.Secret(f"{ctx.last_checkpoint.reveal()['inner'].reveal()} for {password.reveal()}")


login = hf.linear("login", log_in)


class House:
    """A database, the keys of which are in `keys`."""

    def __init__(self, directory: Path) -> None:
        self.url = database_at(directory / "tasks.db")
        self.keys = directory / "keys"
        self.keys.write_text(OLD)
        given: Any = {"secret_key_file": str(self.keys), "poll_s": 0.005}
        self.hold = hf.open(self.url, flows=[login], kinds=[make_kind()], **given)

    def fill(self) -> None:
        """Secrets wherever there may be one."""
        self.ended = self.hold.submit(login, {"password": hf.Secret("a")}, tag="ended")
        self.waits = self.hold.submit(login, {"password": hf.Secret("b")}, tag="waits")
        self.ended.deliver("go")
        self.box = self.create("c")
        self.update("d")  # so its rules remember what was before
        secret = self.hold.sealer.seal("whsec_x")
        hook = Hook("h", "p", "u", "http://x/", secret, "{}", 0, 0.0, None, 0, 0.0, None, None, 0.0)
        self.hold.store.write(lambda tx: hooks.add(tx, hook))

    def create(self, password: str) -> str:
        task = self.hold.operate("box", "create", desired={"access": {"password": password}})
        self.hold.work(until_idle=True)
        found: str = task.view()["resource_id"]
        return found

    def update(self, password: str, name: str = "box") -> hf.Task:
        task = self.hold.operate("box", "update", self.box, desired={"name": name, "access": {"password": password}})
        self.hold.work(until_idle=True)
        return task

    def tokens(self) -> dict[str, list[str]]:
        """Everything sealed that is in the database, by table and column."""
        found: dict[str, list[str]] = {}

        def read(tx: Any) -> None:
            for table in metadata.sorted_tables:
                for row in tx.execute(select(table)).all():
                    for column, text in zip(table.columns, row, strict=True):
                        if isinstance(text, str) and (tokens := TOKEN.findall(text)):
                            found.setdefault(str(column), []).extend(tokens)

        self.hold.store.read(read)
        return found

    def rotate(self, rows: int = sealed.ROWS) -> sealed.Tally:
        return sealed.rotate(self.hold.store, self.hold.sealer, rows=rows)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.fill()
    yield made
    made.hold.close()


PLACES = {
    "store_info.pepper", "webhooks.secret", "resources.desired", "resources.applied", "revisions.desired",
    "operations.rules", "inputs.inputs", "journal.data", "tasks.result",
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 100])
def test_everything_gets_the_new_key_and_works_on_with_it_alone(house: House, rows: int) -> None:
    before = house.tokens()
    assert set(before) == PLACES
    house.keys.write_text(f"{NEW}\n{OLD}\n")
    count = sum(map(len, before.values()))
    assert house.rotate(rows) == (count, 0, [])
    assert house.rotate(rows) == (0, count, [])
    house.keys.write_text(NEW)
    alone = Sealer(lambda: NEW)
    tokens = [token for each in house.tokens().values() for token in each]
    assert [alone.is_newest(token) for token in tokens] == [True] * count
    assert sealed.lost(house.hold.store, house.hold.sealer) == []
    # A task that waits, one that has ended, a document whose secret nobody says again, a request that comes twice.
    house.waits.deliver("go")
    house.hold.work(until_idle=True)
    assert house.waits.results["token"].reveal() == "nonce for b"
    assert house.ended.results["token"].reveal() == "nonce for a"
    assert house.update("******", "renamed").state == "SUCCEEDED"
    assert house.hold.kinds.kind("box").driver.calls == ["c", "d", "d"]
    assert house.hold.submit(login, {"password": hf.Secret("a")}, tag="ended").replayed
    with pytest.raises(TagReused):
        house.hold.submit(login, {"password": hf.Secret("x")}, tag="ended")


def test_it_can_be_broken_off_and_done_again(house: House) -> None:
    house.keys.write_text(f"{NEW} {OLD}")
    count = sum(map(len, house.tokens().values()))

    class Dying(Sealer):
        left = 5

        def seal(self, text: str) -> str:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().seal(text)

    with pytest.raises(KeyboardInterrupt):
        sealed.rotate(house.hold.store, Dying(house.keys.read_text), rows=1)
    tally = house.rotate()
    assert 0 < tally.had < count
    assert (tally.sealed + tally.had, tally.lost) == (count, [])


def test_it_runs_while_others_work(house: House) -> None:
    house.keys.write_text(f"{NEW} {OLD}")
    tasks = []
    with house.hold.working():
        for number in range(20):
            desired = {"name": f"n{number}", "access": {"password": "******"}}
            tasks.append(house.hold.operate("box", "update", house.box, desired=desired))
            if number % 5 == 0:
                house.rotate(rows=2)
        for task in tasks:
            task.wait(30)
    assert {task.state for task in tasks} == {"SUCCEEDED"}
    house.rotate()
    alone = Sealer(lambda: NEW)
    assert all(alone.is_newest(token) for each in house.tokens().values() for token in each)
    assert set(house.hold.kinds.kind("box").driver.calls) == {"c", "d"}


def test_what_no_key_opens_is_named_and_left(house: House) -> None:
    house.keys.write_text(NEW)
    before = house.tokens()
    known = sealed.lost(house.hold.store, house.hold.sealer)
    assert known[1:] == ["webhook h", f"box/{house.box}", f"task {house.waits.id}"]
    with pytest.raises(SecretKeyMissing):
        house.hold.submit(login, {"password": hf.Secret("a")}, tag="other")
    tally = house.rotate()
    assert (tally.sealed, tally.had, house.tokens()) == (0, 0, before)
    assert set(known) < set(tally.lost)
    assert f"task {house.ended.id}" in tally.lost
    assert sealed.rotate(house.hold.store, house.hold.sealer, forget=True).lost == tally.lost[1:]
    del before["store_info.pepper"]
    assert house.tokens() == before
    assert not house.hold.submit(login, {"password": hf.Secret("a")}, tag="other").replayed
    house.keys.write_text(f"{NEW} {OLD}")
    assert house.rotate().lost == []


def test_no_key_at_all(house: House) -> None:
    house.keys.write_text("")
    with hf.open(house.url) as hold:
        assert len(sealed.lost(hold.store, hold.sealer)) == 4
        with pytest.raises(SecretKeyMissing):
            sealed.rotate(hold.store, hold.sealer)
