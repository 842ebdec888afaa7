"""The way in: the commands put together, and what becomes of every error: one sentence on stderr and an exit code.

What an error's code is: exits.py. The commands: one file per noun.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from holdfast.cli import (
    agent,
    db,
    doctor,
    drain,
    exits,
    key,
    machine,
    node,
    nouns,
    pool,
    resource,
    run,
    schedule,
    serve,
    task,
    worker,
)
from holdfast.errors import HoldfastError

app = typer.Typer(
    name="holdfast",
    cls=nouns.Nouns,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich would lay the examples out anew, and costs 40 ms
    pretty_exceptions_enable=False,
    epilog=exits.LEGEND.replace("\n", " "),
)
app.command(name="run", no_args_is_help=True, short_help="Do a flow, and show what happens.")(run.run)
app.add_typer(task.app, name="task", short_help="Look at tasks, and give them verbs.")
app.add_typer(schedule.app, name="schedule", short_help="Have something asked for again and again.")
app.command(name="serve", short_help="Serve tasks over HTTP, and do them.")(serve.serve)
app.add_typer(resource.app, name="resource", short_help="What is wanted of things, and what they are.")
app.command(name="node-show-states", short_help="The states of a node, as a table.")(node.show_states)
app.command(name="node-set-power-state", short_help="Have a node switched on or off, or stop that.")(
    node.set_power_state
)
app.add_typer(worker.app, name="worker", short_help="Do tasks as they come, and see who does.")
app.add_typer(pool.app, name="pool", short_help="How much runs and waits, and whether anything is taken.")
app.command(name="agent", short_help="Run steps where there is no database.")(agent.agent)
app.command(name="drain", short_help="Have workers take nothing more, and wait.")(drain.drain)
app.add_typer(machine.app, name="machine", short_help="The state machines, proven and drawn.")
app.add_typer(key.app, name="key", short_help="Make and change the keys that seal secrets.")
app.command(name="doctor", short_help="Say what is wrong and what to do.")(doctor.doctor)
app.add_typer(db.app, name="db", short_help="Upgrade, purge or copy the database.")


def _version(wanted: bool) -> None:
    if wanted:
        import holdfast

        print(f"holdfast {holdfast.__version__}")
        raise typer.Exit


@app.callback()
def holdfast(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from. Anywhere in the line.")
    ] = False,
) -> None:
    """Run tasks that can be watched, stopped, resumed and undone, and that survive the machine they run on.

    \b
    holdfast run flows.py:build disk=vda size:=20 --tag order-17   do it; the same line again goes on
    holdfast task list --state running,suspended                   what is there
    holdfast task cancel order-17                                  stop it and undo what was done
    holdfast serve                                                 the same over HTTP, for other machines
    holdfast server action web-1 reboot --soft --tag order-18      a noun for each kind of resource
    holdfast node power rack1-u7 soft_off                          machines, by their BMCs
    holdfast doctor                                                what is wrong, and what to do

    A service is named by --url, else by HOLDFAST_URL; who asks, by HOLDFAST_TOKEN. Where none is, it is a database:
    --database, else HOLDFAST_DATABASE, else sqlite:///holdfast.db.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; its exit code. Nothing it raises gets out."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack a letter; the task goes on
    try:
        code = app(words, prog_name="holdfast", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else exits.OK
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):  # as click tells it
            raise
        # Whoever read has had enough. What Python still flushes at its end must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exits.OK
    except (Exception, KeyboardInterrupt) as error:
        if traceback:
            import traceback as tracing

            tracing.print_exc()
        return _told(error, traceback)


def _told(error: BaseException, traceback: bool) -> int:
    """Say what is wrong; the exit code."""
    spoken: Any = getattr(error, "format_message", None)  # click's own errors, whoever ships click
    if spoken is not None:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(spoken(), file=sys.stderr)
        else:
            _say(spoken() + _where(error))
        return exits.USAGE
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        _say("interrupted")
        return exits.INTERRUPTED
    if isinstance(error, HoldfastError):
        asked = error.details.get("request_id")
        _say(f"{error} (request {asked})" if asked and error.status >= 500 else str(error))  # its operator can find it
    elif isinstance(error, ModuleNotFoundError) and (extra := _extra_with(error.name or "")):
        _say(f"this needs {error.name}, which is not installed: pip install 'holdfast[{extra}]'")
        return exits.USAGE
    else:
        hint = "" if traceback else " (--traceback shows where)"
        _say(f"a fault in Holdfast or in what it loaded: {type(error).__name__}: {error}{hint}")
    return exits.of_error(error)


def _extra_with(module: str) -> str | None:
    """The extra of Holdfast that brings the module; None: none does."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        needs = requires("holdfast") or []
    except PackageNotFoundError:
        return None
    package = module.partition(".")[0].replace("_", "-")
    found = (re.match(rf"{re.escape(package)}\b(?!-).*extra == .(\w+)", need) for need in needs)
    return next((each[1] for each in found if each is not None), None)


def _where(error: BaseException) -> str:
    context: Any = getattr(error, "ctx", None)
    return f" (see `{context.command_path} --help`)" if context is not None else ""


def _say(text: str) -> None:
    """One line, whatever the text has."""
    from holdfast.cli.show import plain

    try:
        print("holdfast:", plain(" ".join(text.split())), file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody listens; the exit code is left


if __name__ == "__main__":
    sys.exit(main())
