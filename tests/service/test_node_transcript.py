"""The transcript of a soft power off that hangs, played against a service; and the player itself."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest

from holdfast.resources.node import words
from tests.service.nodes import Metal, _metal, metal
from tests.service.transcript import Differs, play

__all__ = ["_metal", "metal"]

PATIENCE_S = 20.0
TRANSCRIPT = Path(__file__).with_name("transcripts") / "nodes.txt"


@pytest.mark.requirement("IRONIC-7", "IRONIC-6", "IRONIC-10")
def test_a_soft_power_off_that_hangs_is_aborted(metal: Metal) -> None:
    node = metal.enrol("irmc-1", soft_off="ignored")
    other = metal.enrol("ipmi-1", supported=list(words.TARGETS[:-1]))

    def sent() -> None:
        limit, pause = time.monotonic() + PATIENCE_S, threading.Event()
        while not metal.device(node).calls(looks=False):
            assert time.monotonic() < limit, "the machine is told nothing"
            pause.wait(0.01)

    deeds = {"sync": metal.sync, "sent": sent}
    assert play(TRANSCRIPT, metal.member, {"N": node, "M": other}, deeds) > 10
    assert [call.call for call in metal.device(node).calls(looks=False)] == [words.SOFT_POWER_OFF]


def test_the_player_sees_an_answer_that_is_otherwise(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Link": "</a/17>"}, json={"a": [1, {"b": "id-17"}], "c": None})

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://x")
    path = tmp_path / "t.txt"
    for told, fits in (
        ("< 200", True), ("< 404", False), ("< 200\n< Link: </a/$X>\n< {\"a\":[1,{\"b\":\"id-$X\"}]}", True),
        ("< 200\n< Link: </b/$X>", False), ("< 200\n< {\"a\":[…,{\"b\":\"…17\"}],\n<  \"c\":null}", True),
        ("< 200\n< {\"a\":[1]}", False), ("< 200\n< {\"a\":[1,{\"b\":\"id-18\"}]}", False),
        ("< 200\n< {\"d\":1}", False), ("< 200\n< {\"a\":[…,{\"b\":\"…\"},1]}", False),
        ("< 200\n<\n< {\"a\":…", True), ("< 200\n<\n< …\n< retry: 2000", False),
        ("< 200\n< {\"c\":\"…\"}", False), ("< 200\n< {\"a\":[1,{\"b\":\"id-$X\"}]}\n> GET /$X\n< 200", True),
    ):  # fmt: skip
        path.write_text(f"> GET /x\n{told}\n", encoding="utf-8")
        if fits:
            assert play(path, client, {}, {}) >= 1
        else:
            with pytest.raises(Differs):
                play(path, client, {}, {})
