"""A process that asks for changes of one port and does tasks meanwhile: DATABASE DIRECTORY PORT WHO TIMES."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

import holdfast as hf
from tests.resources.ports import make_kind


def main(database: str, directory: str, port: str, who: int, times: int) -> None:
    chance, pause = random.Random(who), threading.Event()
    with hf.open(database, kinds=[make_kind(Path(directory))]) as hold:
        print("ready", flush=True)
        sys.stdin.readline()
        with hold.working():
            for time in range(times):
                said = {"address": f"10.0.{who}.{time}"} if who % 2 else {"mtu": 1000 * who + time}
                hold.operate("port", "readdress", port, said)
                pause.wait(chance.random() * 0.004)
        hold.work(until_idle=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
