"""A service of servers in a process of its own, to be killed: it says `ready` and works until its standard input is
closed."""

from __future__ import annotations

import sys
import threading

import holdfast as hf
from holdfast.resources.registry import Kinds
from holdfast.settings import Settings


def main(database: str, where: str) -> None:
    gone = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        gone.set()

    threading.Thread(target=listen, daemon=True).start()
    settings = Settings(server_dir=where, server_faults=1)
    with hf.open(database, kinds=Kinds.load(settings=settings), lease_s=1.0) as hold:
        print("ready", flush=True)
        hold.work(until=gone.is_set)


if __name__ == "__main__":
    main(*sys.argv[1:])
