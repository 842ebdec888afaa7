"""`holdfast db copy`: what it says, and its exit codes. What is copied: tests/tasks/test_copying.py."""

from __future__ import annotations

from tests.cli.conftest import Say, Shell


def test_it_says_what_it_did_and_what_is_wrong(say: Say, shell: Shell) -> None:
    source, target = shell.database, f"sqlite:///{shell.directory}/other.db"
    missing = say("db", "copy", source, target)
    assert (missing.code, "there is no Holdfast database" in missing.sentence()) == (2, True)
    say("run", "flows_for_cli.py:good", "network=lab", "--tag", "t")
    done = say("db", "copy", source, target)
    assert (done.code, done.out.startswith(f"copied to {target}: "), "1 tasks" in done.out) == (0, True, True)
    assert say("task", "show", "t", "--database", target).code == 0
    again = say("db", "copy", source, target)
    assert (again.code, "not empty" in again.sentence()) == (4, True)
    there = f"sqlite:///{shell.directory}/third.db"
    assert say("db", "copy", source, there, "-o", "json").json()["rows"]["tasks"] == 1
