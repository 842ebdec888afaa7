"""Flows whose steps write what they do into a file beside them, and do as the files beside them say."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import holdfast as hf

HERE = Path(__file__).parent


def note(what: str) -> None:
    with open(HERE / "witness", "a", encoding="utf-8") as file:
        file.write(f"{what}\n")


def knob(name: str) -> bool:
    """Whether the test has put that file there."""
    return (HERE / name).exists()


@hf.step(provides="port")
def make_port(network: str = "public") -> str:
    note("make_port")
    return f"{network}-1"


@make_port.revert
def drop_port(port: str = "?") -> None:
    note("drop_port")


@hf.step(provides="count")
def use_port(port: str, times: int = 1) -> int:
    note("use_port")
    return times * 2


@use_port.revert
def unuse_port() -> None:
    note("unuse_port")


good = hf.linear("good", make_port, use_port)


@hf.step(provides="nap")
def nap(ctx: hf.Context) -> str:
    """Until the test lets it go on."""
    note("nap")
    while not knob("awake"):
        ctx.sleep(0.02)
    return "slept"


@nap.revert
def unnap() -> None:
    note("unnap")


slow = hf.linear("slow", make_port, nap, use_port)


@hf.step
def deaf(ctx: hf.Context) -> None:
    """Hears nobody."""
    note("deaf")
    import threading

    while not knob("awake"):
        threading.Event().wait(0.02)


hanging = hf.linear("hanging", make_port, deaf, use_port)


@hf.step(provides="boot")
def boot() -> str:
    note("boot")
    if knob("broken"):
        raise RuntimeError("no power")
    return "booted"


@boot.revert
def unboot() -> None:
    note("unboot")
    if knob("stuck"):
        raise RuntimeError("can't be undone")


@hf.step
def after(boot: str = "none") -> None:
    note(f"after:{boot}")
    if knob("after_broken"):
        raise RuntimeError("too late")


failing = hf.linear("failing", make_port, boot, after)
attended = hf.linear("attended", make_port, boot, after, on_failure="suspend")


@hf.step(pivot=True)
def point_of_no_return() -> None:
    note("pivot")


with_pivot = hf.linear("with_pivot", make_port, point_of_no_return, boot, after)


@hf.step(provides="boot", on_interrupt="suspend")
def once() -> str:
    """At most once: kills its worker when it is told to."""
    note("once")
    if knob("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    return "booted"


@once.revert
def unonce() -> None:
    note("unonce")


careful = hf.linear("careful", make_port, once, after)


@hf.step(provides="boot")
def deadly() -> str:
    note("deadly")
    if knob("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    return "booted"


@deadly.revert
def undeadly() -> None:
    note("undeadly")


poisonous = hf.linear("poisonous", make_port, deadly, after)


@hf.step(provides="boot", timeout_s=0.05, grace_s=0.05)
def ignorant() -> str:
    """Outlives its timeout and every request to stop."""
    note("ignorant")
    import threading

    while knob("ignoring"):
        threading.Event().wait(0.02)
    return "booted"


@ignorant.revert
def unignorant() -> None:
    note("unignorant")


unresponsive = hf.linear("unresponsive", make_port, ignorant, after)


@hf.step(provides="word")
def wait_for_word(ctx: hf.Context) -> object:
    return hf.WaitFor("word") if ctx.event is None else ctx.event


waiting = hf.linear("waiting", make_port, wait_for_word)

loop = hf.graph("loop", boot, after).link(after, boot)


@hf.step(isolation="process")
def child() -> None:
    note(f"child:{os.getpid()}")
    import threading

    threading.Event().wait(600)


in_process = hf.linear("in_process", make_port, child)


@hf.step(provides="length")
def log_in(password: hf.Secret) -> int:
    return len(password.reveal())


login = hf.linear("login", log_in)
