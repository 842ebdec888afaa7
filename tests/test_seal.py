"""Secrets at rest."""

from __future__ import annotations

import pytest

from holdfast.core.values import Secret, decode, encode
from holdfast.errors import SecretKeyMissing
from holdfast.seal import Sealer, new_key


def test_what_is_sealed_is_unsealed_and_not_readable() -> None:
    sealer = Sealer(new_key)
    text = encode({"password": Secret("hunter2")}, sealer.seal)
    assert "hunter2" not in text
    assert decode(text, sealer.unseal)["password"].reveal() == "hunter2"


def test_keys_rotate_newest_first() -> None:
    old, new = new_key(), new_key()
    token = Sealer(lambda: old).seal("x")
    both = Sealer(lambda: f"{new}, {old}")
    assert both.unseal(token) == "x"
    assert Sealer(lambda: new).unseal(both.seal("y")) == "y"
    with pytest.raises(SecretKeyMissing, match="sealed with a key that isn't here"):
        Sealer(lambda: new).unseal(token)


def test_a_mark_is_stable_over_rotation() -> None:
    old, new = new_key(), new_key()
    before, after = Sealer(lambda: old), Sealer(lambda: f"{new} {old}")
    assert before.mark("x") == before.mark("x") == after.mark("x")
    assert before.mark("x") != before.mark("y")
    assert before.mark("x") != Sealer(new_key).mark("x")


@pytest.mark.parametrize(
    ("key", "says"), [(None, "there is no key"), ("", "there is no key"), ("short", "isn't a key")]
)
def test_no_usable_key_says_what_to_do(key: str | None, says: str) -> None:
    with pytest.raises(SecretKeyMissing, match=f"(?i){says}.*doctor --new-key"):
        Sealer(lambda: key).seal("x")


def test_keys_are_read_once_and_only_when_needed() -> None:
    read: list[str] = []

    def keys() -> str:
        read.append(new_key())
        return read[-1]

    sealer = Sealer(keys)
    assert read == []
    assert sealer.unseal(sealer.seal("x")) == "x"
    assert len(read) == 1
