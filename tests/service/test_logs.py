"""What a service writes to its log."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import SettingInvalid
from holdfast.service import logs
from holdfast.settings import Settings
from holdfast.testing.clock import FakeClock
from tests.service.conftest import MakeServed, MakeService


@hf.step
def talk() -> None:
    logging.getLogger("tests.talking").warning("a step says something")


TALKING = hf.linear("talking", talk)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is written by loggers, from `set_up(…, written)` on; logging is as it was afterwards."""
    root, house = logging.getLogger(), logging.getLogger("holdfast")
    before = root.handlers[:], root.level, house.level
    root.handlers[:] = []  # pytest's own, which `force` would close
    yield io.StringIO()
    root.handlers[:], level, of_house = before
    root.setLevel(level)
    house.setLevel(of_house)


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_is_one_object_a_line_with_the_error_and_where_it_was(written: io.StringIO) -> None:
    logs.set_up(Settings(log_format="json"), written, worker=lambda: "w-1")
    logs.REQUEST.set("req-7")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("holdfast.service").exception("it %s", "broke\n{}")
    logs.REQUEST.set("")
    logging.getLogger("elsewhere").info("too quiet to be told")
    (line,) = entries(written.getvalue())
    assert line["message"] == "it broke\n{}"
    assert (line["level"], line["logger"], line["error"]) == ("ERROR", "holdfast.service", "ValueError")
    assert (line["request_id"], line["worker_id"]) == ("req-7", "w-1")
    assert "test_logs.py" in line["traceback"]
    assert line["at"].endswith("Z")


def test_text_is_one_line_whatever_a_name_has_in_it(written: io.StringIO) -> None:
    logs.set_up(Settings(), written)
    logs.REQUEST.set("req-8")
    logging.getLogger("holdfast.access").info("GET /v3/a\nERROR forged\x1b[2J")
    logs.REQUEST.set("")
    (line,) = written.getvalue().splitlines()
    assert line.endswith("INFO holdfast.access GET /v3/a\\nERROR forged\\x1b[2J [request=req-8]")


@pytest.mark.parametrize(
    "said",
    [
        "Authorization: Bearer abc.def.ghijklmn",
        "{'x-auth-token': 'gAAAAABsecret'}",
        "POST https://u/?token=gAAAAABsecret&a=1",
        "signed with whsec_MfKQ9r8GKYqrTwjU",
        "the key is key-of-the-house",
    ],
)
@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_credential_is_written_whoever_logs_it(said: str, form: str, written: io.StringIO) -> None:
    logs.set_up(Settings(log_format=form, secret_key="key-of-the-house"), written)
    try:
        raise ValueError(said)
    except ValueError:
        logging.getLogger("somebody").exception("failed: %s", said)
    text = written.getvalue()
    assert "***" in text
    for secret in ("ghijklmn", "gAAAAAB", "MfKQ9r8", "key-of-the-house"):
        assert secret not in text


def test_a_record_whose_values_do_not_fit_is_written_all_the_same(written: io.StringIO) -> None:
    logs.set_up(Settings(log_format="json"), written)
    logging.getLogger("somebody").warning("%d of %d", "one")
    (line,) = entries(written.getvalue())
    assert line["message"].startswith("%d of %d (its values can't be put into it")


def test_a_warning_that_anybody_can_cause_is_told_now_and_then() -> None:
    clock = FakeClock()
    seldom = logs.Seldom(clock)

    def told(text: str, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("x", level, "", 0, text, (), None)
        return record.getMessage() if seldom.filter(record) else None

    assert [told("bad"), told("bad"), told("other"), told("bad")] == ["bad", None, "other", None]
    assert [told("worse", logging.ERROR)] * 2 == ["worse", "worse"]
    clock.advance(logs.EVERY_S)
    assert told("bad") == "bad (and 2 more like this since the last one that was told)"
    assert (told("other"), told("bad")) == ("other", None)


def test_a_format_that_there_is_not_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="text or json"):
        logs.set_up(Settings(log_format="xml"))


def test_what_a_step_logs_has_its_task_and_what_is_said_of_a_request_has_the_request(
    make_service: MakeService, written: io.StringIO
) -> None:
    service = make_service(offered=[TALKING], access_log="on", log_format="json")
    logs.set_up(service.hold.settings, written, worker=lambda: service.serving.worker_id)
    task = service.submit("talking")
    service.until(task["uuid"], "SUCCEEDED")
    told = entries(written.getvalue())
    (step,) = [line for line in told if line["logger"] == "tests.talking"]
    assert (step["task_id"], step["step_id"]) == (task["uuid"], "talking/talk")
    assert len(step["worker_id"]) > 8
    (line,) = [line for line in told if line.get("request_id") == task["request_id"]]
    assert line["logger"] == "holdfast.access"
    assert "POST /v3/tasks 202" in line["message"]


def test_serve_writes_json_where_it_is_asked_to(make_served: MakeServed, tmp_path: Path) -> None:
    served = make_served("--no-worker", log_format="json", access_log="on")
    answer = served.client().get("/v3/tasks?limit=1")
    assert served.process.stderr is not None
    pipe = served.process.stderr
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(pipe), daemon=True)
    reader.start()
    served.process.terminate()
    served.process.wait(10)
    reader.join(10)
    (line,) = [line for line in entries("".join(lines)) if line["logger"] == "holdfast.access"]
    assert line["request_id"] == answer.headers["x-openstack-request-id"]
