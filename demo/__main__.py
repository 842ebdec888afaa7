"""`python -m demo`, at the top of the repository. The program itself: program.py."""

from __future__ import annotations

import signal
import sys


def run() -> int:
    try:
        from demo import program  # here, so that a Ctrl-C while it loads is clean too

        for number in program.STOPS:
            signal.signal(number, program.as_interrupt)
        return program.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run())
