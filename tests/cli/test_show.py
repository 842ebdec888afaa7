"""What is shown: texts become values, the tree shows every state, a poll is told once."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from holdfast.cli import exits, far, main, near, options, show
from holdfast.cli.live import Tree
from holdfast.clock import Clock
from holdfast.core import states
from holdfast.errors import UsageError
from tests.cli.conftest import Say, Shell


def test_inputs_are_text_or_json() -> None:
    assert options.inputs(["a=1", "b:=1", "c:=[1, null]", "url=http://x/?a:=b", "d="]) == {
        "a": "1",
        "b": 1,
        "c": [1, None],
        "url": "http://x/?a:=b",
        "d": "",
    }


def test_what_others_have_named_gives_the_terminal_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "web\x1b[2J\r\n\x9b31m\u202e\x07\x08."
    show.print_table(("NAME",), [(evil,)])
    show.Lines(Clock()).say(evil)
    show.Silent().say(evil)
    main._say(evil)
    told = capsys.readouterr()
    lines = [*told.out.split("\n"), *told.err.split("\n")]
    assert [line for line in lines if not line.isprintable()] == []
    assert len([line for line in lines if "web" in line]) == 4
    step = far.Step(0, "a/b", "RUNNING", 1, 0.0, None, 0.5, evil, "")
    assert show.progress_of(step).isprintable()
    buffer = io.StringIO()
    Tree(Console(file=buffer, width=100)).say(evil)
    assert buffer.getvalue().rstrip("\n").isprintable()


def test_answers_may_have_a_result() -> None:
    given = ["f/a=rerun", 'f/b=done:{"x": "=done:1"}', "f/m[0]/c=skip", "f/d=done"]
    assert options.answers(given) == {
        "f/a": "rerun",
        "f/b": ("done", {"x": "=done:1"}),
        "f/m[0]/c": "skip",
        "f/d": "done",
    }
    for wrong in ("f/a", "=done", "f/a=", "f/a=done:x"):
        with pytest.raises(UsageError):
            options.answers([wrong])


def test_claims_may_be_shared() -> None:
    assert options.claims(["node/1", "net/1:shared", "host/a:b"]) == ["node/1", ("net/1", "shared"), "host/a:b"]


def test_every_reason_and_every_state_has_its_words() -> None:
    assert set(show.REASONS) == set(states.REASONS)
    at_rest = {states.api_state(phase) for phase in states.FINAL | states.RESTING}
    assert set(exits.OF_STATE) == at_rest


def test_a_poll_is_told_once(say: Say, shell: Shell) -> None:
    (shell.directory / "polls.py").write_text(
        "import holdfast as hf\n@hf.step\ndef poll(ctx):\n    n = (ctx.last_checkpoint or 0) + 1\n"
        "    ctx.progress(n / 5, f'look {n}')\n    return hf.Again(0.01, n) if n < 5 else None\n"
    )
    done = say("run", "polls.py:poll")
    assert done.code == 0
    assert done.out.count("poll WAITING") == 1
    assert done.out.count("task WAITING") == 1


def _drawn(look: show.Look) -> str:
    text = io.StringIO()
    tree = Tree(Console(file=text, width=100, height=20, force_terminal=False))
    tree.update(look)
    tree.close()
    return text.getvalue()


def test_the_tree_shows_what_was_what_is_and_what_is_ahead(say: Say, shell: Shell) -> None:
    from holdfast import local

    say("run", "flows_for_cli.py:slow", "--tag", "t", "--timeout", "0.2")
    with local.open(shell.database) as hold:
        look = near.Story(hold, hold.task("t")).look()
        drawn = _drawn(look)
    assert "slow" in drawn.splitlines()[0]
    assert "✔ make_port" in drawn
    assert "nap" in drawn
    assert "· use_port" in drawn
    assert [line for _, line in look.news][:2] == ["task RUNNING", "slow/make_port RUNNING"]


def test_a_tree_of_many_steps_fits_the_screen(say: Say, shell: Shell) -> None:
    from holdfast import local

    (shell.directory / "many.py").write_text(
        "import holdfast as hf\n@hf.step\ndef s(): ...\n"
        "many = hf.linear('many', *(s.with_options(name=f's{i}') for i in range(60)))\n"
    )
    assert say("run", "many.py:many", "--tag", "t").code == 0
    with local.open(shell.database) as hold:
        drawn = _drawn(near.Story(hold, hold.task("t")).look())
    assert len(drawn.splitlines()) <= 20
    assert "earlier steps" in drawn
    assert "✔ s59" in drawn
