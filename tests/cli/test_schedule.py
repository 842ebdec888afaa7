"""`holdfast schedule …` on a database: every command, and what it says."""

from __future__ import annotations

from tests.cli.conftest import Say, Shell

ADD = (
    "schedule",
    "add",
    "nightly",
    "30 2 * * *",
    "flows_for_cli.py:good",
    "network=lab",
    "--timezone",
    "Europe/Berlin",
)


def test_add_show_list_pause_resume_remove(say: Say) -> None:
    say("run", "flows_for_cli.py:good")  # the database is there
    added = say(*ADD)
    assert added.code == 0
    assert added.out.startswith("schedule nightly is ACTIVE, next at ")
    assert "30 2 * * *  Europe/Berlin  catch_up one, overlap skip" in added.out
    assert say("schedule", "show", "nightly").out == added.out
    row = say("schedule", "list").out.splitlines()[1].split("  ")
    assert (row[0], row[1].strip()) == ("nightly", "30 2 * * *")
    assert say("schedule", "pause", "nightly").out.startswith("schedule nightly is PAUSED\n")
    assert say("schedule", "resume", "nightly", "-o", "json").json()["state"] == "ACTIVE"
    assert say("schedule", "remove", "nightly").out == "schedule nightly is removed\n"
    assert say("schedule", "list", "-o", "json").json() == []


def test_what_goes_wrong_is_one_sentence_and_a_code(say: Say, shell: Shell) -> None:
    say("run", "flows_for_cli.py:good")
    assert (say(*ADD).code, say(*ADD).code) == (0, 0)
    other = say(*ADD, "--overlap", "queue")
    assert (other.code, other.sentence()) == (4, "there is a schedule 'nightly' that asks for something else")
    wrong = say("schedule", "add", "never", "0 0 30 2 *", "flows_for_cli.py:good")
    assert (wrong.code, "0 0 30 2 *" in wrong.sentence()) == (2, True)
    assert say("schedule", "pause", "nobody").code == 5


def test_an_operation_of_a_resource(say: Say) -> None:
    say("run", "flows_for_cli.py:good")
    added = say(
        "schedule", "add", "sundays", "0 4 * * SUN", "reboot", "type=SOFT", "--on", "server/web-1", "-o", "json"
    )
    assert added.code == 0, added.err
    assert (added.json()["task"], added.json()["resource"]) == ("server.reboot", {"server": "web-1"})
