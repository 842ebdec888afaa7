"""The commands of nodes: the two of the proposal and the noun, on a database and on a service, with the same words."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from holdfast import local
from holdfast.cli import exits, node_table, options
from holdfast.resources.node import words
from holdfast.resources.node.fake import Device
from tests.cli.conftest import Done, Say, Shell
from tests.service.nodes import Metal, _metal, metal

__all__ = ["_metal", "metal"]

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Typed:
    """Commands about one node, `m`. `work`: what makes the place do what was asked for meanwhile."""

    def __init__(self, say: Say, machines: Path, *, is_near: bool) -> None:
        self._say = say
        self.is_near = is_near
        self.machines = machines

    def __call__(self, *words: str) -> Done:
        return self._say(*words)

    def enroll(self, name: str = "m", **knobs: Any) -> Done:
        return self(
            "node", "enroll", name, "--driver", "fake", "--info", f"path={self.machines}", "--info",
            f"fake:={json.dumps(knobs)}",
        )  # fmt: skip

    def states(self, name: str = "m") -> dict[str, Any]:
        done = self("node-show-states", name, "--json")
        assert done.code == 0, done.err
        found: dict[str, Any] = done.json()
        return found

    def finish(self, word: str) -> None:
        """Have the task that was printed done."""
        found = UUID.search(word)
        assert found is not None, word
        assert self("task", "watch", found[0], *(["--work"] if self.is_near else [])).code == 0

    def device(self, name: str = "m") -> Device:
        ident = self("node", "show", name, "-o", "json").json()["id"]
        return Device(str(self.machines), ident)


@pytest.fixture(params=["database", "service"])
def typed(request: pytest.FixtureRequest, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    if request.param == "service":
        asker: Metal = request.getfixturevalue("metal")
        monkeypatch.setenv("HOLDFAST_URL", asker.url)
        monkeypatch.setenv("HOLDFAST_PROJECT", asker.project)
        monkeypatch.delenv("HOLDFAST_DATABASE", raising=False)
    else:
        monkeypatch.setenv("HOLDFAST_SECRET_KEY", Fernet.generate_key().decode())
        monkeypatch.setenv("HOLDFAST_NODE_POLL_S", "0.02")
        local.open(os.environ["HOLDFAST_DATABASE"]).close()  # makes it
    return Typed(say, tmp_path / "machines.db", is_near=request.param == "database")


def test_enroll_list_show_and_forget(typed: Typed) -> None:
    done = typed.enroll()
    assert done.code == 0, done.err
    (node,) = typed("node", "list", "-o", "json").json()
    assert (node["name"], node["lifecycle"]) == ("m", "manageable")
    table = [line.split() for line in typed("node", "list").out.splitlines()]
    assert table[0][:4] == ["NAME", "ID", "DRIVER", "POWER"]
    assert table[1][:5] == ["m", node["id"], "fake", "power", "on"]
    page = typed("node", "show", "m").out
    assert page == typed("node", "show", node["id"]).out
    for told in ("manageable", "power         power on", "abort soft power off", "takes"):
        assert told in page
    assert typed("node", "verify", "m").code == 0
    assert typed("node", "action", "m", "power_off", "--timeout", "30").code == 0
    assert [task["task"] for task in typed("node", "tasks", "m", "-o", "json").json()][:2] == ["power_off", "manage"]
    done = typed("node", "delete", "m")
    assert done.code == 0, done.err
    assert typed("node", "list", "-o", "json").json() == []
    assert typed("node", "show", "m").code == exits.NOT_FOUND
    assert typed("node-show-states", "m").sentence() == "there is no node m"


@pytest.mark.requirement("IRONIC-13")
def test_the_states_are_the_proposals_table_or_json(typed: Typed) -> None:
    typed.enroll()
    states = typed.states()
    done = typed("node-show-states", "m")
    assert done.out.splitlines() == list(node_table.lines(states))
    assert (states["power_state"], states["provision_state"]) == (words.POWER_ON, "manageable")
    assert states == typed("node-show-states", "m", "-o", "json").json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", states["provision_updated_at"])


@pytest.mark.requirement("IRONIC-14")
def test_each_word_is_its_target(typed: Typed) -> None:
    typed.enroll()
    for word, target in words.COMMANDS.items():
        done = typed("node-set-power-state", "m", word, "-o", "json")
        assert done.code == 0, done.err
        task = done.json()
        assert task["task"].replace("_", " ") in (target, *_OTHERWISE.get(target, ()))
        typed.finish(task["uuid"])
    sent = [call.call for call in typed.device().calls(looks=False)]
    assert words.INJECT_NMI in sent
    assert not [call for call in sent if call.startswith("abort")]


_OTHERWISE = {
    words.REBOOT: ("reboot",),
    words.SOFT_REBOOT: ("soft reboot",),
    words.ABORT_SOFT_REBOOT: ("abort soft reboot",),
}


@pytest.mark.requirement("IRONIC-14")
@pytest.mark.parametrize("word", ["power on", "ON", "soft-off", "abort_off", "shutdown", ""])
def test_any_other_word_is_a_usage_error_that_lists_them(say: Say, word: str) -> None:
    for command in (("node-set-power-state", "m", word), ("node", "power", "m", word)):
        done = say(*command)
        assert done.code == exits.USAGE
        assert all(known in done.err for known in words.COMMANDS)


@pytest.mark.requirement("IRONIC-15")
def test_it_returns_at_once_with_the_task_and_can_be_told_to_wait(typed: Typed) -> None:
    typed.enroll(soft_off="ignored")
    done = typed("node-set-power-state", "m", "soft_off", "--power-timeout", "60")
    assert done.code == 0
    found = UUID.search(done.out)
    assert found is not None
    assert typed("task", "show", found[0], "-o", "json").json()["finish_time"] is None
    if not typed.is_near:  # where somebody works
        abort = typed("node-set-power-state", "m", "abort_soft_off", "--wait", "--timeout", "20")
        assert abort.code == 0, abort.err
        assert typed.states()["power_state"] == words.ERROR
    assert typed("task", "abort", found[0], "--no-wait").code in (0, exits.OK)

    waited = typed("node-set-power-state", "m", "soft_off", "--wait", "--power-timeout", "0.2")
    assert waited.code == exits.FAILED, waited.err
    waited = typed("node-set-power-state", "m", "soft_off", "--wait", "--timeout", "0.3", "--tag", "long")
    assert waited.code == exits.TIMED_OUT
    assert typed("task", "abort", "long").code in (0, exits.UNDONE)
    assert typed("node-set-power-state", "m", "off", "--wait").code == 0
    assert typed.states()["power_state"] == words.POWER_OFF


def test_power_stays_and_history_tells(typed: Typed) -> None:
    typed.enroll()
    assert typed("node", "power", "m", "off").code == 0
    assert typed("node", "power", "m", "soft_reboot").code == 0
    assert typed.states()["power_state"] == words.POWER_ON
    done = typed("node", "history", "m")
    told = [line for line in done.out.splitlines()[1:] if "verify" not in line]
    assert [line.split()[2:4] for line in told] == [
        ["soft_reboot", "SUCCEEDED"], ["power_off", "SUCCEEDED"], ["create", "SUCCEEDED"]
    ]  # fmt: skip
    assert len(typed("node", "history", "m", "--limit", "1", "-o", "json").json()) == 1


def test_maintenance(typed: Typed) -> None:
    typed.enroll()
    assert typed("node", "maintenance", "m", "on", "--reason", "new fan").code == 0
    wanted = typed("node", "show", "m", "-o", "json").json()["desired"]
    assert (wanted["maintenance"], wanted["maintenance_reason"]) == (True, "new fan")
    assert "maintenance" in typed("node", "list").out
    assert typed("node", "maintenance", "m", "off").code == 0
    wanted = typed("node", "show", "m", "-o", "json").json()["desired"]
    assert (wanted["maintenance"], wanted["maintenance_reason"]) == (False, None)
    assert typed("node", "maintenance", "m", "off", "--reason", "x").code == exits.USAGE
    assert typed("node", "maintenance", "m", "perhaps").code == exits.USAGE


def test_a_password_comes_from_where_nobody_sees_it_and_is_never_shown(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("s3cret\n", encoding="utf-8")
    (tmp_path / "key").write_text("read from a file\n", encoding="utf-8")
    monkeypatch.setenv("BMC_PASSWORD", "s3cret")
    base = ("--driver", "fake", "--info", f"path={typed.machines}")
    for name, source in (("a", f"@{tmp_path}/password"), ("b", "env:BMC_PASSWORD")):
        done = typed("node", "enroll", name, *base, "--password-from", source, "--info", f"key:secret=@{tmp_path}/key")
        assert done.code == 0, done.err
        told = done.out + done.err + typed("node", "show", name).out + typed("node", "show", name, "-o", "json").out
        assert "s3cret" not in told
        assert '"password": "******"' in told
        assert '"key": "read from a file"' in told  # this driver says nothing of it
    done = typed("node", "enroll", "c", *base, "--info", "password=s3cret")
    assert (done.code, "--password-from" in done.sentence()) == (exits.USAGE, True)
    done = typed("node", "enroll", "c", *base, "--password-from", "s3cret")
    assert (done.code, "s3cret" in done.err) == (exits.USAGE, False)


def test_a_password_is_asked_for_where_a_person_is(shell: Shell, tmp_path: Path) -> None:
    """On a terminal that shows nothing of it."""
    local.open(shell.database).close()
    person, terminal = pty.openpty()
    words = ("node", "enroll", "m", "--driver", "fake", "--address", "192.0.2.1", "-o", "json")
    env = {"HOLDFAST_SECRET_KEY": Fernet.generate_key().decode(), "HOLDFAST_DATABASE": shell.database}
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", *words], stdin=terminal, stdout=subprocess.PIPE, stderr=terminal,
        start_new_session=True, env=os.environ | env, cwd=shell.directory, text=True,
    )  # fmt: skip
    os.close(terminal)
    asked = b""
    while not asked.endswith(b": "):
        asked += os.read(person, 1)
    os.write(person, b"s3cret\n")
    out, _ = process.communicate(timeout=60)
    echoed = os.read(person, 1000)
    os.close(person)
    assert process.returncode == 0, echoed
    assert asked.startswith(b"Password of the BMC")
    assert b"s3cret" not in echoed + out.encode()
    with local.open(shell.database, kinds=options.installed_kinds()) as hold:
        (node,) = hold.resources("node")
        assert node.view()["desired"]["driver_info"] == {"address": "192.0.2.1", "password": "******"}


def test_a_name_is_given_once(typed: Typed) -> None:
    typed.enroll("twin")
    done = typed.enroll("twin")
    assert (done.code, "has the name twin already" in done.sentence()) == (exits.REFUSED, True)
    assert typed("node", "power", "twin", "on").code == 0


@pytest.mark.parametrize("typed", ["database"], indirect=True)
def test_one_of_several_with_a_name_is_said_by_its_id(typed: Typed) -> None:
    typed.enroll("twin")
    with local.open(os.environ["HOLDFAST_DATABASE"], kinds=options.installed_kinds()) as hold:
        hold.operate("node", "create", desired={"name": "twin", "driver": "fake"}, project_id="another")
    for command in (("power", "twin", "on"), ("show", "twin"), ("delete", "twin"), ("action", "twin", "reboot")):
        done = typed("node", *command)
        assert (done.code, "by its id" in done.sentence()) == (exits.USAGE, True)
    ident = typed("node", "list", "-o", "json").json()[0]["id"]
    assert typed("node", "power", ident, "on").code == 0


def test_a_shell_completes_the_words(shell: Shell) -> None:
    typed = "holdfast node-set-power-state m abort"
    done = shell.start(_HOLDFAST_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD="3").end()
    assert done.out.split() == [word for word in words.COMMANDS if word.startswith("abort")]
    done = shell.start(_HOLDFAST_COMPLETE="complete_bash", COMP_WORDS="holdfast node e", COMP_CWORD="2").end()
    assert done.out.split() == ["enroll"]
