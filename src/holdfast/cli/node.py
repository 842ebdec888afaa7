"""`holdfast node …`, `holdfast node-show-states` and `holdfast node-set-power-state`: machines and their power.

The last two are the commands of the proposal for Ironic, with its words and its table (node_table.py). The others
stand in the noun `node` beside what nouns.py makes of the kind.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import typer

from holdfast.cli import exits, node_table, nouns, options, place, resource, show
from holdfast.cli.options import LimitOption, OutputOption, RuntimeOption, Stay, TagOption, TimeoutOption, Where, flat
from holdfast.core.values import Secret
from holdfast.errors import UsageError
from holdfast.resources.node import words

if TYPE_CHECKING:
    from holdfast.cli.place import Place

KIND: Final = "node"
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Its name or its id.")]
WORDS: Final = ", ".join(words.COMMANDS)


def _word(given: str) -> str:
    if given not in words.COMMANDS:
        raise typer.BadParameter(f"{given!r} is not one of {WORDS}.")
    return given


WordArgument = Annotated[
    str,
    typer.Argument(metavar="WORD", help=f"{WORDS}.", callback=_word, autocompletion=lambda: list(words.COMMANDS)),
]
PowerTimeoutOption = Annotated[
    float | None,
    typer.Option("--power-timeout", metavar="SECONDS", help="How long the machine may take; a setting says it else."),
]
WaitAskedOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it has ended.")]


class StayIfAsked(NamedTuple):
    """Whether to stay with a task: not unless that is asked for."""

    wait: WaitAskedOption = False
    timeout: TimeoutOption = None
    runtime: RuntimeOption = "threads"


# --- the proposal's ----------------------------------------------------------------------------------------------


@flat
def show_states(
    node: NodeArgument,
    where: Where,
    output: OutputOption = "table",
    json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> int:
    """Show the states of a node: its power, what is being done about it, and what may be.

    \b
    holdfast node-show-states rack1-u7
    holdfast node-show-states rack1-u7 --json | jq -r .power_state

    power_state is what was seen last. target_power_state is what the task that has the node is about to make of it;
    None: nobody is. After an operation that was aborted or timed out power_state is `error`, until somebody looks.
    """
    with place.at(where, kinds=True) as here:
        found = here.node_states(_found(here, node)["id"])
    if json or output == "json":
        show.print_json(found)
    else:
        print("\n".join(node_table.lines(found)))
    return exits.OK


@flat
def set_power_state(
    node: NodeArgument,
    word: WordArgument,
    where: Where,
    stay: StayIfAsked,
    power_timeout: PowerTimeoutOption = None,
    tag: TagOption = None,
    output: OutputOption = "table",
) -> int:
    """Have a node switched on or off, rebooted or interrupted; or have that stopped.

    \b
    holdfast node-set-power-state rack1-u7 soft_off --power-timeout 600
    holdfast node-show-states rack1-u7
    holdfast node-set-power-state rack1-u7 abort_soft_off        while it hangs: at once
    holdfast node-set-power-state rack1-u7 off --wait --timeout 60; echo $?

    It prints the id of the task that does it and returns. With --wait it stays until the task has ended, and the exit
    code says how; --timeout gives up waiting (124), and the task goes on. What is asked of a node that is busy takes
    its turn; an abort does not wait.
    """
    waits = Stay(stay.wait, stay.timeout, stay.runtime, None)
    return _power(node, word, where, waits, power_timeout, tag, output)


def _power(
    node: str, word: str, where: Where, stay: Stay, power_timeout: float | None, tag: str | None, output: options.Output
) -> int:
    from holdfast.resources.node.views import OPERATIONS

    params = {} if power_timeout is None else {"timeout": power_timeout}
    with place.at(where, flows=stay.flows, kinds=True) as here:
        operation = OPERATIONS[words.COMMANDS[word]]
        asked = resource.named(here, KIND, node, lambda id: here.operate(KIND, operation, id, params, tag=tag))
        return resource.accepted(here, asked, stay, output)


# --- the noun ----------------------------------------------------------------------------------------------------


@flat
def enroll(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the node is called.")],
    where: Where,
    stay: Stay,
    driver: Annotated[str, typer.Option("--driver", metavar="DRIVER", help="Needed: ipmi, irmc, redfish, fake, …")],
    address: Annotated[str, typer.Option("--address", metavar="HOST", help="Of its BMC.")] = "",
    port: Annotated[int | None, typer.Option("--port", metavar="N", help="Of its BMC, if not the usual one.")] = None,
    username: Annotated[str, typer.Option("--username", metavar="NAME", help="Who the BMC knows.")] = "",
    password_from: Annotated[
        str,
        typer.Option(
            "--password-from", metavar="@-|@FILE|env:NAME",
            help="Where the password is: stdin, a file, a variable. Else it is asked for, on a terminal.",
        ),
    ] = "",
    info: Annotated[
        list[str] | None,
        typer.Option(
            "--info", metavar="KEY=TEXT|KEY:=JSON|KEY:secret=@FILE",
            help="What else the driver should know; may be repeated.",
        ),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option("--extra", metavar="KEY=TEXT|KEY:=JSON", help="Whatever you want to keep of it; may be repeated."),
    ] = None,
    tag: TagOption = None,
    output: OutputOption = "table",
) -> int:  # fmt: skip
    """Enrol a machine by its BMC: its credentials are tried by asking the BMC for the power state.

    \b
    holdfast node enroll rack1-u7 --driver ipmi --address 10.0.0.7 --username admin
    holdfast node enroll rack1-u8 --driver redfish --address https://10.0.0.8 --username admin \\
        --password-from env:BMC_PASSWORD --info system_id=/redfish/v1/Systems/1
    holdfast node enroll play --driver fake

    The password is never given on the command line, where others can see it, and never shown again. The node is there
    at once; it is `manageable` once its BMC has answered.
    """
    said = options.inputs(info or ())
    if "password" in said:
        raise UsageError("others can see a command line: the password is taken from --password-from")
    given: dict[str, Any] = {"address": address, "port": port, "username": username}
    given = {key: value for key, value in given.items() if value not in ("", None)}
    given |= {key: value.reveal() if isinstance(value, Secret) else value for key, value in said.items()}
    password = _password(password_from, asks=bool(address))
    if password:
        given["password"] = password
    wanted = {"name": name, "driver": driver, "driver_info": given, "extra": options.inputs(extra or ())}
    with place.at(where, flows=stay.flows, kinds=True) as here:
        return resource.accepted(here, here.operate(KIND, "create", None, wanted, tag=tag), stay, output)


def _password(source: str, *, asks: bool) -> str:
    """From where nobody else sees it. asks: for one that a person types, if a person is there."""
    if source:
        return str(options.inputs([f"password:secret={source}"])["password"].reveal())
    if asks and sys.stdin.isatty():
        import getpass

        return getpass.getpass("Password of the BMC (empty: none): ")
    return ""


@flat
def list_(where: Where, limit: LimitOption = 50, output: OutputOption = "table") -> int:
    """List the nodes: how each is controlled, and its power as it was seen last."""
    with place.at(where, kinds=True) as here:
        found = here.resources(KIND, limit=limit, filters={})
    if output == "json":
        show.print_json(found)
        return exits.OK
    rows = [
        (
            each["name"],
            each["id"],
            str(each["desired"].get("driver", "")),
            str(each["observed"].get("power_state") or ""),
            each["lifecycle"],
            "maintenance" if each["desired"].get("maintenance") else "",
            str(each["queue_length"] or ""),
        )
        for each in found
    ]
    show.print_table(("NAME", "ID", "DRIVER", "POWER", "STATE", "", "QUEUE"), rows)
    return exits.OK


@flat
def show_(node: NodeArgument, where: Where, output: OutputOption = "table") -> int:
    """Show one node: how it is controlled, its power, who works on it and who waits."""
    with place.at(where, kinds=True) as here:
        found = _found(here, node)
        states = here.node_states(found["id"])
    if output == "json":
        show.print_json({**found, "states": states})
        return exits.OK
    resource.print_one(found, output)
    facts = {
        "power": states["power_state"],
        "about to be": states["target_power_state"],
        "last error": states["last_error"],
        "takes": ", ".join(states["supported_power_states"]),
    }
    for name, text in facts.items():
        if text:
            print(f"{name:<13} {show.plain(str(text))}")
    return exits.OK


@flat
def power(
    node: NodeArgument,
    word: WordArgument,
    where: Where,
    stay: Stay,
    power_timeout: PowerTimeoutOption = None,
    tag: TagOption = None,
    output: OutputOption = "table",
) -> int:
    """Have a node switched on or off, rebooted or interrupted, and watch; or have that stopped.

    \b
    holdfast node power rack1-u7 on
    holdfast node power rack1-u7 soft_reboot --power-timeout 600
    holdfast node power rack1-u7 abort_soft_off

    It is `holdfast node-set-power-state` that stays: the exit code says how it ended.
    """
    return _power(node, word, where, stay, power_timeout, tag, output)


@flat
def history(node: NodeArgument, where: Where, limit: LimitOption = 50, output: OutputOption = "table") -> int:
    """List what was done to a node and what became of it, the newest first."""
    with place.at(where, kinds=True) as here:
        id = _found(here, node)["id"]
        found = here.tasks(limit=limit, state="", tag="", flow="", resource=f"{KIND}/{id}")
    if output == "json":
        show.print_json(found)
        return exits.OK
    rows = [
        (
            show.moment(task["created_at"]),
            task["task"],
            task["state"],
            task["user_id"] or task["origin"],
            task["uuid"],
            "" if task["error"] is None else show.plain(task["error"]["detail"]),
        )
        for task in found
    ]
    show.print_table(("ACCEPTED (UTC)", "WHAT", "STATE", "WHO", "TASK", "WHY"), rows)
    return exits.OK


@flat
def maintenance(
    node: NodeArgument,
    switch: Annotated[Literal["on", "off"], typer.Argument(metavar="on|off", help="Whether it is.")],
    where: Where,
    stay: Stay,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for others to read.")] = None,
    tag: TagOption = None,
    output: OutputOption = "table",
) -> int:
    """Say that somebody works at a machine, so that the power sync lets it be; or that nobody does any more.

    \b
    holdfast node maintenance rack1-u7 on --reason "new fan"
    holdfast node maintenance rack1-u7 off
    """
    if reason is not None and switch == "off":
        raise UsageError("--reason is for `on`")
    changes = {"maintenance": switch == "on", "maintenance_reason": reason}
    with place.at(where, flows=stay.flows, kinds=True) as here:
        id = _found(here, node)["id"]
        asked = resource.change(here, KIND, id, changes, tag=tag, revision=None)
        return resource.accepted(here, asked, stay, output)


@flat
def verify(node: NodeArgument, where: Where, stay: Stay, tag: TagOption = None, output: OutputOption = "table") -> int:
    """Try whether a node can be controlled: its BMC is asked for the power state with what is known of it."""
    with place.at(where, flows=stay.flows, kinds=True) as here:
        asked = resource.named(here, KIND, node, lambda id: here.operate(KIND, "manage", id, {}, tag=tag))
        return resource.accepted(here, asked, stay, output)


def _found(here: Place, node: str) -> Mapping[str, Any]:
    return resource.named(here, KIND, node, lambda id: here.resource(KIND, id))


ABOUT: Final = """Machines, whose power is controlled through their BMCs.

\b
holdfast node enroll rack1-u7 --driver ipmi --address 10.0.0.7 --username admin
holdfast node list
holdfast node power rack1-u7 soft_off --power-timeout 600
holdfast node power rack1-u7 abort_soft_off       while that hangs: it ends at once
holdfast node maintenance rack1-u7 on --reason "new fan"
holdfast node history rack1-u7

A node is named by its name or its id. What is known of one is changed by `holdfast resource set node/ID KEY=TEXT`.
`holdfast node-show-states` shows its power, for people and for scripts."""

nouns.MORE[KIND] = nouns.More(
    ABOUT,
    {
        "list": list_,
        "show": show_,
        "create": None,  # enroll asks for what a BMC needs, and takes no password from the command line
        "enroll": enroll,
        "power": power,
        "history": history,
        "maintenance": maintenance,
        "verify": verify,
    },
)
