"""`holdfast worker`, which gets a signal just before or after it writes for the nth time what steps have done."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from typing import Any

from holdfast.cli.main import main as command
from holdfast.store.front import Front
from holdfast.worker.loop import Worker


def main(database: str, number: str, side: str, nth: str) -> None:
    appends, stopping = itertools.count(1), threading.Event()
    append, stop = Front.append, Worker.stop

    def meet() -> None:
        os.kill(os.getpid(), int(number))
        stopping.wait()  # the signal asks another thread

    def appending(store: Front, *batch: Any) -> Any:
        here = str(next(appends)) == nth
        if here and side == "before":
            meet()
        answers = append(store, *batch)
        if here and side == "after":
            meet()
        return answers

    def stops(worker: Worker) -> None:
        stop(worker)
        stopping.set()

    Front.append = appending  # type: ignore[assignment, method-assign]
    Worker.stop = stops  # type: ignore[assignment, method-assign]
    sys.exit(command(["worker", "--database", database, "--until-idle"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
