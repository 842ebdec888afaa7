"""`holdfast resource …`: resources of any kind, on a database or on a service. A noun for each kind: nouns.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from holdfast.cli import exits, options, place, show
from holdfast.cli.options import LimitOption, OutputOption, Stay, TagOption, Where, flat
from holdfast.cli.task import stayed
from holdfast.errors import NotFound, PreconditionFailed, UsageError

if TYPE_CHECKING:
    from holdfast.cli.place import Handle, Place

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, epilog=exits.LEGEND.replace("\n", " "))

T = TypeVar("T")

TRIES: Final = 5  # to change some fields of what others change too

ResourceArgument = Annotated[str, typer.Argument(metavar="KIND/ID", help="The resource.")]
RevisionOption = Annotated[
    int | None, typer.Option("--revision", metavar="N", help="Only if that is still what is wanted of it: else exit 4.")
]


@app.callback()
def about() -> None:
    """Resources: what is wanted of each, what is true of it, and whether both agree.

    \b
    holdfast resource list server --sync-status out_of_sync
    holdfast resource show server/web-1
    holdfast resource set server/web-1 memory_mib:=2048     change a field of what is wanted
    holdfast resource reconcile server/web-1                make it so, where it is not
    holdfast server --help                                  a noun for each kind: its operations

    Every change is a task: it is accepted at once, takes its turn behind those before it, and is followed as others
    are.
    """


@app.command()
@flat
def kinds(where: Where, output: OutputOption = "table") -> int:
    """List the kinds of resources that there are, and their operations."""
    with place.at(where, kinds=True) as here:
        found = here.kinds()
    if output == "json":
        show.print_json(found)
    else:
        rows = [(name, each["title"], ", ".join(each["operations"])) for name, each in sorted(found.items())]
        show.print_table(("KIND", "TITLE", "OPERATIONS"), rows)
    return exits.OK


@app.command(name="list")
@flat
def list_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="As `holdfast resource kinds` has it.")],
    where: Where,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Of that name.")] = "",
    status: Annotated[str, typer.Option("--status", metavar="STATUS", help="Of that status.")] = "",
    sync_status: Annotated[
        str, typer.Option("--sync-status", metavar="WORD", help="in_sync, syncing, out_of_sync or unknown.")
    ] = "",
    limit: LimitOption = 50,
    output: OutputOption = "table",
) -> int:
    """List the resources of a kind.

    \b
    holdfast resource list server
    holdfast resource list server --sync-status out_of_sync -o json
    """
    filters = {"name": name, "status": status, "sync_status": sync_status.upper()}
    with place.at(where, kinds=True) as here:
        found = here.resources(kind, limit=limit, filters={name: text for name, text in filters.items() if text})
    print_list(found, output)
    return exits.OK


@app.command(name="show")
@flat
def show_(resource: ResourceArgument, where: Where, output: OutputOption = "table") -> int:
    """Show one resource: what is wanted, what is, who works on it and who waits."""
    kind, id = parts(resource)
    with place.at(where, kinds=True) as here:
        found = here.resource(kind, id)
    print_one(found, output)
    return exits.OK


@app.command()
@flat
def revisions(resource: ResourceArgument, where: Where, output: OutputOption = "table") -> int:
    """List what was ever wanted of it, the newest first, and the task that brought each."""
    kind, id = parts(resource)
    with place.at(where, kinds=True) as here:
        found = here.revisions(kind, id)
    if output == "json":
        show.print_json(found)
    else:
        rows = [
            (
                str(each["revision"]),
                "applied" if each["applied"] else "",
                show.moment(each["created_at"]),
                each["task_id"] or "",
                json.dumps(each["desired"], ensure_ascii=False),
            )
            for each in found
        ]
        show.print_table(("REVISION", "", "ACCEPTED (UTC)", "TASK", "WANTED"), rows)
    return exits.OK


# --- asking ------------------------------------------------------------------------------------------------------


@app.command(name="set")
@flat
def set_(
    resource: ResourceArgument,
    where: Where,
    stay: Stay,
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=TEXT|KEY:=JSON", help="Fields to change.", show_default=False),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="The whole document as JSON instead; - is stdin.")
    ] = None,
    revision: RevisionOption = None,
    tag: TagOption = None,
    output: OutputOption = "table",
) -> int:
    """Say what is wanted of a resource. One that is not there yet is made.

    \b
    holdfast resource set server/web-1 memory_mib:=2048
    holdfast resource set server/web-1 --file server.json --tag order-17
    holdfast resource show server/web-1 -o json | jq .desired > server.json

    Fields that are not named stay as they are wanted now, whoever else changes it meanwhile.
    """
    kind, id = parts(resource)
    changes = options.inputs(fields or ())
    if bool(changes) == (file is not None):
        raise UsageError("say what is wanted: either KEY=TEXT …, or --file")
    with place.at(where, flows=stay.flows, kinds=True) as here:
        if file is not None:
            asked = here.operate(kind, _known(here, kind, id), id, _read(file), tag=tag, revision=revision)
        else:
            asked = change(here, kind, id, changes, tag=tag, revision=revision)
        return accepted(here, asked, stay, output)


def change(
    here: Place, kind: str, id: str, changes: Mapping[str, Any], *, tag: str | None, revision: int | None
) -> Handle:
    """Change some fields of what is wanted; those that are not named are as they are when the change is accepted.
    Raises: PreconditionFailed: it is another revision than the one named."""
    for left in reversed(range(TRIES)):
        try:
            known = here.resource(kind, id)
        except NotFound:
            return here.operate(kind, "create", id, changes, tag=tag)
        try:
            wanted = {**known["desired"], **changes}
            seen = known["revision"] if revision is None else revision
            return here.operate(kind, "update", id, wanted, tag=tag, revision=seen)
        except PreconditionFailed:  # somebody changed it between our two requests
            if revision is not None or not left:
                raise
    raise AssertionError


@app.command()
@flat
def delete(
    resource: ResourceArgument,
    where: Where,
    stay: Stay,
    revision: RevisionOption = None,
    tag: TagOption = None,
    output: OutputOption = "table",
) -> int:
    """Ask for its end."""
    return _ask(resource, "delete", where, stay, tag, output, revision)


@app.command()
@flat
def reconcile(
    resource: ResourceArgument, where: Where, stay: Stay, tag: TagOption = None, output: OutputOption = "table"
) -> int:
    """Make it what is wanted, where it is not."""
    return _ask(resource, "reconcile", where, stay, tag, output)


def _ask(
    resource: str, operation: str, where: Where, stay: Stay, tag: str | None, output: options.Output,
    revision: int | None = None,
) -> int:  # fmt: skip
    kind, id = parts(resource)
    with place.at(where, flows=stay.flows, kinds=True) as here:
        return accepted(here, here.operate(kind, operation, id, {}, tag=tag, revision=revision), stay, output)


def accepted(here: Place, task: Handle, stay: Stay, output: options.Output) -> int:
    """Stay with what was asked for, or say what it is; the exit code."""
    view = task.view()
    known = "was accepted before and is" if task.replayed else "is"
    on = f" on {view['resource_type']}/{view['resource_id']}" if view["resource_id"] else ""
    behind = f", behind task {', '.join(view['blocked_by'])}" if view["blocked_by"] else ""
    return stayed(here, task, f"task {task.id} ({view['task']}{on}) {known} {view['state']}{behind}", stay, output)


def named(here: Place, kind: str, ref: str, ask: Callable[[str], T]) -> T:
    """`ask` of the resource with that id, else of the one with that name. Raises: NotFound; UsageError: several have
    it."""
    try:
        return ask(ref)
    except NotFound:
        found = here.resources(kind, limit=2, filters={"name": ref})
        if not found:
            raise
    if len(found) > 1:
        raise UsageError(f"several {kind}s have the name {ref}: say which by its id (`holdfast {kind} list`)")
    return ask(str(found[0]["id"]))


def _known(here: Place, kind: str, id: str) -> str:
    """The operation that says what is wanted: of one that is there, or of a new one."""
    try:
        here.resource(kind, id)
    except NotFound:
        return "create"
    return "update"


def parts(resource: str) -> tuple[str, str]:
    """Raises: UsageError."""
    kind, slash, id = resource.partition("/")
    if not (kind and slash and id):
        raise UsageError(f"{resource!r} is no resource: say KIND/ID, as server/web-1")
    return kind, id


def _read(file: str) -> dict[str, Any]:
    try:
        if file == "-":
            found = json.load(sys.stdin)
        else:
            with open(file, encoding="utf-8") as text:
                found = json.load(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"--file {file}: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"--file {file}: it is no JSON object")
    return found


# --- printing ----------------------------------------------------------------------------------------------------


def print_list(found: Sequence[Mapping[str, Any]], output: str) -> None:
    if output == "json":
        show.print_json(found)
        return
    rows = [
        (
            each["id"],
            each["name"] or "",
            each["lifecycle"],
            each["status"] or "",
            each["sync_status"],
            f"{each['applied_revision']}/{each['revision']}",
            str(each["queue_length"] or ""),
        )
        for each in found
    ]
    show.print_table(("ID", "NAME", "STATE", "STATUS", "SYNC", "APPLIED/WANTED", "QUEUE"), rows)


def print_one(found: Mapping[str, Any], output: str) -> None:
    if output == "json":
        show.print_json(found)
        return
    failed = found["last_failed_task"]
    facts = {
        found["type"]: found["id"],
        "name": found["name"],
        "state": found["lifecycle"],
        "status": found["status"],
        "sync": f"{found['sync_status']} (revision {found['revision']} is wanted, {found['applied_revision']} applied)",
        "wanted": json.dumps(found["desired"], ensure_ascii=False),
        "applied": None if found["applied"] in (None, found["desired"]) else json.dumps(found["applied"]),
        "seen": json.dumps(found["observed"], ensure_ascii=False) if found["observed"] else None,
        "last task": found["last_task"],
        "last failure": None if failed is None else f"task {failed['uuid']} ({failed['task']}): {_why(failed)}",
        "queue": ", ".join(f"{task['task']} {task['state']} ({task['uuid']})" for task in found["queue"]),
        "made": show.moment(found["created_at"]),
        "changed": show.moment(found["updated_at"]),
        "gone": show.moment(found["deleted_at"]),
    }
    for name, text in facts.items():
        if text:
            print(f"{name:<13} {show.plain(text)}")


def _why(failed: Mapping[str, Any]) -> str:
    error = failed["error"]
    return show.failure(dict(error)) if isinstance(error, Mapping) and "title" in error else str(error)
