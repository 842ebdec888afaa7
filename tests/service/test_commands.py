"""The commands given to a service: every verb, the same output and the same exit codes as on a database."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from holdfast.resources.registry import Kinds
from tests.cli.conftest import Done, Say, Shell, shell
from tests.postgresql import database_at
from tests.service.conftest import MakeServed, MakeService, Service
from tests.worker.house import until

__all__ = ["shell"]  # a fixture


class Typed:
    """Commands on a service, in this process."""

    def __init__(self, say: Say, service: Service) -> None:
        self._say = say
        self.service = service

    def __call__(self, *words: str) -> Done:
        return self._say(*words)

    def ask(self, name: str, tag: str) -> str:
        """A task, tagged."""
        answer = self.service.client().post("/v3/tasks", json={"task": name}, headers={"Task-tag": tag})
        assert answer.status_code == 202, answer.text
        uuid: str = answer.json()["task"]["uuid"]
        return uuid

    def task(self, ref: str) -> Any:
        return self("task", "show", ref, "-o", "json").json()


@pytest.fixture
def typed(service: Service, shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.setenv("HOLDFAST_URL", service.url)
    monkeypatch.delenv("HOLDFAST_DATABASE", raising=False)
    return Typed(Say(shell, capsys), service)


# --- looking -----------------------------------------------------------------------------------------------------


def test_list_and_show_by_id_by_prefix_and_by_tag(typed: Typed) -> None:
    uuid = typed.ask("quick", "one")
    assert typed("task", "watch", "one").code == 0
    typed.ask("waiting", "two")
    lines = typed("task", "list").out.splitlines()
    assert lines[0].split() == ["ID", "FLOW", "STATE", "DONE", "TAG", "ACCEPTED", "(UTC)"]
    assert [line.split()[1] for line in lines[1:]] == ["waiting", "quick"]
    assert [task["tag"] for task in typed("task", "list", "--state", "succeeded", "-o", "json").json()] == ["one"]
    assert [task["tag"] for task in typed("task", "list", "--limit", "1", "-o", "json").json()] == ["two"]
    assert [task["tag"] for task in typed("task", "list", "--flow", "quick", "-o", "json").json()] == ["one"]
    assert typed.task(uuid)["uuid"] == typed.task(uuid[:13])["uuid"] == typed.task("one")["uuid"] == uuid
    assert [typed("task", verb, "").code for verb in ("show", "watch", "cancel", "abort")] == [2] * 4
    assert typed("task", "list", "--limit", "-3").code == 2
    assert typed.task("two")["state"] != "CANCELLED"
    page = typed("task", "show", "one").out
    for told in ("SUCCEEDED", "sum=2", "quick/add SUCCEEDED", "task RUNNING", "trace"):
        assert told in page


@pytest.mark.requirement("IRONIC-17")
def test_watch_follows_the_events_to_the_end(typed: Typed, shell: Shell) -> None:
    uuid = typed.ask("waiting", "t")
    watch = shell.start("task", "watch", "t")
    watch.until("waiting/wait_for_it WAITING")
    assert typed("task", "deliver", "t", "go").code == 0
    done = watch.end()
    assert done.code == 0
    told = [re.sub(r"^ *[0-9.]+ s  ", "", line) for line in done.out.splitlines()]
    assert [line for line in told if line.startswith("task ")][-2:] == ["task SUCCEEDED", f"task {uuid} SUCCEEDED"]
    again = typed("task", "watch", "t")
    assert again.code == 0
    for each in (done.out, again.out):  # the task ends behind its last step, though at one moment
        assert 0 < each.index("waiting/mark SUCCEEDED") < each.index("task SUCCEEDED")


def test_ctrl_c_in_watch_only_leaves(typed: Typed, shell: Shell) -> None:
    typed.ask("hanging", "t")
    watch = shell.start("task", "watch", "t")
    watch.until("hanging/hold_on RUNNING")
    watch.signal(signal.SIGINT)
    done = watch.end()
    assert (done.code, "left; nothing is lost" in done.err) == (130, True)
    assert typed.task("t")["state"] == "RUNNING"
    assert typed("task", "abort", "t").code == 3


# --- verbs -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("IRONIC-1")
def test_every_verb(typed: Typed) -> None:
    typed.ask("waiting", "t")
    done = typed("task", "suspend", "t")
    assert (done.code, "SUSPENDED (asked)" in done.out) == (7, True)
    assert "go on with: holdfast task resume" in done.out
    assert typed("task", "resume", "t", "--no-wait").code == 0
    assert typed("task", "watch", "t", "--timeout", "0.1").code == 124
    assert typed("task", "cancel", "t").code == 3
    assert typed.task("t")["state"] == "CANCELLED"
    retried = typed("task", "retry", "t", "--no-wait", "-o", "json").json()
    assert retried["retry_of"] == typed.task("t")["uuid"]
    assert typed("task", "rollback", retried["uuid"]).code == 3
    assert typed.task(retried["uuid"])["state"] == "REVERTED"
    typed.ask("hanging", "h")
    assert typed("task", "abort", "h").code == 3
    typed.ask("waiting", "f")
    failed = typed("task", "force-fail", "f", "--reason", "the rack burnt")
    assert (failed.code, "the rack burnt" in failed.out) == (1, True)
    typed.ask("undoable", "u")
    assert typed("task", "watch", "u").code == 0
    undone = typed("task", "rollback", "u", "-o", "json")
    assert (undone.code, undone.json()["rollback_of"]) == (0, typed.task("u")["uuid"])
    assert {step["state"] for step in undone.json()["steps"]} == {"REVERTED"}


def test_no_revert_and_a_verb_without_effect(typed: Typed) -> None:
    typed.ask("waiting", "t")
    assert typed("task", "cancel", "t", "--no-revert").code == 3
    assert typed("task", "cancel", "t").code == 3
    assert typed.task("t")["revert"] == "none"


# --- pools and workers -------------------------------------------------------------------------------------------


@pytest.mark.requirement("TF-6")
def test_pools_and_workers(typed: Typed) -> None:
    typed.ask("hanging", "t")
    uuid = typed.task("t")["uuid"]
    assert typed("pool", "set", "default", "--running-max", "8", "--queued-max", "5").code == 0
    shown = typed("pool", "show", "default", "-o", "json").json()
    assert (shown["running_max"], shown["queued_max"], shown["workers"]) == (8, 5, 1)
    assert typed("pool", "list").out.splitlines()[1].split()[:3] == ["default", "OPEN", "1"]
    assert typed("pool", "set", "default", "--queued-max", "none", "-o", "json").json()["queued_max"] is None
    until(lambda: typed.task("t")["state"] == "RUNNING")
    (worker,) = typed("worker", "list", "-o", "json").json()
    assert (worker["state"], [task["uuid"] for task in worker["tasks"]]) == ("ALIVE", [uuid])
    assert typed("worker", "list").out.splitlines()[1].startswith(worker["id"][:8])
    assert typed("worker", "list", "--pool", "other", "-o", "json").json() == []
    assert typed("pool", "pause", "default").out.startswith("pool default is PAUSED since ")
    typed.ask("quick", "u")
    assert typed("pool", "resume", "default").out.startswith("pool default is OPEN\n")
    assert typed("task", "watch", "u").code == 0
    assert typed("task", "abort", "t").code == 3
    assert typed("pool", "show", "nowhere").code == 5
    assert typed("pool", "set", "default", "--running-max", "0").code == 2


# --- exit codes --------------------------------------------------------------------------------------------------


def test_exit_codes(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    typed.ask("failing", "bad")
    done = typed("task", "watch", "bad")
    assert (done.code, "no such luck" in done.out) == (1, True)
    refused = typed("task", "suspend", "bad")
    assert (refused.code, "while it is FAILED" in refused.sentence()) == (4, True)
    assert typed("task", "show", "nobody").code == 5
    assert typed("task", "list", "--state", "asleep").code == 2
    assert typed("task", "list", "--database", "sqlite:///x.db", "--url", "http://127.0.0.1:1").code == 2
    assert typed("task", "watch", "bad", "--work").code == 2
    assert typed("task", "cancel", "bad", "--flows", "a:b").code == 2
    monkeypatch.setenv("HOLDFAST_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HOLDFAST_PATIENCE_S", "0")
    unreachable = typed("task", "list")
    assert (unreachable.code, "gave no answer" in unreachable.sentence()) == (2, True)


def test_who_asks(
    make_service: MakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "t0k3n-of-a-reader"
    who = {hashlib.sha256(token.encode()).hexdigest(): {"user": "u", "project": "p", "roles": ["reader"]}}
    (tmp_path / "tokens.json").write_text(json.dumps(who), encoding="utf-8")
    service = make_service(identity="tokens", tokens_file=str(tmp_path / "tokens.json"))
    say = Say(Shell(tmp_path), capsys)
    monkeypatch.setenv("HOLDFAST_URL", service.url)
    assert say("task", "list").code == 6
    assert say("task", "list", "--token", "wrong").code == 6
    assert say("task", "list", "--token", token).out.split()[:2] == ["ID", "FLOW"]
    monkeypatch.setenv("HOLDFAST_TOKEN", token)
    assert say("task", "list", "-o", "json").json() == []
    denied = say("resource", "delete", "server/web")
    assert denied.code in (5, 6)
    assert token not in denied.out + denied.err


# --- resources ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["service", "database"])
def say(
    request: pytest.FixtureRequest, make_service: MakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Say:  # fmt: skip
    """The commands on a service, and straight on a database."""
    monkeypatch.setenv("HOLDFAST_SERVER_DIR", str(tmp_path / "servers"))
    if request.param == "service":
        service = make_service(kinds=Kinds.load(), server_dir=str(tmp_path / "servers"))
        monkeypatch.setenv("HOLDFAST_URL", service.url)
    else:
        monkeypatch.setenv("HOLDFAST_DATABASE", database_at(tmp_path / "near.db"))
    typed = Say(Shell(tmp_path), capsys)
    if request.param == "database":
        assert typed("db", "upgrade").code == 0
    return typed


@pytest.mark.requirement("NOVA-12")
def test_a_noun_made_of_a_kind(say: Say) -> None:
    made = say("server", "create", "--name", "web", "--id", "web-1", "--memory-mib", "256", "--tag", "order-17")
    assert made.code == 0, made
    assert (
        say("server", "create", "--name", "web", "--id", "web-1", "--memory-mib", "256", "--tag", "order-17").code == 0
    )
    assert [task["task"] for task in say("server", "tasks", "web-1", "-o", "json").json()] == ["create"]
    listed = say("server", "list").out.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [["web-1", "web", "ACTIVE"]]
    before = say("server", "show", "web-1", "-o", "json").json()
    assert (before["sync_status"], before["desired"]["memory_mib"]) == ("IN_SYNC", 256)
    done = say("server", "action", "web-1", "reboot", "--soft", "--tag", "r1")
    assert (done.code, "reboot on server/web-1" in done.out) == (0, True)
    after = say("server", "show", "web-1", "-o", "json").json()
    assert after["observed"]["pid"] != before["observed"]["pid"]
    assert say("server", "action", "web-1", "reboot", "--hard", "--tag", "r1").code == 2
    assert say("server", "action", "web-1", "start").code == 4
    assert say("server", "action", "nobody", "reboot").code == 5
    assert say("server", "delete", "web-1").code == 0
    assert say("server", "list", "-o", "json").json() == []


def test_what_is_wanted_is_changed_and_made_so(say: Say) -> None:
    assert say("server", "create", "--name", "web", "--id", "web-1").code == 0
    assert say("resource", "set", "server/web-1", "memory_mib:=512").code == 0
    shown = say("resource", "show", "server/web-1", "-o", "json").json()
    assert (shown["desired"]["memory_mib"], shown["desired"]["name"], shown["revision"]) == (512, "web", 2)
    assert say("resource", "set", "server/web-1", "memory_mib:=64", "--revision", "1").code == 4
    assert say("resource", "set", "server/web-1", 'memory_mib:="much"').code == 2
    assert [each["revision"] for each in say("resource", "revisions", "server/web-1", "-o", "json").json()] == [2, 1]
    page = say("resource", "show", "server/web-1").out
    assert "IN_SYNC (revision 2 is wanted, 2 applied)" in page
    assert say("resource", "reconcile", "server/web-1").code == 0
    assert say("resource", "list", "server", "--sync-status", "out_of_sync", "-o", "json").json() == []
    assert "reboot" in say("resource", "kinds").out
    assert say("resource", "list", "car").code == 5
    assert say("resource", "show", "web-1").code == 2
    assert say("resource", "set", "server/web-1").code == 2
    assert say("resource", "delete", "server/web-1").code == 0


def test_help_of_nouns_teaches(say: Say) -> None:
    text = say("server", "action", "web-1", "reboot", "--help").out
    for told in ("--type HARD|SOFT", "--soft", "--tag TAG", "From ACTIVE, ERROR.", "--wait / --no-wait"):
        assert told in text
    assert "holdfast server action ID" in say("server", "--help").out
    assert "--memory-mib N" in say("server", "create", "--help").out
    assert say("sevrer", "list").code == 2
    assert say("server", "create").sentence() == "--name is needed"


def test_submit_by_the_name_of_a_flow(typed: Typed) -> None:
    done = typed("task", "submit", "quick", "number:=41", "--tag", "s")
    assert (done.code, done.out.splitlines()[-1]) == (0, "  sum = 42")
    assert "was accepted before" in typed("task", "submit", "quick", "number:=41", "--tag", "s").out
    assert len(typed("task", "list", "-o", "json").json()) == 1
    assert typed("task", "submit", "quick", "number:=42", "--tag", "s").code == 2
    assert typed("task", "submit", "nothing").code == 2
    assert typed("task", "submit", "quick", "colour=red").code == 2
    later = typed("task", "submit", "quick", "--start-after", "+1h", "--priority", "3", "--claim", "a/b", "--no-wait",
                  "-o", "json").json()  # fmt: skip
    assert (later["state"], later["priority"], later["claims"][0]["resource"]) == ("PENDING", 3, "a/b")
    assert typed("task", "submit", "quick", "number:secret=env:PATH").code == 2


def test_a_watcher_survives_the_death_of_the_service(make_served: MakeServed, shell: Shell) -> None:
    served = make_served()
    url = ("--url", served.url)
    assert shell("task", "submit", "waiting", "--tag", "t", "--no-wait", *url).code == 0
    watch = shell.start("task", "watch", "t", *url, HOLDFAST_PATIENCE_S="3600")  # however long a start takes here
    watch.until("waiting/wait_for_it WAITING")
    served.kill()
    served.start()
    assert shell("task", "deliver", "t", "go", *url).code == 0
    done = watch.end()
    assert (done.code, "task SUCCEEDED" in done.out) == (0, True)


def test_doctor_looks_at_the_service_that_commands_go_to(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    done = typed("doctor")
    assert (done.code, "ok     commands go to the service http://127.0.0.1:" in done.out) == (0, True)
    assert "holdfast.db" not in done.out  # nobody has named a database
    named = typed("doctor", "--database", "sqlite:///missing.db")
    assert (named.code, "missing.db" in named.out) == (1, True)
    monkeypatch.setenv("HOLDFAST_URL", "http://127.0.0.1:1")
    done = typed("doctor")
    assert (done.code, "http://127.0.0.1:1 gave no answer" in done.out) == (1, True)


def test_serve_does_not_listen_to_others_without_knowing_who_they_are(shell: Shell) -> None:
    done = shell("serve", "--host", "0.0.0.0", "--port", "0")
    assert (done.code, "identity is none" in done.sentence()) == (2, True)


def test_serve_says_that_somebody_has_its_port(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = shell("serve", "--port", str(other.getsockname()[1]))
    assert (done.code, "Address already in use; say another by --host and --port" in done.sentence()) == (2, True)


@pytest.mark.parametrize(
    ("words", "found"),
    [("holdfast res", "resource"), ("holdfast ser", "server"), ("holdfast server act", "action"),
     ("holdfast task re", "retry"), ("holdfast task cancel --no-", "--no-revert"),
     ("holdfast server action web-1 reb", "reboot"), ("holdfast server action web-1 reboot --so", "--soft")],
)  # fmt: skip
def test_a_shell_completes_commands_options_and_nouns(words: str, found: str, shell: Shell) -> None:
    done = shell(
        _HOLDFAST_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")),
        HOLDFAST_URL="http://127.0.0.1:1",
    )  # fmt: skip
    assert found in done.out.split()
    assert done.err == ""
