"""Secrets of documents: sealed before anything is stored, opened for the driver only, never shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

import holdfast as hf
from holdfast.errors import DocumentInvalid, KindError, SecretKeyMissing, TagReused
from holdfast.resources import sealing
from holdfast.resources.kind import Kind, resting
from holdfast.resources.operate import Asked, operate
from holdfast.seal import new_key
from holdfast.store.schema import tags as table
from holdfast.tasks import tags
from tests.postgresql import database_at, stored_at
from tests.resources.boxes import BoxFields, Device, make_kind

PASSWORD = "correct horse battery"
OTHER = "staple"
KEY = new_key()


class House:
    """A database with the kind `box`."""

    def __init__(self, directory: Path, key: str | None = KEY) -> None:
        self.directory = directory
        self.hold = hf.open(database_at(directory / "tasks.db"), kinds=[make_kind()], secret_key=key)
        self.device: Device = self.hold.kinds.kind("box").driver

    def do(self, operation: str, id: str | None = None, **options: Any) -> hf.Task:
        task = self.hold.operate("box", operation, id, **options)
        self.hold.work(until_idle=True)
        return task

    def create(self, password: Any = PASSWORD, **more: Any) -> str:
        task = self.do("create", desired={"access": {"password": password}, **more})
        assert task.state == "SUCCEEDED", task.failure
        found: str = task.view()["resource_id"]
        return found

    def bytes(self) -> bytes:
        return stored_at(self.directory / "tasks.db")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.hold.close()


@pytest.mark.requirement("IRONIC-1")
def test_what_is_secret_is_in_no_file_and_in_no_answer(house: House) -> None:
    id = house.create()
    box = house.hold.resource("box", id)
    box.update({"name": "b", "access": {"password": OTHER}}, tag="t")
    house.hold.operate("box", "rekey", id, {"access": {"password": "wrong"}}, tag="u")
    house.hold.work(until_idle=True)
    assert house.device.calls == [PASSWORD, OTHER, "wrong", OTHER]  # the last is its undo
    shown = [box.view(), box.desired, box.revisions(), [task.view() for task in house.hold.tasks()]]
    shown += [repr(task.results) for task in house.hold.tasks()] + [event.text for event in house.hold.events()]
    said = json.dumps(shown)
    assert said.count("******") == 7  # desired twice and applied once, three revisions, the parameters of rekey
    for word in (PASSWORD, OTHER, "wrong"):
        assert word not in said
        assert word.encode() not in house.bytes()


def test_who_sends_back_what_he_was_shown_keeps_the_secret(house: House) -> None:
    id = house.create()
    box = house.hold.resource("box", id)
    box.update(box.view()["desired"] | {"name": "renamed"})
    house.do("rekey", id, params={"access": {"address": "10.0.0.1", "password": "******"}})
    assert house.device.calls == [PASSWORD] * 3
    assert (box.desired["name"], box.desired["access"]) == ("renamed", {"address": "10.0.0.1", "password": "******"})


def test_a_secret_does_not_go_to_where_somebody_who_does_not_know_it_points(house: House) -> None:
    id = house.create()
    elsewhere = {"access": {"address": "192.0.2.66", "password": "******"}}
    for operation, options in (("update", {"desired": {"name": "x", **elsewhere}}), ("rekey", {"params": elsewhere})):
        with pytest.raises(DocumentInvalid, match=r"say it again, because access\.address changes"):
            house.hold.operate("box", operation, id, **options)
    known = {"access": {"address": "192.0.2.66", "password": PASSWORD}}
    assert house.do("rekey", id, params=known).state == "SUCCEEDED"
    assert house.device.calls == [PASSWORD] * 2


@pytest.mark.parametrize(
    ("password", "says"),
    [("******", "there is none"), (7, "Expected `str"), ({"$": "secret", "v": "x"}, "Expected `str")],
)
def test_what_is_no_secret_is_refused_and_nothing_is_stored(house: House, password: Any, says: str) -> None:
    with pytest.raises(DocumentInvalid, match=says) as refused:
        house.create(password)
    assert refused.value.details["field"] == "access.password"
    assert (house.hold.tasks(), house.hold.resources("box")) == ([], [])


def test_without_a_key_it_says_what_to_do_and_stores_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, None)
    with pytest.raises(SecretKeyMissing, match=r"set HOLDFAST_SECRET_KEY .*holdfast key new"):
        house.hold.operate("box", "create", desired={"access": {"password": PASSWORD}})
    with pytest.raises(SecretKeyMissing, match="holdfast key new"):
        house.hold.operate("box", "create", desired={"access": {"password": PASSWORD}}, tag="t")
    assert (house.hold.tasks(), house.hold.resources("box")) == ([], [])
    assert house.create(None)  # what has no secret needs no key
    house.hold.close()
    assert PASSWORD.encode() not in house.bytes()


def test_data_that_looks_sealed_is_data(house: House) -> None:
    notes = {"a": {"$": "secret", "v": "gAAAA"}, "$": "x", "b": [{"$": "tuple", "v": [1]}]}
    box = house.hold.resource("box", house.create(notes=notes))
    assert house.device.notes == [notes]
    assert (box.desired["notes"], box.view()["applied"]["notes"]) == (notes, notes)


def test_a_secret_may_be_given_as_one(house: House) -> None:
    house.create(hf.Secret(PASSWORD))
    assert house.device.calls == [PASSWORD]


def test_a_repeated_request_is_known_and_its_fingerprint_tells_nothing(house: House) -> None:
    desired = {"access": {"password": PASSWORD}}
    first = house.do("create", desired=desired, tag="t")
    assert house.do("create", desired={"access": {"password": hf.Secret(PASSWORD)}}, tag="t").replayed
    with pytest.raises(TagReused):
        house.do("create", desired={"access": {"password": OTHER}}, tag="t")
    # As the service asks: with a fingerprint of the request, which holds the password.
    asked = Asked("box", "create", None, desired=desired, tag="s", fingerprint=tags.hashed(desired))
    made = house.hold.write(lambda tx, now: operate(tx, house.hold.kinds, asked, now, house.hold.clock.uuid7()))
    assert made.task.uuid != first.id
    stored = house.hold.store.read(lambda tx: [row[0] for row in tx.execute(select(table.c.fingerprint)).all()])
    guesses = [tags.hashed(desired), tags.hashed(["box", "create", None, {}, desired, []])]
    assert len(stored) == 2
    assert not set(guesses) & set(stored)


def test_an_inputs_fingerprint_is_the_same_under_another_key(tmp_path: Path) -> None:
    new, url = new_key(), database_at(tmp_path / "tasks.db")

    @hf.step
    def log_in(password: hf.Secret) -> None:
        pass

    def ask(key: str, password: str) -> bool:
        with hf.open(url, flows=[flow], secret_key=key) as hold:
            return hold.submit(flow, {"password": hf.Secret(password)}, tag="t").replayed

    flow = hf.linear("login", log_in)
    assert [ask(KEY, "a"), ask(KEY, "a"), ask(f"{new} {KEY}", "a")] == [False, True, True]
    with pytest.raises(TagReused):
        ask(KEY, "b")


def test_who_has_lost_the_key_can_still_say_a_new_secret_or_forget_the_thing(tmp_path: Path) -> None:
    house = House(tmp_path)
    first, second, third = house.create(), house.create(), house.create()
    house.hold.close()
    house = House(tmp_path, new_key())
    lost = house.do("update", third, desired={"name": "x", "access": {"password": "******"}})
    assert (lost.state, lost.view()["reason"]) == ("SUSPENDED", "revert_failed")  # its undo would log in, too
    assert house.do("update", first, desired={"access": {"password": OTHER}}).state == "SUCCEEDED"
    assert house.do("delete", second).state == "SUCCEEDED"
    assert house.device.calls == [OTHER]
    house.hold.close()


def test_a_probe_is_given_the_secret_sealed(house: House) -> None:
    house.create()
    house.hold.watch_drift(rounds=1)
    house.hold.work(until_idle=True)
    assert house.device.calls == [PASSWORD] * 2


def test_a_path_that_is_in_no_field_is_refused() -> None:
    with pytest.raises(KindError, match=r"'acces.password' is not in its fields"):
        Kind("box", fields=BoxFields, lifecycle={"NEW": resting()}, secrets=("acces.password",))


def test_a_document_without_what_is_secret_is_as_it_is() -> None:
    class Fields(msgspec.Struct):
        a: dict[str, Any]

    kind = Kind("thing", fields=Fields, lifecycle={"NEW": resting()}, secrets=("a.b.c",))
    documents: list[dict[str, Any]] = [{"a": {}}, {"a": {"b": 1}}, {"a": {"b": {"c": None}}}, {}]
    for document in documents:
        assert sealing.guarded(kind, document, {}) == document
    guarded = sealing.guarded(kind, {"a": {"b": {"c": "x", "d": "y"}}}, {})
    assert str(guarded) == "{'a': {'b': {'c': Secret(***), 'd': 'y'}}}"
    assert sealing.opened(guarded) == {"a": {"b": {"c": "x", "d": "y"}}}
