"""`holdfast task …`: look at tasks and give them verbs, straight on a database.

A verb is recorded first and then followed (follow.py): where no other worker does what it asks for, this process does.
What the verbs mean: tasks/control.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from holdfast.cli import exits, options, show
from holdfast.cli.options import (
    DatabaseOption,
    FlowsOption,
    Output,
    OutputOption,
    RuntimeOption,
    TimeoutOption,
    WaitOption,
)

if TYPE_CHECKING:
    from holdfast.local import Task
    from holdfast.store.base import Tx

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

    A verb is recorded, whoever works. Where no other worker does what it asks for, the command does it itself until
    the task has ended or rests; with --no-wait it only records it.
    """


# --- looking -----------------------------------------------------------------------------------------------------


@app.command(name="list")
def list_(
    database: DatabaseOption = None,
    state: Annotated[str, typer.Option("--state", metavar="STATE,…", help="In one of these states.")] = "",
    tag: Annotated[str, typer.Option("--tag", metavar="TAG", help="With that tag.")] = "",
    flow: Annotated[str, typer.Option("--flow", metavar="NAME", help="Of that flow.")] = "",
    resource: Annotated[str, typer.Option("--resource", metavar="RESOURCE", help="With a claim on it.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="So many at most.")] = 50,
    output: OutputOption = "table",
) -> int:
    """List tasks, the newest first.

    \b
    holdfast task list --state running,waiting
    holdfast task list --tag order-17 -o json
    """
    with options.opened(database) as hold:
        views = [task.view() for task in hold.tasks(limit=limit, state=state, tag=tag, flow=flow, resource=resource)]
    if output == "json":
        show.print_json(views)
        return exits.OK
    rows = [
        (
            view["uuid"],
            view["task"],
            view["state"] + (f" ({view['reason']})" if view["reason"] else ""),
            f"{view['progress']['percent']} %",
            view["tag"] or "",
            show.moment(view["created_at"]),
        )
        for view in views
    ]
    show.print_table(("ID", "FLOW", "STATE", "DONE", "TAG", "ACCEPTED (UTC)"), rows)
    return exits.OK


@app.command(name="show")
def show_(task: TaskArgument, database: DatabaseOption = None, output: OutputOption = "table") -> int:
    """Show all there is to know of one task: its inputs, steps, trace and results, and what may be asked of it."""
    with options.opened(database) as hold:
        found = hold.task(task)
        document, trace = show.document(found), found.trace
    if output == "json":
        show.print_json(document | {"trace": trace})
        return exits.OK
    for line in show.page(document, trace):
        print(line)
    return exits.OK


@app.command()
def watch(
    task: TaskArgument,
    database: DatabaseOption = None,
    work: Annotated[bool, typer.Option("--work", help="Do it too, where no other worker does.")] = False,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Look on until the task has ended or rests. Ctrl-C only leaves; with --work it suspends the task."""
    from holdfast.cli.follow import follow

    with options.opened(database, flows=flows) as hold:
        return follow(
            hold, hold.task(task), database=database, output=output, work=work, runtime=runtime, timeout_s=timeout
        )


# --- verbs -------------------------------------------------------------------------------------------------------


class Stay(NamedTuple):
    """How a verb is followed: the options that every verb has."""

    database: str | None
    output: Output
    wait: bool = True
    runtime: Literal["threads", "inline"] = "threads"
    timeout_s: float | None = None
    flows: list[str] | None = None


def _verb(verb: Callable[[Task], Task], name: str, task: str, stay: Stay) -> int:
    """Give the task the verb and stay with it, or with the new task that the verb made."""
    from holdfast.cli.follow import AT_REST, follow

    with options.opened(stay.database, flows=stay.flows) as hold:
        found = hold.task(task)
        after = hold.store.read(lambda tx: _seq(tx, found.id))
        answer = verb(found)
        state = answer.state
        if answer is found:
            hello = f"task {found.id}: {name} is accepted, it is {state}"
        else:
            after = 0
            hello = f"task {answer.id} is the {name} of task {found.id} and is {state}"
        if not stay.wait:
            if stay.output == "json":
                show.print_json(show.document(answer))
            else:
                print(hello)
            return exits.OK
        return follow(
            hold, answer, database=stay.database, output=stay.output, work=state not in AT_REST, runtime=stay.runtime,
            timeout_s=stay.timeout_s, after=after, hello=hello,
        )  # fmt: skip


def _seq(tx: Tx, uuid: str) -> int:
    from holdfast.tasks import query

    return query.get(tx, uuid).seq


@app.command()
def cancel(
    task: TaskArgument,
    revert: Annotated[bool, typer.Option("--revert/--no-revert", help="Undo what was done, or leave it.")] = True,
    database: DatabaseOption = None,
    wait: WaitOption = True,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Stop at the next safe point, undo what was done, end CANCELLED."""
    return _verb(
        lambda found: found.cancel(revert=revert), "cancel", task, Stay(database, output, wait, runtime, timeout, flows)
    )


@app.command()
def abort(
    task: TaskArgument,
    database: DatabaseOption = None,
    wait: WaitOption = True,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Stop now, undo nothing, end ABORTED."""
    stay = Stay(database, output, wait, runtime, timeout, flows)
    return _verb(lambda found: found.abort(), "abort", task, stay)


@app.command()
def suspend(
    task: TaskArgument,
    release_claims: Annotated[bool, typer.Option("--release-claims", help="Let others have its resources.")] = False,
    database: DatabaseOption = None,
    wait: WaitOption = True,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Stop at the next safe point and hold. `resume` goes on."""
    return _verb(
        lambda found: found.suspend(release_claims=release_claims),
        "suspend",
        task,
        Stay(database, output, wait, runtime, timeout, flows),
    )


@app.command()
def resume(
    task: TaskArgument,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", metavar="STEP=ANSWER", help="What is to become of a step that it rests for."),
    ] = None,
    database: DatabaseOption = None,
    wait: WaitOption = True,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
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
    return _verb(
        lambda found: found.resume(answers), "resume", task, Stay(database, output, wait, runtime, timeout, flows)
    )


@app.command()
def rollback(
    task: TaskArgument,
    force: Annotated[bool, typer.Option("--force", help="Even if others have changed its resources since.")] = False,
    database: DatabaseOption = None,
    wait: WaitOption = True,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Undo what it did: a moving task once it has stopped, an ended one by a new task."""
    return _verb(
        lambda found: found.rollback(force=force),
        "rollback",
        task,
        Stay(database, output, wait, runtime, timeout, flows),
    )


@app.command()
def retry(
    task: TaskArgument,
    database: DatabaseOption = None,
    wait: WaitOption = True,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Ask for the same again, as a new task."""
    stay = Stay(database, output, wait, runtime, timeout, flows)
    return _verb(lambda found: found.retry(), "retry", task, stay)


@app.command()
def adopt(
    task: TaskArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    database: DatabaseOption = None,
    wait: WaitOption = True,
    runtime: RuntimeOption = "threads",
    timeout: TimeoutOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Let a task whose flow has changed take the flow as it is now, and go on."""
    if not dry_run:

        def go(found: Task) -> Task:
            found.adopt()
            return found

        stay = Stay(database, output, wait, runtime, timeout, flows)
        return _verb(go, "adopt", task, stay)
    with options.opened(database, flows=flows) as hold:
        plan = hold.task(task).adopt(dry_run=True)
    if output == "json":
        show.print_json({"missing": plan.missing, "to_run": plan.to_run})
        return exits.OK
    for step in plan.missing:
        print(f"{step} is recorded, and the flow has it no more: it can't be adopted")
    for step in plan.to_run:
        print(f"{step} would run")
    return exits.OK


@app.command(name="force-fail")
def force_fail(
    task: TaskArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the task.")] = "",
    database: DatabaseOption = None,
    output: OutputOption = "table",
) -> int:
    """End it FAILED now, whatever its steps still do. The last resort: nothing is undone."""
    return _verb(lambda found: found.force_fail(reason), "force-fail", task, Stay(database, output))


@app.command()
def deliver(
    task: TaskArgument,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's name.")],
    payload: Annotated[str | None, typer.Argument(metavar="[JSON]", help="What it carries; true, if left out.")] = None,
    database: DatabaseOption = None,
    output: OutputOption = "table",
) -> int:
    """Hand the task an event that a step of it waits for, or will. It is kept until then."""
    carried = options.payload(payload)
    return _verb(lambda found: found.deliver(event, carried), "deliver", task, Stay(database, output, wait=False))
