"""What each scene over HTTP must prove, as questions to what the guests wrote, what the service answered and what its
event stream said.

Pure: what was seen goes in, a list of `Check`s comes out. tests/demo/test_proofs.py gives each what a broken service
would have shown. Who plays the scenes: story.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from demo.evidence import Check
from demo.guests import Guest
from demo.stream import Event
from demo.web import Answer

Task = dict[str, Any]


def created(answer: Answer, *, task: Task, states: Sequence[str], guest: Guest, server: dict[str, Any]) -> list[Check]:
    return [
        Check("the request is answered with", 202, answer.status),
        Check("its Location leads to the task", True, answer.headers.get("location", "").endswith(task["uuid"])),
        Check("what the event stream said of the task", ["PENDING", "RUNNING", "SUCCEEDED"], worth(states)),
        Check("the guest, by its own heartbeat, is", "up", guest.state),
        Check("its process lives", True, guest.lives),
        Check("how often it has booted", 1, guest.boot),
        Check("the server's status", "ACTIVE", server["status"]),
    ]


def reply_lost(
    *,
    got_nothing: bool,
    lost: Sequence[bytes],
    again: Answer,
    other: Answer,
    tasks: Sequence[Task],
    boots: Sequence[int],
) -> list[Check]:
    """`boots`: how often the guest had booted before, and after all of it."""
    return [
        Check("the client got no answer", True, got_nothing),
        Check("the proxy had got one, and lost it", True, bool(lost) and lost[0].startswith(b"HTTP/1.1 202")),
        Check("the same request again is answered with", 202, again.status),
        Check("and says that it is a replay", "true", again.headers.get("task-tag-replayed")),
        Check("with the task that the first one made", [again.task["uuid"]], [task["uuid"] for task in tasks]),
        Check("the tag with another request", (422, "tag.reused"), (other.status, other.body.get("code"))),
        Check("the task's state at the end", "SUCCEEDED", tasks[0]["state"] if tasks else None),
        Check("how often the guest was booted by all three", 1, boots[-1] - boots[0]),
    ]


def in_order(
    answers: Sequence[Answer], *, tasks: Sequence[Task], boots: Sequence[int], console: Sequence[str]
) -> list[Check]:
    """`tasks`: the tasks at their end, in the order of their admission."""
    began = [str(task["executed_at"]) for task in tasks]
    ended = [str(task["finish_time"]) for task in tasks]
    apart = all(end <= begin for end, begin in zip(ended, began[1:], strict=False))
    return [
        Check(
            "the three requests are answered with: nobody is told to try again", [202] * 3, [a.status for a in answers]
        ),
        Check("all three succeed", ["SUCCEEDED"] * 3, [task["state"] for task in tasks]),
        Check("they begin in the order in which they were accepted", sorted(began), began),
        Check("none begins before the one before it has ended", True, apart),
        Check("how often the guest was booted", 3, boots[-1] - boots[0]),
        Check(
            "its console: off and up, three times", ["off", "boot"] * 3, [w for w in console if w in ("off", "boot")]
        ),
    ]


def aborted(
    *,
    cancel: Answer,
    abort: Answer,
    after_cancel: str,
    task: Task,
    processes: tuple[Sequence[int], Sequence[int]],
    guests: tuple[Guest, Guest],
    sync: Sequence[str],
    next_state: str,
) -> list[Check]:
    """`processes`: of the hung step, while it hung and after the abort. `sync`: what the resource's sync status was."""
    hung, left = processes
    before, after = guests
    return [
        Check("one process hung in the driver", 1, len(hung)),
        Check("cancel and abort are heard while it holds the server", (202, 202), (cancel.status, abort.status)),
        Check("after the cancel the task is, and stays, since its code still runs", "CANCELLING", after_cancel),
        Check("after the abort", ("ABORTED", "unknown"), (task["state"], task["effect"])),
        Check("the hung process is gone", [], [pid for pid in left if pid in hung]),
        Check("nobody knew what it had done, until a look at the server said", ["UNKNOWN", "IN_SYNC"], list(sync)),
        Check("the guest was not touched: its process and boot", (before.pid, before.boot), (after.pid, after.boot)),
        Check("the next operation on the same server", "SUCCEEDED", next_state),
    ]


def rolled_back(
    answer: Answer,
    *,
    task: Task,
    guests: tuple[Guest, Guest],
    server: dict[str, Any],
    sync: str,
    failed: Sequence[Task],
) -> list[Check]:
    before, after = guests
    return [
        Check("the request is answered with", 202, answer.status),
        Check("the task ends", ("FAILED", "done", "none"), (task["state"], task["revert"], task["effect"])),
        Check("and says why", True, "no init found" in str((task["error"] or {}).get("detail"))),
        Check(
            "the old guest is the same process, in the same boot", (before.pid, before.boot), (after.pid, after.boot)
        ),
        Check("and its heart went on", True, after.beat > before.beat and after.lives),
        Check("its image", "guest-1", after.image),
        Check("the server is, with no fault", ("ACTIVE", False), (server["status"], "fault" in server)),
        Check("what was desired is not forgotten", "OUT_OF_SYNC", sync),
        Check(
            "its failed tasks, by /tasks?resource_id=…&task_state=FAILED", [task["uuid"]], [t["uuid"] for t in failed]
        ),
    ]


def survives_kill(
    *,
    killed: int | None,
    guests: tuple[Guest, Guest, Guest],
    tasks: Sequence[Task],
    replay: Answer,
    boots: Sequence[int],
    events: tuple[Sequence[Event], Sequence[Event]],
    log: Sequence[int],
) -> list[Check]:
    """`guests`: at the kill, later while no service ran, and at the end. `events`: those read before the kill, and
    those of the stream that was resumed. `log`: the numbers of all events from the first of them on."""
    at_kill, alone, at_end = guests
    before, after = events
    ids = [event.id for event in (*before, *after)]
    return [
        Check("the service ended by signal", -9, killed),
        Check("meanwhile the guest's heart went on, in the same process", True, _went_on(at_kill, alone)),
        Check("the same request again finds the task", (202, "true"), _replayed(replay)),
        Check("tasks that its tag names", 1, len(tasks)),
        Check("it was finished by the new process", "SUCCEEDED", tasks[0]["state"] if tasks else None),
        Check("how often the guest was booted", 1, boots[-1] - boots[0]),
        Check("it runs in a new process now", True, at_end.lives and at_end.pid != at_kill.pid),
        Check("the event stream came in two parts", True, bool(before) and bool(after)),
        Check("which together have no gap and no repeat", list(log), ids),
    ]


def _went_on(at_kill: Guest, alone: Guest) -> bool:
    return alone.lives and alone.pid == at_kill.pid and alone.beat > at_kill.beat


def _replayed(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.headers.get("task-tag-replayed")


def told_by_views(
    *,
    task: Task,
    server: dict[str, Any],
    recovered: dict[str, Any],
    actions: Sequence[dict[str, Any]],
    tasks: Sequence[Task],
    deprecated: str | None,
) -> list[Check]:
    """`actions`, `tasks`: both lists of the same server, newest first."""
    fault = server.get("fault") or {}
    return [
        Check("the reboot failed after it had begun", ("FAILED", True), (task["state"], task["effect"] != "none")),
        Check("so the server is", "ERROR", server["status"]),
        Check("and its fault is that task", task["uuid"], fault.get("task_id")),
        Check(
            "after the next reboot: ACTIVE, no fault", ("ACTIVE", False), (recovered["status"], "fault" in recovered)
        ),
        Check("instance actions are the tasks", [t["request_id"] for t in tasks], [a["request_id"] for a in actions]),
        Check("only the failed one has a message", _failures(tasks), [a["message"] for a in actions]),
        Check("and the view says what took its place (Deprecation, RFC 9745)", True, bool(deprecated)),
    ]


def _failures(tasks: Sequence[Task]) -> list[str | None]:
    return ["Error" if task["state"] == "FAILED" else None for task in tasks]


def left_nothing(
    *, states: Sequence[str], servers: Sequence[str], processes: Sequence[int], code: int | None, took_s: float
) -> list[Check]:
    return [
        Check("every delete", ["SUCCEEDED"] * len(states), list(states)),
        Check("directories of servers left", [], list(servers)),
        Check("processes of guests left", [], list(processes)),
        Check("SIGTERM, with an event stream open: the service exits", 0, code),
        Check("within five seconds", True, took_s < 5),
    ]


def freed(
    *,
    polite: Sequence[str],
    hung: Sequence[tuple[str, str]],
    aborts: Sequence[str],
    stopped: Sequence[str],
    shown: Sequence[Sequence[str]],
    powers: Sequence[str],
    off: Sequence[str],
    logs: Mapping[str, Sequence[str]],
    ends: Sequence[str],
) -> list[Check]:
    """`hung`: power state and target while nothing happens. `aborts`: how the task that an abort stopped had ended, as
    the abort says. `shown`: what the event stream said of the power, from the abort on. `powers`: by the machines
    themselves, after it. `logs`: what each BMC was told since all were on, as it says itself. `ends`: the machines at
    the end."""
    return [
        Check("the guests that hear their button: the tasks", ["SUCCEEDED"] * len(polite), list(polite)),
        Check("the others meanwhile", [("power on", "soft power off")] * len(hung), list(hung)),
        Check("the aborts say that those ended", ["ABORTED"] * len(hung), list(aborts)),
        Check("and so they did", ["ABORTED"] * len(hung), list(stopped)),
        Check("the machines, whatever was said of them, were", ["power on"] * len(hung), list(powers)),
        Check("the next command", ["SUCCEEDED"] * len(hung), list(off)),
        Check("the stream on their power", [["error", "power on", "power off"]] * len(hung), [list(s) for s in shown]),
        *(
            Check(f"{name} was told, once", ["soft power off"] + ["power off"] * ("deaf" in name), list(log))
            for name, log in logs.items()
        ),
        Check("the machines are, in the end", ["power off"] * len(ends), list(ends)),
    ]


def worth(states: Sequence[str]) -> list[str]:
    """Without WAITING, which comes and goes, and RUNNING after it."""
    found: list[str] = []
    for state in states:
        if state != "WAITING" and found[-1:] != [state]:
            found.append(state)
    return found
