"""The steps of test_processes.py, in a module that another process can import."""

from __future__ import annotations

import ctypes
import enum
import os
import signal
import subprocess
import sys
from typing import Any

from holdfast.core.values import register
from holdfast.flow.patterns import linear
from holdfast.flow.patterns import map as map_
from holdfast.flow.step import step
from holdfast.runtime.context import Context


@register
class Colour(enum.Enum):
    RED = "red"


@step
def leaves(code: int) -> None:
    os._exit(code)


@step
def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@step
def hangs_in_c(ctx: Context) -> None:
    ctx.progress(0.0, str(os.getpid()))
    ctypes.PyDLL(None).pause()  # unlike CDLL it keeps the interpreter's lock


@step
def hangs_with_a_child(ctx: Context) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    ctx.progress(0.0, f"{os.getpid()} {child.pid}")
    signal.pause()


@step
def stores(ctx: Context) -> str:
    ctx.checkpoint("here")
    return "stored"


@step
def stores_an_object(ctx: Context) -> None:
    ctx.checkpoint(object())


@step
def session() -> list[int]:
    return [os.getpid(), os.getsid(0), os.getpgrp()]


@step
def looks_for_file(path: str) -> list[bool]:
    """Whether this process, and one that it executes, have the file open."""
    look = (
        "import os, sys\n"
        "links = [os.path.join('/proc/self/fd', fd) for fd in os.listdir('/proc/self/fd')]\n"
        "print(any(os.path.lexists(link) and os.readlink(link) == sys.argv[1] for link in links))"
    )
    own = any(
        os.path.lexists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}") == path
        for fd in os.listdir("/proc/self/fd")
    )
    done = subprocess.run(
        [sys.executable, "-c", look, path], capture_output=True, text=True, check=True, close_fds=False
    )
    return [own, done.stdout.strip() == "True"]


@step
def same(value: Any) -> Any:
    return value


@step
def returns_an_object() -> object:
    return object()


@step
def returns_much(size_bytes: int) -> str:
    return "x" * size_bytes


@step
def sees(ctx: Context) -> list[Any]:
    return [ctx.event, ctx.last_checkpoint]


@step
def floods(ctx: Context, times: int) -> None:
    for time in range(1, times + 1):
        ctx.progress(time / times, str(time))


@step
def writes_to_every_socket() -> None:
    for name in os.listdir("/proc/self/fd"):
        link = f"/proc/self/fd/{name}"
        if os.path.lexists(link) and os.readlink(link).startswith("socket:"):
            os.write(int(name), b"\0\0\0\4junk")


@step
def make(name: str) -> str:
    return f"made {name}"


@make.revert
def drop(name: str) -> str:
    return f"dropped {name}"


flow = linear(
    "steps", leaves, crashes, hangs_in_c, hangs_with_a_child, stores, stores_an_object, session, looks_for_file, same,
    returns_an_object, returns_much, sees, floods, writes_to_every_socket,
    map_("volumes", linear("body", make), over=["a"], item="name"),
)  # fmt: skip
