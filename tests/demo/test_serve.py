"""`make serve`: a token that only its owner can read, the same one the next time, which the service knows."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from demo import serve
from holdfast.errors import AuthRequired
from holdfast.seal import Sealer
from holdfast.service.identity import Tokens


def test_the_token_is_kept_and_known_to_the_service(tmp_path: Path) -> None:
    token = serve.token_of(tmp_path)
    assert serve.token_of(tmp_path) == token
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert token not in (tmp_path / "tokens.json").read_text()

    known = Tokens(str(tmp_path / "tokens.json"))
    caller = asyncio.run(known.identify({"x-auth-token": token}, "127.0.0.1"))
    assert (caller.project_id, "admin" in caller.roles) == ("default", True)
    with pytest.raises(AuthRequired):
        asyncio.run(known.identify({"x-auth-token": token[1:]}, "127.0.0.1"))


def test_what_to_type_next_has_the_token_and_the_port() -> None:
    words = serve.words_for("a-token", 4711)
    assert "HOLDFAST_URL=http://127.0.0.1:4711 HOLDFAST_TOKEN=a-token" in words


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = serve.key_of(tmp_path)
    key = path.read_text(encoding="ascii")
    assert serve.key_of(tmp_path).read_text(encoding="ascii") == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Sealer(lambda: key).unseal(Sealer(lambda: key).seal("open sesame")) == "open sesame"
