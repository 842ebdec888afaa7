"""The page docs/reference/cli.md: the help of `holdfast` and of every command below it, and the exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import typer

from holdfast import errors
from holdfast.cli import exits, main, nouns
from holdfast.resources.node.kind import node
from holdfast.resources.registry import Kinds
from holdfast.resources.server.kind import server
from tools import pages

WIDTH = 100
HEAD = """
What `--help` says, of every command. `-o json` prints for programs; `--traceback` anywhere in the line shows where an
error came from.
"""
NOUNS = """
Each kind of resource is a noun, made of its declaration: its operations are commands, their parameters options. Those
of the kinds that come with Holdfast follow; `holdfast resource kinds` lists all that there are.
""".strip()
CODES = {
    "OK": "All is well; the task SUCCEEDED.",
    "FAILED": "The task FAILED.",
    "USAGE": "The command line is wrong, or the database or the service can't be used.",
    "UNDONE": "The task is CANCELLED, ABORTED or REVERTED.",
    "REFUSED": "The state of the task or the resource does not allow what was asked.",
    "NOT_FOUND": "There is no such task or resource.",
    "AUTH": "The service does not know who asks, or he may not.",
    "SUSPENDED": "The task is SUSPENDED: somebody asked, or it needs an answer.",
    "BUG": "A fault in Holdfast or in what it loaded.",
    "TIMED_OUT": "The wait timed out; what was asked for goes on.",
    "INTERRUPTED": "Left by a second Ctrl-C; nothing is lost.",
}


def cli(module: ModuleType) -> str:
    codes = {name: code for name, code in vars(exits).items() if name.isupper() and isinstance(code, int)}
    parts = [pages.head("Command line", HEAD)]
    parts.append("## Exit codes\n\n" + pages.table(("code", "means"), ((str(codes[n]), CODES[n]) for n in codes)))
    parts.append("An error's code is that of the first of its kinds here:")
    parts.append(pages.table(("error", "code"), [(called(kind), str(code)) for kind, code in exits.OF_ERROR]))
    parts += [
        f"## {name}\n\n```text\n{text}\n```" for name, text in helps(typer.main.get_command(module.app), "holdfast")
    ]
    parts.append(NOUNS)
    parts += [f"## {name}\n\n```text\n{text}\n```" for noun in nouns_of_this_house() for name, text in noun]
    return "\n\n".join(parts)


def nouns_of_this_house() -> Iterator[Iterator[tuple[str, str]]]:
    """The helps of the nouns that are made of the kinds which come with Holdfast."""
    root = typer.main.get_command(main.app)
    for name, kind in nouns.described(Kinds([node, server])).items():
        context = root.context_class(root, info_name="holdfast", terminal_width=WIDTH, max_content_width=WIDTH)
        yield helps(typer.main.get_command(nouns.noun(name, kind)), f"holdfast {name}", context)


def called(kind: type[BaseException]) -> str:
    return f"[`{kind.__name__}`](errors.md)" if issubclass(kind, errors.HoldfastError) else f"`{kind.__name__}`"


def helps(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """The command's name and help, and those of the commands below it. `command` is click's, whoever ships click."""
    context = command.context_class(
        command, info_name=name.rpartition(" ")[2], parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield name, "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())
    for below in getattr(command, "commands", {}).values():
        yield from helps(below, f"{name} {below.name}", context)
