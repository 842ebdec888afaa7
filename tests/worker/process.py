"""A worker in a process of its own: it says `ready` and works until its standard input is closed."""

from __future__ import annotations

import json
import sys
import threading

from holdfast.local import open as open_database


def main(database: str, settings: str) -> None:
    gone = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        gone.set()

    threading.Thread(target=listen, daemon=True).start()
    with open_database(database, **json.loads(settings)) as hold:
        print("ready", flush=True)
        hold.work(until=gone.is_set)


if __name__ == "__main__":
    main(*sys.argv[1:])
