"""A worker process to be killed: it says `ready` and works until nothing is left."""

from __future__ import annotations

import sys

from holdfast.local import open as open_database


def main(database: str) -> None:
    with open_database(database, deaths_max=1_000_000, lease_s=3.0) as hold:
        print("ready", flush=True)
        hold.work(until_idle=True)


if __name__ == "__main__":
    main(sys.argv[1])
