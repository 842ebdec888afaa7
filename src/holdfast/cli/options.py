"""What several commands take: the options, and how their texts become what the library wants."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from holdfast.errors import UsageError

if TYPE_CHECKING:
    from holdfast.local import Holdfast

Output = Literal["table", "json"]

DatabaseOption = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="The database, as sqlite:///FILE.", show_default=False)
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", metavar="table|json", help="For people or programs.")]
RuntimeOption = Annotated[
    Literal["threads", "inline"],
    typer.Option("--runtime", metavar="threads|inline", help="Where steps run that don't say so themselves."),
]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", help="Give up waiting then: exit 124.", min=0)
]
FlowsOption = Annotated[
    list[str] | None,
    typer.Option("--flows", metavar="MODULE:CALLABLE", help="Where flows are that functions make; may be repeated."),
]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it ends or rests, or only ask for it.")]


@contextmanager
def opened(
    database: str | None, *, create: bool = False, flows: Iterable[str] | None = None, **settings: Any
) -> Iterator[Holdfast]:
    """The database that is named, or that of the settings. The flows of its tasks are looked for in the current
    directory too, as `python -m` does."""
    import os
    import sys

    from holdfast import local
    from holdfast.flow.registry import load_flows

    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    known: list[Any] = []
    for target in flows or ():
        given = load_flows(target)
        known += given() if callable(given) else given
    with local.open(database, create=create, flows=known, **settings) as hold:
        hold.actor = f"cli:{_user()}"
        yield hold


def _user() -> str:
    """Who types, as far as the system knows."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def inputs(words: Iterable[str]) -> dict[str, Any]:
    """`key=text` and `key:=json` as values by name. Raises: UsageError."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name = key.removesuffix(":")
        if not equals or not name:
            raise UsageError(f"{word!r} is no input: say key=text, or key:=json")
        if name in found:
            raise UsageError(f"the input {name} is given twice")
        found[name] = _json(text, f"the input {name}") if key.endswith(":") else text
    return found


def claims(words: Iterable[str]) -> list[str | tuple[str, str]]:
    """`network/public`, or `network/public:shared`."""
    found: list[str | tuple[str, str]] = []
    for word in words:
        resource, colon, mode = word.rpartition(":")
        found.append((resource, mode) if colon and mode in ("shared", "exclusive") else word)
    return found


def answers(words: Iterable[str]) -> dict[str, str | tuple[str, Any]]:
    """`STEP=rerun`, or `STEP=done:JSON`. Raises: UsageError."""
    found: dict[str, str | tuple[str, Any]] = {}
    for word in words:
        step, equals, answer = word.rpartition("=") if ":" not in word else _split(word)
        if not equals or not step or not answer:
            raise UsageError(f"{word!r} is no answer: say STEP=done, STEP=rerun, STEP=undo or STEP=skip")
        verb, colon, text = answer.partition(":")
        found[step] = (verb, _json(text, f"the result of {step}")) if colon else verb
    return found


def _split(word: str) -> tuple[str, str, str]:
    """Where the answer has a result, which may have any letter in it."""
    for verb in ("done", "rerun", "undo", "skip"):
        step, found, text = word.partition(f"={verb}:")
        if found:
            return step, "=", f"{verb}:{text}"
    return "", "", ""


def payload(text: str | None) -> Any:
    return None if text is None else _json(text, "the payload")


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{what} is no JSON ({error}): text is quoted there, as in :='\"text\"'") from None


def typed(*words: str, database: str | None) -> str:
    """A command for a person to type, on the database that was named."""
    return shlex.join(["holdfast", *words, *(("--database", database) if database else ())])
