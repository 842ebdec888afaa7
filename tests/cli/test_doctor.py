"""`holdfast doctor`, `machine`, `db` and the first words of the command line."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys

import pytest

from tests.cli.conftest import Say, Shell


def alter(shell: Shell, *statements: str) -> None:
    """Behind Holdfast's back."""
    connection = sqlite3.connect(shell.directory / "tasks.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_sound_database_exits_0(say: Say) -> None:
    say("run", "flows_for_cli.py:good")
    done = say("doctor")
    assert (done.code, done.err) == (0, "")
    assert "journal_mode is wal, synchronous is full" in done.out
    assert "1 SUCCEEDED" in done.out
    assert all(line.startswith("ok ") for line in done.out.splitlines())
    assert all(finding["good"] for finding in say("doctor", "-o", "json").json())


def test_a_dead_worker_and_its_task(shell: Shell, say: Say) -> None:
    run = shell.start("run", "flows_for_cli.py:slow")
    shell.until_in(run, "slow/nap")
    assert " lives, pool " in say("doctor").out
    run.signal(signal.SIGKILL)
    run.end()
    done = say("doctor")
    assert done.code == 1
    (wrong,) = (line for line in done.out.splitlines() if line.startswith("WRONG"))
    assert "is dead and has 1 tasks: start a `holdfast worker`" in wrong


def test_a_misspelt_variable_and_a_value_that_is_none(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    say("run", "flows_for_cli.py:good")
    monkeypatch.setenv("HOLDFAST_LEASES", "3")
    done = say("doctor")
    assert (done.code, "HOLDFAST_LEASES is no setting" in done.out) == (1, True)
    monkeypatch.delenv("HOLDFAST_LEASES")
    monkeypatch.setenv("HOLDFAST_LEASE_S", "soon")
    done = say("doctor")
    assert (done.code, "HOLDFAST_LEASE_S is 'soon'" in done.out) == (1, True)


def test_a_flow_that_cannot_be_found_again(shell: Shell) -> None:
    shell("run", "flows_for_cli.py:good", "--no-wait")
    shell.flows.unlink()
    done = shell("doctor")
    assert (done.code, "can't be found from here: there is no file" in done.out) == (1, True)


def test_a_schedule_that_nobody_can_do_and_one_that_nobody_has_looked_at(shell: Shell, say: Say) -> None:
    say("run", "flows_for_cli.py:good")  # the database is there
    say("schedule", "add", "nightly", "30 2 * * *", "flows_for_cli.py:good", "network=lab")
    assert "schedules: 1 ACTIVE" in say("doctor").out
    alter(shell, "UPDATE schedules SET next_at = 5")
    late = say("doctor")
    assert (late.code, "the moment of schedule nightly has long passed" in late.out) == (1, True)
    shell.flows.unlink()
    lost = shell("doctor")
    assert "schedule nightly makes no task from here: " in lost.out
    assert "there is no file" in lost.out


def test_a_task_in_no_state_of_the_table(say: Say, shell: Shell) -> None:
    say("run", "flows_for_cli.py:good", "--no-wait")
    for state, hold, phase in (("PENDING", "'sideways'", "PENDING/sideways"), ("SUSPENDED", "NULL", "SUSPENDED")):
        alter(shell, "PRAGMA ignore_check_constraints = ON", f"UPDATE tasks SET state = '{state}', hold = {hold}")
        done = say("doctor")
        assert (done.code, f"is {phase}, which is no state" in done.out) == (1, True)


def test_a_task_that_waits_for_claims_that_nobody_holds(say: Say, shell: Shell) -> None:
    say("run", "flows_for_cli.py:good", "--no-wait", "--claim", "node/7")
    alter(shell, "UPDATE tasks SET ready = 0")
    done = say("doctor")
    assert (done.code, "waits for claims that nobody holds" in done.out) == (1, True)


def test_a_task_that_waits_for_a_person_is_no_fault(say: Say, shell: Shell) -> None:
    (shell.directory / "after_broken").touch()
    (shell.directory / "stuck").touch()
    assert say("run", "flows_for_cli.py:failing").code == 7
    done = say("doctor")
    assert (done.code, "1 wait for a person" in done.out) == (0, True)


def test_a_task_whose_flow_has_changed_says_what_to_do(shell: Shell, say: Say) -> None:
    run = shell.start("run", "flows_for_cli.py:slow", "--tag", "t")
    shell.until_in(run, "slow/nap")
    run.signal(signal.SIGINT)
    assert run.end().code == 7
    source = shell.flows.read_text(encoding="utf-8")
    changed = source.replace('hf.linear("slow", make_port, nap, use_port)', 'hf.linear("slow", make_port, use_port)')
    shell.flows.write_text(changed, encoding="utf-8")
    assert shell("run", "flows_for_cli.py:slow", "--tag", "t").code == 7
    done = say("doctor")
    (wrong,) = (line for line in done.out.splitlines() if line.startswith("WRONG"))
    assert (done.code, "the flow slow is not the one it began with" in wrong) == (1, True)
    assert f"holdfast task adopt {say.task('t')['uuid']} --dry-run" in wrong


def test_a_database_that_is_not_there(say: Say) -> None:
    done = say("doctor")
    assert (done.code, "there is no Holdfast database" in done.out) == (1, True)


def test_secret_keys(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    say("run", "flows_for_cli.py:good")
    made = say("key", "new")
    assert made.code == 0
    monkeypatch.setenv("HOLDFAST_SECRET_KEY", made.out.strip())
    assert "the secret key can be used" in say("doctor").out
    monkeypatch.setenv("HOLDFAST_SECRET_KEY", "secret")
    assert say("doctor").code == 1


@pytest.mark.requirement("NOVA-9", "NOVA-10")
def test_machines_are_proven_and_drawn(say: Say) -> None:
    done = say("machine", "check")
    assert done.code == 0
    machines = ("task", "step", "server", "node")
    assert {line.split(" (")[0] for line in done.out.splitlines()} == {f"{machine}: sound" for machine in machines}
    assert say("machine", "check", "-o", "json").json() == {machine: [] for machine in machines}
    assert say("machine", "show", "task", "--mermaid").out.startswith("stateDiagram-v2\n")
    assert say("machine", "show", "step", "--dot").out.startswith('digraph "step" {')
    assert "SUSPENDED/forward" in say("machine", "show", "task").out
    assert say("machine", "show", "task", "-o", "json").json()["start"] == "PENDING"


def test_db_upgrade_makes_and_leaves(say: Say, shell: Shell) -> None:
    assert "and is new" in say("db", "upgrade").out
    assert "has the newest schema" in say("db", "upgrade").out
    assert say("run", "flows_for_cli.py:good").code == 0


def test_db_purge(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_RETENTION_S", "0")
    say("run", "flows_for_cli.py:good")
    assert say("db", "purge").out == "1 tasks purged\n"
    assert say("task", "list", "-o", "json").json() == []


def test_help_teaches_with_examples(say: Say) -> None:
    for words in ([], ["run"], ["task"], ["task", "resume"], ["machine"], ["worker"], ["serve"], ["drain"],
                  ["resource"], ["resource", "set"]):  # fmt: skip
        text = say(*words, "--help").out
        assert "  holdfast " in text
    assert "Exit codes: 0 ok" in say("--help").out


def test_version(say: Say) -> None:
    import holdfast

    assert say("--version").out == f"holdfast {holdfast.__version__}\n"


def test_completion_is_there(say: Say) -> None:
    assert "--show-completion" in say("--help").out


def test_the_first_words_load_neither_the_store_nor_rich() -> None:
    script = (
        "import sys\nfrom holdfast.cli.main import main\nmain(['--version'])\n"
        "print(sorted({'sqlalchemy', 'sqlite3', 'rich', 'asyncio', 'alembic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_pipe_that_closes_early_is_no_error(shell: Shell) -> None:
    shell("run", "flows_for_cli.py:good")
    line = shell.start("task", "show", "none", "--help")
    assert line.process.stdout is not None
    line.process.stdout.close()
    assert line.process.wait(60) == 0
    assert line.process.stderr is not None
    assert line.process.stderr.read() == ""
