"""`holdfast task …`: look at tasks and give them verbs, on a database or on a service.

A verb is recorded first and then followed (follow.py). On a database, where no other worker does what it asks for,
this process does. What the verbs mean: tasks/control.py. Where tasks are: place.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import exits, options, place, show
from holdfast.cli.options import (
    ClaimOption,
    FlowsOption,
    LimitOption,
    OutputOption,
    PriorityOption,
    RuntimeOption,
    StartAfterOption,
    Stay,
    TagOption,
    TimeoutOption,
    Where,
    flat,
)
from holdfast.errors import UsageError

if TYPE_CHECKING:
    from holdfast.cli.options import Output
    from holdfast.cli.place import Handle, Place

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, epilog=exits.LEGEND.replace("\n", " "))

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Its id, the beginning of its id, or its tag.")]


@app.callback()
def about() -> None:
    """Look at tasks, and give them verbs: cancel, abort, suspend, resume, rollback, retry.

    \b
    holdfast task list --state running,suspended
    holdfast task show order-17
    holdfast task cancel 0199a3f2               stop it and undo what was done
    holdfast task resume order-17 --answer build/boot=rerun
    holdfast task watch order-17 --url http://127.0.0.1:8760

    A verb is recorded, whoever works. On a database, where no other worker does what it asks for, the command does it
    itself until the task has ended or rests. On a service it looks on. With --no-wait it only records the verb.
    """


# --- looking -----------------------------------------------------------------------------------------------------


@app.command(name="list")
@flat
def list_(
    where: Where,
    state: Annotated[str, typer.Option("--state", metavar="STATE,…", help="In one of these states.")] = "",
    tag: Annotated[str, typer.Option("--tag", metavar="TAG", help="With that tag.")] = "",
    flow: Annotated[str, typer.Option("--flow", metavar="NAME", help="Of that flow.")] = "",
    resource: Annotated[str, typer.Option("--resource", metavar="KIND/ID", help="On that resource.")] = "",
    limit: LimitOption = 50,
    output: OutputOption = "table",
) -> int:
    """List tasks, the newest first.

    \b
    holdfast task list --state running,waiting
    holdfast task list --tag order-17 -o json
    holdfast task list --state failed --resource server/web-1
    """
    with place.at(where) as here:
        views = here.tasks(limit=limit, state=state, tag=tag, flow=flow, resource=resource)
    show.print_tasks(views, output)
    return exits.OK


@app.command()
@flat
def submit(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="Its name, as the service knows it.")],
    where: Where,
    stay: Stay,
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=TEXT|KEY:=JSON", help="Its inputs.", show_default=False)
    ] = None,
    tag: TagOption = None,
    claim: ClaimOption = None,
    priority: PriorityOption = 0,
    start_after: StartAfterOption = None,
    output: OutputOption = "table",
) -> int:
    """Ask a service for a task of a flow that it knows by name, and look on until it has ended.

    \b
    holdfast task submit build disk=vda size:=20 --tag order-17
    holdfast task submit build --no-wait --priority 5 --start-after +2h --claim network/public

    On a database the flows are those of --flows; `holdfast run` takes one from any file.
    """
    given = options.inputs(inputs or ())
    with place.at(where, flows=stay.flows, kinds=True) as here:
        task = here.submit(
            flow, given, tag=tag, claims=options.claims(claim or ()), start_after=start_after, priority=priority
        )
        known = "was accepted before and is" if task.replayed else "is"
        hello = f"task {task.id} {known} {task.state}" + (f", tag {tag}" if tag else "")
        return stayed(here, task, hello, stay, output)


@app.command(name="show")
@flat
def show_(task: TaskArgument, where: Where, output: OutputOption = "table") -> int:
    """Show all there is to know of one task: its inputs, steps, trace and results, and what may be asked of it."""
    with place.at(where) as here:
        found = here.task(task)
        document, trace = here.document(found), found.trace
    if output == "json":
        show.print_json(document | {"trace": trace})
        return exits.OK
    for line in show.page(document, trace):
        print(line)
    return exits.OK


@app.command()
@flat
def watch(
    task: TaskArgument,
    where: Where,
    work: Annotated[
        bool, typer.Option("--work", help="Do it too, where no other worker of the database does.")
    ] = False,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Look on until the task has ended or rests. Ctrl-C only leaves; with --work it suspends the task.

    On a service it follows the stream of events, and takes it up again where a connection breaks.
    """
    from holdfast.cli.follow import follow

    with place.at(where, flows=flows, kinds=work) as here:
        if work and not here.is_near:
            raise UsageError("--work: a service has workers of its own; it is for a database")
        return follow(here, here.task(task), output=output, work=work, runtime=runtime, timeout_s=timeout)


# --- verbs -------------------------------------------------------------------------------------------------------


def _verb(verb: Callable[[Handle], Handle], name: str, task: str, where: Where, stay: Stay, output: Output) -> int:
    """Give the task the verb and stay with it, or with the new task that the verb made."""
    with place.at(where, flows=stay.flows, kinds=True) as here:
        found = here.task(task)
        after = here.mark(found)
        answer = verb(found)
        if answer.id == found.id:
            hello = f"task {found.id}: {name} is accepted, it is {answer.state}"
            return stayed(here, answer, hello, stay, output, after)
        hello = f"task {answer.id} is the {name} of task {found.id} and is {answer.state}"
        return stayed(here, answer, hello, stay, output)


def stayed(here: Place, task: Handle, hello: str, stay: Stay, output: Output, after: Any = None) -> int:
    """Stay with a task that something was asked of, or only say `hello`; the exit code."""
    from holdfast.cli.follow import AT_REST, follow

    if not stay.wait:
        if output == "json":
            show.print_json(here.document(task))
        else:
            print(hello)
        return exits.OK
    return follow(
        here, task, output=output, work=task.state not in AT_REST, runtime=stay.runtime, timeout_s=stay.timeout,
        after=after, hello=hello,
    )  # fmt: skip


@app.command()
@flat
def cancel(
    task: TaskArgument,
    where: Where,
    stay: Stay,
    revert: Annotated[bool, typer.Option("--revert/--no-revert", help="Undo what was done, or leave it.")] = True,
    output: OutputOption = "table",
) -> int:
    """Stop at the next safe point, undo what was done, end CANCELLED."""
    return _verb(lambda found: found.cancel(revert=revert), "cancel", task, where, stay, output)


@app.command()
@flat
def abort(task: TaskArgument, where: Where, stay: Stay, output: OutputOption = "table") -> int:
    """Stop now, undo nothing, end ABORTED."""
    return _verb(lambda found: found.abort(), "abort", task, where, stay, output)


@app.command()
@flat
def suspend(
    task: TaskArgument,
    where: Where,
    stay: Stay,
    release_claims: Annotated[bool, typer.Option("--release-claims", help="Let others have its resources.")] = False,
    output: OutputOption = "table",
) -> int:
    """Stop at the next safe point and hold. `resume` goes on."""
    return _verb(
        lambda found: found.suspend(release_claims=release_claims), "suspend", task, where, stay, output
    )  # fmt: skip


@app.command()
@flat
def resume(
    task: TaskArgument,
    where: Where,
    stay: Stay,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", metavar="STEP=ANSWER", help="What is to become of a step that it rests for."),
    ] = None,
    output: OutputOption = "table",
) -> int:
    """Go on. Where the task rests for steps that nobody can judge but a person, say what became of each.

    \b
    holdfast task resume order-17
    holdfast task resume order-17 --answer build/boot=rerun       do it again
    holdfast task resume order-17 --answer build/boot=done        it is done
    holdfast task resume order-17 --answer build/port=done:'"p7"' it is done and gave this (JSON)
    holdfast task resume order-17 --answer build/boot=undo        undo it, and the rest
    holdfast task resume order-17 --answer build/boot=skip        go on without it
    """
    answers = options.answers(answer or ())
    return _verb(lambda found: found.resume(answers), "resume", task, where, stay, output)


@app.command()
@flat
def rollback(
    task: TaskArgument,
    where: Where,
    stay: Stay,
    force: Annotated[bool, typer.Option("--force", help="Even if others have changed its resources since.")] = False,
    output: OutputOption = "table",
) -> int:
    """Undo what it did: a moving task once it has stopped, an ended one by a new task."""
    return _verb(lambda found: found.rollback(force=force), "rollback", task, where, stay, output)


@app.command()
@flat
def retry(task: TaskArgument, where: Where, stay: Stay, output: OutputOption = "table") -> int:
    """Ask for the same again, as a new task."""
    return _verb(lambda found: found.retry(), "retry", task, where, stay, output)


@app.command()
@flat
def adopt(
    task: TaskArgument,
    where: Where,
    stay: Stay,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    output: OutputOption = "table",
) -> int:
    """Let a task whose flow has changed take the flow as it is now, and go on."""
    if not dry_run:

        def go(found: Handle) -> Handle:
            found.adopt()
            return found

        return _verb(go, "adopt", task, where, stay, output)
    with place.at(where, flows=stay.flows, kinds=True) as here:
        plan = here.task(task).adopt(dry_run=True)
    if output == "json":
        show.print_json({"missing": plan.missing, "to_run": plan.to_run})
        return exits.OK
    for step in plan.missing:
        print(f"{step} is recorded, and the flow has it no more: it can't be adopted")
    for step in plan.to_run:
        print(f"{step} would run")
    return exits.OK


@app.command(name="force-fail")
@flat
def force_fail(
    task: TaskArgument,
    where: Where,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the task.")] = "",
    output: OutputOption = "table",
) -> int:
    """End it FAILED now, whatever its steps still do. The last resort: nothing is undone."""
    return _verb(lambda found: found.force_fail(reason), "force-fail", task, where, Stay(), output)


@app.command()
@flat
def deliver(
    task: TaskArgument,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's name.")],
    where: Where,
    payload: Annotated[str | None, typer.Argument(metavar="[JSON]", help="What it carries; true, if left out.")] = None,
    output: OutputOption = "table",
) -> int:
    """Hand the task an event that a step of it waits for, or will. It is kept until then."""
    carried = options.payload(payload)
    return _verb(lambda found: found.deliver(event, carried), "deliver", task, where, Stay(wait=False), output)
