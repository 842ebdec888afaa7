"""Workers of nodes in processes of their own, which kill themselves: DATABASE SETTINGS. For each line `before N` or
`after N` that this is given, it forks one that works until it is about to write the Nth append of its tasks, or has
just done so; then it is gone as by kill -9. One that has nothing left to do leaves. The answer is how it ended.

A fork, because most of what a process takes is its start; there is no thread here, and no database is open.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import holdfast as hf
from holdfast.resources.node.kind import make_node


def work(database: str, settings: dict[str, Any], when: str, number: int) -> None:
    with hf.open(database, kinds=[make_node()], **settings) as hold:
        append, left = hold.store.append, number

        def counted(batch: Any, meanwhile: Any = None) -> Any:
            nonlocal left
            left -= 1
            if not left and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answers = append(batch)
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return answers

        hold.store.append = counted  # type: ignore[method-assign]
        hold.work(until_idle=True)


def main(database: str, settings: str) -> None:
    for line in sys.stdin:
        when, number = line.split()
        child = os.fork()
        if not child:
            try:
                work(database, json.loads(settings), when, int(number))
            except BaseException:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
