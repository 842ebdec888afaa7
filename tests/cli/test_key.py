"""`holdfast key`: make one, change it for another."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Say, Shell


def test_a_key_is_made_used_changed_and_the_old_one_taken_out(
    say: Say, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (say("key", "new").out.strip() for _ in range(2))
    file = shell.directory / "keys"
    file.write_text(old)
    monkeypatch.setenv("HOLDFAST_SECRET_KEY_FILE", str(file))
    monkeypatch.setenv("PASSWORD", "open sesame")
    login = ("run", "flows_for_cli.py:login", "password:secret=env:PASSWORD", "--tag")
    assert say(*login, "t").code == 0
    file.write_text(new)  # too early
    done = say("key", "rotate")
    task = say.task("t")["uuid"]
    assert (done.code, task in done.err, "put the key that sealed them behind the new one" in done.err) == (
        1,
        True,
        True,
    )
    file.write_text(f"{new}\n{old}\n")
    assert say("key", "rotate").out == (
        "2 secrets were sealed with the newest key, 0 had it already\nthe older keys are no longer needed\n"
    )
    assert say("key", "rotate", "-o", "json").json() == {"sealed": 0, "had": 2, "lost": []}
    file.write_text(new)
    assert say("doctor").code == 0
    assert "was accepted before and is SUCCEEDED" in say(*login, "t").out


def test_doctor_says_what_no_key_opens(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "open sesame")
    monkeypatch.setenv("HOLDFAST_SECRET_KEY", say("key", "new").out.strip())
    login = ("run", "flows_for_cli.py:login", "password:secret=env:PASSWORD", "--no-wait", "--tag", "t")
    assert say(*login).code == 0
    assert say("doctor").code == 0
    monkeypatch.setenv("HOLDFAST_SECRET_KEY", say("key", "new").out.strip())
    done = say("doctor")
    (wrong,) = (line for line in done.out.splitlines() if line.startswith("WRONG"))
    assert (done.code, f"task {say.task('t')['uuid']}" in wrong) == (1, True)
    monkeypatch.delenv("HOLDFAST_SECRET_KEY")
    assert say("key", "rotate").code == 2
