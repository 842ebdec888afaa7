"""What several commands take: the options, and how their texts become what the library wants.

Options that go together are a NamedTuple: a command has one parameter of that type, and `flat` shows typer an option
for each of its fields. So what they are called, and their help, is said once.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_type_hints

import typer

from holdfast.errors import UsageError

if TYPE_CHECKING:
    from holdfast.local import Holdfast

Output = Literal["table", "json"]

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database", metavar="URL", help="The database: sqlite:///FILE or postgresql://…", show_default=False
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", metavar="table|json", help="For people or programs.")]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="A service instead, as http://HOST:PORT.", show_default=False),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TOKEN", help="Who asks the service. Others can see it here: HOLDFAST_TOKEN is better.",
        show_default=False,
    ),
]  # fmt: skip
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="NAME", help="For which project, where the service takes it from a header.",
        show_default=False,
    ),
]  # fmt: skip
Runtime = Literal["threads", "inline"]
RuntimeOption = Annotated[
    Runtime,
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
TagOption = Annotated[
    str | None, typer.Option("--tag", metavar="TAG", help="Names this request: asked again, it is the same task.")
]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", help="So many at most.", min=1)]
ClaimOption = Annotated[
    list[str] | None,
    typer.Option("--claim", metavar="RESOURCE", help="Nobody else may use it meanwhile; with :shared, others may."),
]
PriorityOption = Annotated[
    int, typer.Option("--priority", metavar="N", help="Higher goes first among those that may begin.")
]
StartAfterOption = Annotated[
    str | None,
    typer.Option("--start-after", metavar="WHEN", help="Not before: +5m, +2h, +1d, 2026-01-31T12:00:00Z."),
]


class Where(NamedTuple):
    """Where the tasks are: a database, or a service. See place.py."""

    database: DatabaseOption = None
    url: UrlOption = None
    token: TokenOption = None
    project: ProjectOption = None


class Stay(NamedTuple):
    """Whether to stay with a task that has been asked for something, and who does it meanwhile."""

    wait: WaitOption = True
    timeout: TimeoutOption = None
    runtime: RuntimeOption = "threads"
    flows: FlowsOption = None


def flat(command: Callable[..., int]) -> Callable[..., int]:
    """The command as typer takes it: with the options of its groups in place of the groups."""
    import inspect

    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    shown: list[inspect.Parameter] = []
    for given in inspect.signature(command).parameters.values():
        kind = hints[given.name]
        if not hasattr(kind, "_field_defaults"):
            shown.append(given.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[given.name] = kind
        fields = get_type_hints(kind, include_extras=True)
        shown += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=fields[name])
            for name, default in kind._field_defaults.items()
        ]

    def call(**values: Any) -> int:
        made = {name: kind(**{field: values.pop(field) for field in kind._fields}) for name, kind in groups.items()}
        return command(**values, **made)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {each.name: each.annotation for each in shown} | {"return": int}
    call.__signature__ = inspect.Signature(shown, return_annotation=int)  # type: ignore[attr-defined]
    return call


@contextmanager
def opened(
    database: str | None,
    *,
    create: bool = False,
    flows: Iterable[str] | None = None,
    kinds: bool = False,
    **settings: Any,
) -> Iterator[Holdfast]:
    """The database that is named, or that of the settings. The flows of its tasks are looked for in the current
    directory too, as `python -m` does. kinds: with those that are installed, which takes a tenth of a second."""
    from holdfast import local

    known = loaded(flows)
    found = installed_kinds(**settings) if kinds else ()
    with local.open(database, create=create, flows=known, kinds=found, **settings) as hold:
        hold.actor = f"cli:{_user()}"
        yield hold


def loaded(flows: Iterable[str] | None) -> list[Any]:
    """The flows that `--flows` names; from here on modules are found in the current directory too."""
    import os
    import sys

    from holdfast.flow.registry import load_flows

    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    known: list[Any] = []
    for target in flows or ():
        given = load_flows(target)
        known += given() if callable(given) else given
    return known


def installed_kinds(**settings: Any) -> Any:
    """The kinds of this house and of the packages that are installed; none without what they are declared with."""
    try:
        import msgspec  # noqa: F401
    except ImportError:  # an installation without the service
        return ()
    from holdfast.resources.registry import Kinds
    from holdfast.settings import Settings

    return Kinds.load(settings=Settings.load(**settings))


def _user() -> str:
    """Who types, as far as the system knows."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def inputs(words: Iterable[str]) -> dict[str, Any]:
    """`key=text`, `key:=json` and `key:secret=…` as values by name. Raises: UsageError."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name, colon, how = key.partition(":")
        if not equals or not name or how not in ("", "secret"):
            raise UsageError(f"{key!r} is no input: say key=text, key:=json, or key:secret=@-")
        if name in found:
            raise UsageError(f"the input {name} is given twice")
        if how:
            found[name] = _secret(name, text)
        else:
            found[name] = json_of(text, f"the input {name}") if colon else text
    return found


def _secret(name: str, source: str) -> Any:
    """A secret from where nobody sees it: stdin, a file, or the environment. A newline at its end is none of it."""
    import os
    import sys

    from holdfast.core.values import Secret

    kind, _, rest = source.partition(":")
    if source == "@-":
        return Secret(sys.stdin.read().removesuffix("\n"))
    if source.startswith("@"):
        try:
            with open(source[1:], encoding="utf-8") as file:
                return Secret(file.read().removesuffix("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the secret {name} can't be read from {source[1:]}: {error}") from None
    if kind == "env" and rest:
        if rest not in os.environ:
            raise UsageError(f"the secret {name}: there is no variable {rest}")
        return Secret(os.environ[rest])
    raise UsageError(
        f"others can see a command line, so the secret {name} is not given on it: say {name}:secret=@- (stdin), "
        f"{name}:secret=@FILE or {name}:secret=env:VARIABLE"
    )


def moment(text: str | None, now: float) -> float | None:
    """A time as people say it, in seconds since the epoch: +90s, +5m, +2h, +1d from now, or in RFC 3339. Raises:
    UsageError."""
    from datetime import datetime

    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    try:
        if text.startswith("+"):
            return now + float(text[1:-1]) * units[text[-1]]
        at = datetime.fromisoformat(text)
    except (ValueError, KeyError):
        raise UsageError(f"{text!r} is no time: say +90s, +5m, +2h, +1d, or 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        raise UsageError(f"{text!r} needs its offset from UTC, as 2026-01-31T12:00:00Z")
    return at.timestamp()


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
        found[step] = (verb, json_of(text, f"the result of {step}")) if colon else verb
    return found


def _split(word: str) -> tuple[str, str, str]:
    """Where the answer has a result, which may have any letter in it."""
    for verb in ("done", "rerun", "undo", "skip"):
        step, found, text = word.partition(f"={verb}:")
        if found:
            return step, "=", f"{verb}:{text}"
    return "", "", ""


def payload(text: str | None) -> Any:
    return None if text is None else json_of(text, "the payload")


def json_of(text: str, what: str) -> Any:
    """Raises: UsageError, which names `what`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{what} is no JSON ({error}): text is quoted there, as in :='\"text\"'") from None


def typed(*words: str, where: Where) -> str:
    """A command for a person to type, where this one was given. A token is never said."""
    said = (("--database", where.database), ("--url", where.url), ("--project", where.project))
    return shlex.join(["holdfast", *words, *(word for name, text in said if text for word in (name, text))])
