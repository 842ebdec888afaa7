"""A noun for each kind of resource, made from its description: `holdfast server action ID reboot --soft`.

Nothing here knows any kind by name. The description is the service's where the line names one, else that of the kinds
that are installed (resources/describe.py); a parameter's options are made from its JSON schema.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import typer
import typer.core

from holdfast.cli import exits, options, place, resource, show
from holdfast.cli.options import LimitOption, OutputOption, Stay, TagOption, Where, flat
from holdfast.errors import UsageError

COMPLETING: Final = "_HOLDFAST_COMPLETE"  # typer's variable: a shell asks what could follow
OWN: Final = frozenset(("create", "update", "delete", "reconcile"))  # operations that are commands of their own
TAKEN: Final = frozenset(
    ("database", "url", "token", "project", "wait", "no-wait", "timeout", "runtime", "flows", "tag", "output", "id",
     "help", "traceback")
)  # fmt: skip
#: JSON's type -> Python's, for typer; any other is given as JSON.
TYPES: Final[dict[str, Any]] = {"string": str, "integer": int, "number": float, "boolean": bool}


class More(NamedTuple):
    """What the noun of a kind has besides, or in place of what is made here; None: it has no such command."""

    about: str
    commands: Mapping[str, Callable[..., int] | None]


#: Kind -> what is written for it. Its module is imported by main.py.
MORE: Final[dict[str, More]] = {}

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Its id, or its name if no other has it.")]


class Nouns(typer.core.TyperGroup):
    """The commands, and a noun for each kind. Kinds are only asked for where a word is no command."""

    _words: Sequence[str] = ()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self._words = args
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            kind = _kinds(self._words).get(cmd_name)
            found = None if kind is None else typer.main.get_command(noun(cmd_name, kind))
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        more = sorted(_kinds(())) if COMPLETING in os.environ else []
        return [*super().list_commands(ctx), *more]


def _kinds(words: Sequence[str]) -> dict[str, Any]:
    """Described by the place that the line names; a shell that waits for a completion asks no service."""
    if COMPLETING in os.environ:
        return _installed()
    said = {"--database": "database", "--url": "url", "--token": "token", "--project": "project"}
    given: dict[str, str] = {}
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in said:
            given[said[name]] = value if equals else words[at + 1] if at + 1 < len(words) else ""
    where = Where(**given)
    if where.database is not None or not (where.url or os.environ.get("HOLDFAST_URL")):
        return _installed()
    with place.at(where) as here:
        return here.kinds()


def _installed() -> dict[str, Any]:
    return described(options.installed_kinds())


def described(kinds: Iterable[Any]) -> dict[str, Any]:
    """The kinds as data."""
    from holdfast.resources.describe import describe

    return describe(kinds)


# --- one noun ----------------------------------------------------------------------------------------------------


def noun(name: str, kind: Mapping[str, Any]) -> typer.Typer:
    """The commands of a kind."""
    more = MORE.get(name, More(_about(name, kind), {}))
    app = typer.Typer(
        name=name, help=more.about, epilog=exits.LEGEND.replace("\n", " "), add_completion=False,
        no_args_is_help=True, rich_markup_mode=None,
    )  # fmt: skip

    def list_(where: Where, limit: LimitOption = 50, output: OutputOption = "table") -> int:
        with place.at(where, kinds=True) as here:
            resource.print_list(here.resources(name, limit=limit, filters={}), output)
        return exits.OK

    def show_(id: IdArgument, where: Where, output: OutputOption = "table") -> int:
        with place.at(where, kinds=True) as here:
            found = resource.named(here, name, id, lambda known: here.resource(name, known))
            resource.print_one(found, output)
        return exits.OK

    def tasks(id: IdArgument, where: Where, limit: LimitOption = 50, output: OutputOption = "table") -> int:
        with place.at(where, kinds=True) as here:
            known = resource.named(here, name, id, lambda known: str(here.resource(name, known)["id"]))
            found = here.tasks(limit=limit, state="", tag="", flow="", resource=f"{name}/{known}")
        show.print_tasks(found, output)
        return exits.OK

    title = kind["title"].lower()
    made: dict[str, tuple[str | None, Callable[..., int] | None]] = {
        "list": (f"List them: all {kind['plural']}.", flat(list_)),
        "show": (f"Show one {title}: what is wanted, what is, who works on it.", flat(show_)),
        "tasks": (f"List the tasks of a {title}, the newest first.", flat(tasks)),
    }
    if "create" in kind["operations"]:
        made["create"] = (_help(name, kind, "create"), _create(name, kind))
    for operation in ("delete", "reconcile"):
        if operation in kind["operations"]:
            made[operation] = (_help(name, kind, operation), _operate(name, operation, kind))
    own: dict[str, tuple[str | None, Callable[..., int] | None]] = {
        word: (None, command) for word, command in more.commands.items()
    }
    for word, (help, command) in (own | {word: each for word, each in made.items() if word not in own}).items():
        if command is not None:
            app.command(word, help=help)(command)
    app.add_typer(_actions(name, kind), name="action", help=f"Ask for an operation on a {title}.")
    return app


def _about(name: str, kind: Mapping[str, Any]) -> str:
    some = next((each for each in kind["operations"] if each not in OWN), "reconcile")
    return (
        f"{kind['title']}s: make them, see them, and ask for their operations.\n\n\b\n"
        f"holdfast {name} list\nholdfast {name} create --help\nholdfast {name} action ID {some} --tag order-17\n\n"
        f"What is wanted of one is changed by `holdfast resource set {name}/ID KEY=TEXT`."
    )


def _help(name: str, kind: Mapping[str, Any], operation: str) -> str:
    found = kind["operations"][operation]
    summary = found["summary"] or f"Ask for {operation}."
    return summary + (f"\n\nFrom {', '.join(found['starts'])}." if found["starts"] else "")


def _actions(name: str, kind: Mapping[str, Any]) -> typer.Typer:
    """`action ID OPERATION`: the id stands before the operation, as one says it."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, subcommand_metavar="OPERATION [OPTIONS]")

    @app.callback()
    def whose(ctx: typer.Context, id: IdArgument) -> None:
        ctx.obj = id

    for operation in kind["operations"]:
        if operation not in OWN:
            app.command(operation, help=_help(name, kind, operation))(_operate(name, operation, kind, whose=True))
    return app


# --- its commands ------------------------------------------------------------------------------------------------


def _create(name: str, kind: Mapping[str, Any]) -> Callable[..., int]:
    fields = list(properties(kind["fields"]))

    def create(
        where: Where, stay: Stay, given: dict[str, Any],
        id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Its id; a new one if not given.")] = None,
        tag: TagOption = None, output: OutputOption = "table",
    ) -> int:  # fmt: skip
        with place.at(where, flows=stay.flows, kinds=True) as here:
            return resource.accepted(here, here.operate(name, "create", id, given, tag=tag), stay, output)

    return _with_fields(create, fields)


def _operate(name: str, operation: str, kind: Mapping[str, Any], *, whose: bool = False) -> Callable[..., int]:
    schema = kind["operations"][operation]["params"]
    fields = [] if schema is None else list(properties(schema, flags=True))

    def ask(id: str, where: Where, stay: Stay, given: dict[str, Any], tag: str | None, output: options.Output) -> int:
        with place.at(where, flows=stay.flows, kinds=True) as here:
            asked = resource.named(here, name, id, lambda known: here.operate(name, operation, known, given, tag=tag))
            return resource.accepted(here, asked, stay, output)

    def of_context(
        ctx: typer.Context, where: Where, stay: Stay, given: dict[str, Any], tag: TagOption = None,
        output: OutputOption = "table",
    ) -> int:  # fmt: skip
        return ask(ctx.obj, where, stay, given, tag, output)

    def of_argument(
        id: IdArgument, where: Where, stay: Stay, given: dict[str, Any], tag: TagOption = None,
        output: OutputOption = "table",
    ) -> int:  # fmt: skip
        return ask(id, where, stay, given, tag, output)

    return _with_fields(of_context if whose else of_argument, fields)


def _with_fields(command: Callable[..., int], fields: Sequence[Field]) -> Callable[..., int]:
    """The command with an option for each field; it gets those that were given as the dict `given`."""
    shown = inspect.signature(flat(command)).parameters
    flags = [parameter for field in fields for parameter in field.parameters()]
    made = [each for name, each in shown.items() if name != "given"]
    inner = flat(command)

    def call(**values: Any) -> int:
        given = {}
        for field in fields:
            mine = {each.name: values.pop(each.name) for each in field.parameters()}
            value = field.value(mine)
            if value is not None:
                given[field.name] = value
        return inner(**values, given=given)

    call.__annotations__ = {each.name: each.annotation for each in (*flags, *made)} | {"return": int}
    arguments = [each for each in made if each.default is inspect.Parameter.empty]
    rest = [each for each in made if each.default is not inspect.Parameter.empty]
    call.__signature__ = inspect.Signature([*arguments, *flags, *rest])  # type: ignore[attr-defined]
    return call


# --- options of a schema -----------------------------------------------------------------------------------------


class Field(NamedTuple):
    """One property. `kind`: a key of TYPES, "list" (of strings), or "json". `words`: those it may be; `flags`: those of
    them that are options by themselves, as --soft."""

    name: str
    kind: str
    words: tuple[str, ...]
    flags: tuple[str, ...]
    required: bool
    default: Any
    help: str

    @property
    def option(self) -> str:
        word = self.name.replace("_", "-")
        return f"field-{word}" if word in TAKEN else word

    def parameters(self) -> list[inspect.Parameter]:
        """The options as typer wants them. Where it is one of some words, each is a flag too: --soft."""
        made = [self._parameter(f"field_{self.name}", *self._typed())]
        for word in self.flags:
            flag = word.lower().replace("_", "-")
            hint = Annotated[bool, typer.Option(f"--{flag}", help=f"The same as --{self.option} {word}.")]
            made.append(self._parameter(f"flag_{self.name}_{word}", hint, False))
        return made

    def _parameter(self, name: str, hint: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)

    def _typed(self) -> tuple[Any, Any]:
        declared = f"--{self.option}"
        said = (
            "" if self.default in (None, "", [], {}) or self.required else f" {json.dumps(self.default)} if not given."
        )
        help = " ".join(filter(None, (self.help, "Needed." if self.required else "", said.strip()))) or None
        if self.kind == "boolean":
            return Annotated[bool | None, typer.Option(f"{declared}/--no-{self.option}", help=help)], None
        if self.kind == "list":
            return Annotated[list[str] | None, typer.Option(declared, metavar="TEXT", help=help)], None
        metavar = "|".join(self.words) or {"string": "TEXT", "integer": "N", "number": "NUMBER"}.get(self.kind, "JSON")
        type_: Any = TYPES.get(self.kind, str) | None
        hint = Annotated[type_, typer.Option(declared, metavar=metavar, help=help, show_default=False)]
        return hint, None

    def value(self, given: Mapping[str, Any]) -> Any:
        """What was given of it; None: nothing. Raises: UsageError."""
        plain = given[f"field_{self.name}"]
        flagged = [word for word in self.flags if given[f"flag_{self.name}_{word}"]]
        said = [*([plain] if plain not in (None, []) else []), *flagged]
        if len(said) > 1:
            raise UsageError(f"--{self.option} is given twice: {', '.join(map(str, said))}")
        if not said:
            if self.required:
                raise UsageError(f"--{self.option} is needed")
            return None
        if self.words:
            known = {word.lower(): word for word in self.words}
            return known.get(str(said[0]).lower(), said[0])
        return options.json_of(said[0], f"--{self.option}") if self.kind == "json" else said[0]


def properties(schema: Mapping[str, Any], *, flags: bool = False) -> Iterator[Field]:
    """The options of a document's schema. What is wrong with a value the service says. flags: words are options too,
    where they are plain ones."""
    defs = schema.get("$defs", {})
    needed = schema.get("required", ())
    for name, given in schema.get("properties", {}).items():
        found = _plain(given, defs)
        words = tuple(word for word in found.get("enum", ()) if isinstance(word, str))
        kind = "string" if words else str(found.get("type", "json"))
        if kind == "array" and _plain(found.get("items", {}), defs).get("type") == "string":
            kind = "list"
        if kind not in TYPES and kind != "list":
            kind = "json"
        flagged = tuple(word for word in words if flags and word.isidentifier() and word.lower() not in TAKEN)
        yield Field(name, kind, words, flagged, name in needed, given.get("default"), _sentence(given, found))


def _plain(schema: Any, defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without what it refers to, and without null."""
    if not isinstance(schema, Mapping):
        return {}
    if "$ref" in schema:
        return _plain(defs.get(str(schema["$ref"]).rpartition("/")[2], {}), defs)
    some = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return _plain(some[0], defs) if len(some) == 1 else schema


def _sentence(given: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return str(given.get("description") or found.get("description") or "")
