"""The pages say what is true: their blocks run, their commands exist, and nothing that a user meets is left out.

Links and reachability: tests/shape/test_docs.py. Generated pages that are out of date: `make check`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import holdfast as hf
from holdfast import errors, settings
from holdfast.cli import nouns
from holdfast.cli.main import app
from holdfast.core import states
from holdfast.resources.node.kind import node
from holdfast.resources.registry import Kinds
from holdfast.resources.server.kind import server
from tests.pages import blocks, on_free_ports

ROOT = Path(__file__).resolve().parents[1]
RUNNER = Path(__file__).with_name("pages.py")
# What it shows is quoted from the demo, which has tests of its own.
QUOTES = ROOT / "docs" / "how-to" / "control-a-machine.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *(page for page in DOCS if page != QUOTES)]
WITH_BLOCKS = [
    page
    for page in PAGES
    if any(block.language in ("python", "console") for block in blocks(page.read_text(encoding="utf-8")))
]
COMMAND = re.compile(r"(?:^\$ |^ {4,}|^|`)(holdfast [a-z][^`#\n]*)", re.MULTILINE)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def everything() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in [*PAGES, QUOTES])


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name)
def test_the_blocks_of_a_page_run_and_print_what_it_says(page: Path, tmp_path: Path) -> None:
    plain = {variable: value for variable, value in os.environ.items() if not variable.startswith("HOLDFAST_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", RUNNER, page],
        cwd=tmp_path,
        env=plain | {"PYTHONPATH": str(ROOT)},  # as in a clone, where `python -m peers.…` is found
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_runner_sees_a_page_that_says_something_else(tmp_path: Path) -> None:
    for said in ("```python\nprint(1)\n```\n```text\n2\n```\n", "```console\n$ cat missing\nfound\n```\n"):
        page = tmp_path / "page.md"
        page.write_text(said, encoding="utf-8")
        done = subprocess.run([sys.executable, RUNNER, page], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert "the page says" in done.stderr


def test_who_runs_a_page_meets_nobody_else_who_does() -> None:
    page = (
        "$ holdfast serve --port 8765 &\nholdfast: http://127.0.0.1:8765\n$ holdfast task show 87651 8766\n--port 6237"
    )
    serves, shown, *others, listens = re.findall(r"(?<!\.)\b\d{4,}", on_free_ports(page))
    assert (serves == shown, others) == (True, ["87651", "8766"])
    assert len({serves, listens, "8765", "6237"}) == 4


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 100


def test_most_pages_have_blocks_that_run() -> None:
    assert len(WITH_BLOCKS) >= 14
    how_to = [page for page in PAGES if page.parent.name == "how-to"]
    assert [name(page) for page in how_to if page not in WITH_BLOCKS] == []


# --- commands ----------------------------------------------------------------------------------------------------


def command_tree(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield words, command
        return
    for word, each in below.items():
        yield from command_tree(each, (*words, word))


# The nouns are made of kinds: those that come with Holdfast are on the page too.
NOUNS = {
    name: typer.main.get_command(nouns.noun(name, kind))
    for name, kind in nouns.described(Kinds([node, server])).items()
}
COMMANDS = dict(command_tree(typer.main.get_command(app)))
for noun, command in NOUNS.items():
    COMMANDS |= command_tree(command, (noun,))


def shown_commands() -> Iterator[tuple[str, str]]:
    for page in [*PAGES, QUOTES]:
        if page.parent.name != "reference":
            text = page.read_text(encoding="utf-8").replace("\\\n", " ")
            for found in COMMAND.finditer(text):
                yield name(page), re.split(r" {3,}", found[1])[0]


def fault_of(line: str) -> str | None:
    """What is wrong with a command line that a page shows."""
    words = shlex.split(line.replace("|", " | ").split(" | ")[0].removesuffix(" &"))[1:]
    if words[0] in NOUNS and words[1:2] == ["action"]:
        del words[2:3]  # the id, which stands before the operation
    known = next((words[:count] for count in (3, 2, 1) if tuple(words[:count]) in COMMANDS), None)
    if known is None:
        # A whole noun, as in `holdfast task`; or a place holder, as in `holdfast task suspend|resume`.
        return None if any(path[:1] == tuple(words[:1]) for path in COMMANDS) else "there is no such command"
    options = {
        option
        for parameter in COMMANDS[tuple(known)].params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    } | {"--help", "--traceback"}
    wrong = [word for word in words if word.startswith("-") and word.partition("=")[0] not in options]
    if wrong:
        return f"it takes no {wrong[0]}"
    command = COMMANDS[tuple(known)]
    given = [word for word in words[len(known) :] if word not in ("--help", "--traceback")]
    if given and given[-1].startswith("-"):
        given.pop()  # of an option that a sentence names
    _, more, _ = command.make_parser(command.context_class(command)).parse_args(given)
    return f"it takes no {more[0]} there" if more else None


def test_every_command_that_a_page_shows_exists_with_its_options() -> None:
    shown = list(shown_commands())
    assert len(shown) > 60
    assert [(page, line, fault) for page, line in shown if (fault := fault_of(line))] == []


def test_a_wrong_command_would_be_seen() -> None:
    assert fault_of("holdfast task resume T --answer a=rerun") is None
    assert fault_of("holdfast task resume T --answers a=rerun") == "it takes no --answers"
    assert fault_of("holdfast resource show server ID") == "it takes no ID there"
    assert fault_of("holdfast tasks list") == "there is no such command"


# --- nothing is left out -----------------------------------------------------------------------------------------


def all_errors(kind: type[errors.HoldfastError] = errors.HoldfastError) -> Iterator[type[errors.HoldfastError]]:
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from all_errors(below)


MENTIONED = {
    "command": [" ".join(("holdfast", *words)) for words in COMMANDS],
    "setting": [setting.name for setting in settings.TABLE],
    "variable": [setting.variable for setting in settings.TABLE],
    "task state": list(states.API_STATES),
    "step state": list(states.STEP_STATES),
    "verb": [*states.VERBS, "force-fail"],
    "reason": list(states.REASONS),
    "error": [f"`{kind.code}`" for kind in all_errors()],
    "public name": [f"hf.{public}" for public in hf.__all__],
}


@pytest.mark.parametrize("kind", MENTIONED)
def test_nothing_that_a_user_meets_is_left_out(kind: str) -> None:
    text = everything()
    assert MENTIONED[kind]
    assert [word for word in MENTIONED[kind] if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)] == []


def test_every_reason_to_rest_has_every_answer_with_its_command_line() -> None:
    page = (ROOT / "docs" / "how-to" / "answer-a-resting-task.md").read_text(encoding="utf-8")
    sections = {part.partition("`")[0]: part for part in page.split("\n## `")[1:]}
    assert list(sections) == list(states.REASONS)
    for word, reason in states.REASONS.items():
        lines = re.findall(r"`holdfast task resume TASK( --answer STEP=(\w+))?", sections[word])
        assert {answer for _all, answer in lines if answer} == set(reason.answers), word
        assert any(not answer for _all, answer in lines) == (not reason.needs_answer), word


def test_every_reason_and_every_error_of_the_store_has_a_runbook() -> None:
    resting = (ROOT / "docs" / "operate" / "resting-tasks.md").read_text(encoding="utf-8")
    assert re.findall(r"^## `(\w+)`$", resting, re.MULTILINE) == list(states.REASONS)
    database = (ROOT / "docs" / "operate" / "database.md").read_text(encoding="utf-8")
    codes = [kind.code for kind in all_errors() if kind.code.partition(".")[0] in ("store", "database")]
    assert [code for code in codes if f"`{code}`" not in database] == []


def test_what_is_quoted_from_the_demo_stands_there() -> None:
    source = (ROOT / "demo" / "power.py").read_text(encoding="utf-8")
    quoted = [
        line.removesuffix(" ...")
        for block in blocks(QUOTES.read_text(encoding="utf-8"))
        for line in block.text.splitlines()
        if block.language == "python" and line and "…" not in line
    ]
    assert len(quoted) >= 20
    assert [line for line in quoted if line not in source] == []
