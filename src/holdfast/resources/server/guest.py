"""The guest: what runs in a `server` of the driver `process`. A program of its own; nothing of Holdfast imports it.

    python guest.py SLOT TOKEN

It becomes a process in a session of its own, takes the slot's lock for as long as it lives, says who it is in
`process`, and then beats: `heartbeat` is written anew several times a second, and that is the evidence that it runs.
`console` has a line for each thing that happens to it. SIGTERM is its power button.

It does as the slot's `config` says, which it reads again at every beat: `deaf` (it ignores the button), `boot_s` and
`shutdown_s` (how long it takes), `panics` (it dies while it boots), `hangs` (it boots and is never up).

Who starts and ends it: process.py. A slot keeps its own copy of this file: that is its image.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

BEAT_S = 0.2
LOCK_S = 2.0  # how long another may still be about to let the lock go
NOT_WANTED = 75  # EX_TEMPFAIL of sysexits.h


def put(name: str, value: dict[str, Any]) -> None:
    """Write a small file whole: who reads it sees the old text or the new one."""
    draft = f".{name}.{os.getpid()}"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(draft, name)


def get(name: str) -> dict[str, Any]:
    try:
        with open(name, encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
            return found
    except FileNotFoundError:
        return {}


def say(what: str, **more: Any) -> None:
    with open("console", "a", encoding="utf-8") as file:
        file.write(json.dumps({"at": round(time.time(), 3), "pid": os.getpid(), "what": what, **more}) + "\n")


def take_lock() -> bool:
    """The lock is held until this process is gone, however it ends: who holds it is the guest of this slot."""
    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            select.select([], [], [], 0.01)


def introduce(token: str) -> None:
    """Say who this is, so that whoever comes later can tell it from another process with the same number."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        start = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    put("process", {"pid": os.getpid(), "start": start, "boot_id": boot_id, "token": token})


def limit(limits: dict[str, int | None]) -> None:
    kinds = {"memory_mib": resource.RLIMIT_AS, "cpu_s": resource.RLIMIT_CPU, "files": resource.RLIMIT_NOFILE}
    for name, kind in kinds.items():
        value = limits.get(name)
        if value is not None:
            hard = resource.getrlimit(kind)[1]
            soft = value << 20 if name == "memory_mib" else value
            resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


class Guest:
    def __init__(self, button: int) -> None:
        self.button = button  # readable when SIGTERM has come
        self.began = time.monotonic()
        self.beats = 0
        self.config: dict[str, Any] = {}
        self.read_at = (0, 0)
        self.read_config()
        disk = get("disk")
        self.boot = int(disk.get("boots", 0)) + 1
        put("disk", {**disk, "boots": self.boot})
        self.pressed_at: float | None = None

    def read_config(self) -> None:
        seen = os.stat("config")
        if (seen.st_mtime_ns, seen.st_ino) != self.read_at:  # it is put anew, so two of one moment are two files
            self.read_at, self.config = (seen.st_mtime_ns, seen.st_ino), get("config")

    def behaves(self, how: str) -> float:
        return float(self.config.get("guest", {}).get(how, 0))

    def beat(self, state: str) -> None:
        self.beats += 1
        put(
            "heartbeat",
            {
                "pid": os.getpid(), "boot": self.boot, "beat": self.beats, "state": state, "at": round(time.time(), 3),
                "image": self.config.get("image"),
            },
        )  # fmt: skip

    def run(self) -> None:
        say("boot", boot=self.boot, image=self.config.get("image"))
        if self.behaves("panics"):
            say("panic", why="no init found")
            sys.exit(1)
        is_up = False
        while True:
            self.read_config()
            now = time.monotonic()
            if not is_up and not self.behaves("hangs") and now >= self.began + self.behaves("boot_s"):
                is_up = True
                say("up")
            if self.pressed_at is not None and now >= self.pressed_at + self.behaves("shutdown_s"):
                say("off")
                return
            self.beat("going down" if self.pressed_at is not None else "up" if is_up else "booting")
            if select.select([self.button], [], [], BEAT_S)[0]:
                os.read(self.button, 512)
                self.read_config()
                self.press()

    def press(self) -> None:
        if self.behaves("deaf"):
            say("button ignored")
        elif self.pressed_at is None:
            say("button pressed")
            self.pressed_at = time.monotonic()


def main() -> None:
    slot, token = sys.argv[1:3]
    os.chdir(slot)
    ours, theirs = os.pipe()
    if os.fork():
        # The starter waits until the guest has said who it is, and leaves it to the machine's first process.
        os.close(theirs)
        os._exit(0 if os.read(ours, 1) else NOT_WANTED)
    os.close(ours)
    os.setsid()
    # Not sigtimedwait: after a SIGCONT it reports a signal that nobody sent (CPython's loop on EINTR).
    button, pressed = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(pressed)
    signal.signal(signal.SIGTERM, lambda *_: None)
    if not take_lock() or get("wanted").get("token") != token:
        os._exit(NOT_WANTED)
    guest = Guest(button)
    limit(guest.config.get("limits", {}))
    introduce(token)
    guest.beat("booting")
    os.write(theirs, b"!")
    os.close(theirs)
    guest.run()


if __name__ == "__main__":
    main()
