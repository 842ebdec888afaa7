"""Secrets at rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.core.values import SEALED, Secret, decode, encode
from holdfast.errors import SecretKeyMissing, SettingInvalid
from holdfast.seal import Sealer, new_key
from holdfast.settings import Settings

KEY = new_key()


def test_what_is_sealed_is_unsealed_and_not_readable() -> None:
    sealer = Sealer(lambda: KEY)
    text = encode({"password": Secret("hunter2")}, sealer.seal)
    assert "hunter2" not in text
    assert text.startswith('{"password":' + SEALED)
    assert decode(text, sealer.unseal)["password"].reveal() == "hunter2"


def test_keys_rotate_newest_first() -> None:
    old, new = new_key(), new_key()
    token = Sealer(lambda: old).seal("x")
    both = Sealer(lambda: f"{new}, {old}")
    assert both.unseal(token) == "x"
    assert (both.is_newest(token), both.is_newest(both.seal("x"))) == (False, True)
    assert Sealer(lambda: new).unseal(both.seal("y")) == "y"
    with pytest.raises(SecretKeyMissing, match="sealed with a key that isn't here"):
        Sealer(lambda: new).unseal(token)


@pytest.mark.parametrize(
    ("key", "says"), [(None, "there is no key"), ("", "there is no key"), ("short", "isn't a key")]
)
def test_no_usable_key_says_what_to_do(key: str | None, says: str) -> None:
    with pytest.raises(SecretKeyMissing, match=f"(?i){says}.*key new"):
        Sealer(lambda: key).seal("x")


def test_a_key_that_is_put_in_front_in_the_file_is_there_at_once(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    file = tmp_path / "key"
    sealer = Sealer(Settings(secret_key_file=str(file)).read_keys)
    with pytest.raises(SettingInvalid):
        sealer.seal("x")
    file.write_text(old)
    token = sealer.seal("x")
    for broken in ("", "half a k", None):  # somebody is just writing it
        file.unlink() if broken is None else file.write_text(broken)
        assert sealer.unseal(token) == "x"
    file.write_text(f"{new}\n{old}\n")
    assert (sealer.unseal(token), sealer.is_newest(token)) == ("x", False)
    assert Sealer(lambda: new).unseal(sealer.seal("y")) == "y"


def test_a_secret_that_cannot_be_opened_is_handed_on_as_it_is_and_only_to_who_sealed_it() -> None:
    keys = [KEY]
    sealer = Sealer(lambda: keys[0])
    text = encode(Secret("hunter2"), sealer.seal)
    keys[0] = new_key()
    assert encode(decode(text, sealer.unseal), sealer.seal) == text
    for seal, unseal in ((Sealer(lambda: KEY).seal, sealer.unseal), (str, sealer.unseal), (sealer.seal, None)):
        with pytest.raises(SecretKeyMissing):
            encode(decode(text, unseal), seal)
    keys[0] = f"{new_key()} {KEY}"
    again = encode(decode(text, sealer.unseal), sealer.seal)
    assert (again != text, sealer.is_newest(json.loads(again)["v"])) == (True, True)
