"""A service with the kind `port`, as a process: its backend is a directory, and a witness that only its steps write.

python -m tests.chaos.ports URL DIRECTORY serve|work
"""

from __future__ import annotations

import signal
import sys
import threading

from holdfast import local
from holdfast.service.serve import Serving
from tests.resources.ports import make_kind


def main(url: str, directory: str, what: str) -> None:
    gone = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: gone.set())
    with local.open(url, kinds=[make_kind(directory)], port=0, sync_interval_s=0.0) as hold:
        if what == "work":
            print("ready", flush=True)
            hold.work(until=gone.is_set)
            return
        serving = Serving(hold, worker=False)
        serving.start()
        print(serving.url, flush=True)
        gone.wait()
        serving.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
