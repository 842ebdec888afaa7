"""The five scenes, each with its title as docstring. Each plays real processes against its own
machine and returns what it proves (evidence.py).

Every moment is a condition on the BMC's log or the end of a process, never a time. Where a guest must take its time,
its `acpi_delay` is `hold`: it shuts down when the scene lets it.
"""

from __future__ import annotations

from collections.abc import Callable

from demo import evidence
from demo.children import Child
from demo.evidence import Check
from demo.stage import Stage

Scene = Callable[[Stage], list[Check]]


def has_looked(stage: Stage, times: int, after: int = 0) -> Callable[[], bool]:
    """Whether the wait has been told "On" so often since line `after` of the log."""
    return lambda: evidence.looks(stage.node.calls()[after:], "wait_off", "On") >= times


def progress_of_wait(command: Child) -> str | None:
    """The first line in which the command says how far the wait is."""
    return next((line.strip() for line in command.printed if "/wait_off" in line and "%" in line), None)


def it_ends_well(stage: Stage) -> list[Check]:
    """A power cycle that ends well"""
    node = stage.node
    node.set("acpi_delay", "hold")
    command = stage.run("power_cycle")
    stage.wait_for("the wait has looked three times", has_looked(stage, 3), command)
    stage.wait_for("its progress is shown", lambda: progress_of_wait(command) is not None, command)
    stage.show.act("the guest has shut down (acpi_delay removed)")
    node.clear("acpi_delay")
    code = stage.end(command)
    state = stage.task()["state"]
    calls = stage.last_look()
    stage.show.log(calls)
    return evidence.ends_well(calls, code=code, state=state, progress=progress_of_wait(command))


def kill_9_in_the_wait(stage: Stage) -> list[Check]:
    """kill -9 in the middle of the wait; the same command goes on"""
    node = stage.node
    node.set("acpi_delay", "hold")
    command = stage.run("power_cycle")
    stage.wait_for("the wait has looked twice", has_looked(stage, 2), command)
    killed = command.kill9()
    stage.print(command)
    stage.show.act(f"kill -9 {command.pid}, while the guest is still shutting down")
    at_kill = len(node.calls())
    again = stage.run("power_cycle")
    stage.wait_for("the wait goes on in the new process", has_looked(stage, 2, at_kill), again)
    stage.show.act("the guest has shut down (acpi_delay removed)")
    node.clear("acpi_delay")
    code = stage.end(again)
    tasks = stage.tasks()
    calls = stage.last_look()
    stage.show.log(calls)
    return evidence.survives_kill(
        calls, at_kill=at_kill, killed=killed, code=code, state=tasks[0]["state"], tasks=len(tasks)
    )


def cancel_in_the_wait(stage: Stage) -> list[Check]:
    """Cancel during the wait; the machine is put back as it was"""
    node = stage.node
    node.set("acpi_delay", "hold")
    command = stage.run("power_cycle")
    stage.wait_for("the wait has looked twice", has_looked(stage, 2), command)
    task = stage.task()["uuid"]
    at_cancel = len(node.calls())
    verb = stage.type("task", "cancel", task)
    stage.wait_for("the undo looks at the machine", lambda: "soft_off (undo)" in evidence.order(node.calls()), command)
    stage.show.act("the guest, whose button was pressed before the cancel, has shut down (acpi_delay removed)")
    node.clear("acpi_delay")
    code = stage.end(command)
    verb_code = stage.end(verb)
    state = stage.task()["state"]
    calls = stage.last_look()
    stage.show.log(calls)
    return evidence.is_cancelled(calls, at_cancel=at_cancel, verb=verb_code, code=code, state=state)


def bmc_answers_with_errors(stage: Stage) -> list[Check]:
    """The BMC answers with errors; everything is rolled back"""
    stage.show.act("the BMC will answer the next three requests for `On` with 500 (fail)")
    stage.node.set("fail", "500 3 On")
    code = stage.end(stage.run("power_cycle"))
    task = stage.task()
    calls = stage.last_look()
    stage.show.log(calls)
    return evidence.is_rolled_back(calls, code=code, state=task["state"], revert=task["revert"])


def guest_ignores_soft_off(stage: Stage) -> list[Check]:
    """The guest ignores the soft off; the step times out and a person is waited for"""
    node = stage.node
    stage.show.act("the guest ignores its power button (ignore_acpi)")
    node.set("ignore_acpi")
    rest = stage.end(stage.run("power_cycle_attended"))
    at_rest = len(node.calls())
    task = stage.task()
    resting = (task["state"], task["reason"])
    at_resume = len(node.calls())
    stage.show.act("the demo now plays the person: it brings the guest to its senses (ignore_acpi removed) and resumes")
    node.clear("ignore_acpi")
    verb = stage.end(stage.type("task", "resume", task["uuid"]))
    state = stage.task()["state"]
    calls = stage.last_look()
    stage.show.log(calls)
    return evidence.waits_for_person(
        calls, at_rest=at_rest, rest=rest, resting=resting, at_resume=at_resume, verb=verb, state=state
    )


SCENES: list[Scene] = [
    it_ends_well,
    kill_9_in_the_wait,
    cancel_in_the_wait,
    bmc_answers_with_errors,
    guest_ignores_soft_off,
]
