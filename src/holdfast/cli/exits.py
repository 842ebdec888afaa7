"""Exit codes, as two tables: what a command's end says of the task, and what an error says.

Scripts rely on these: the REST contract's section 9 lists them too.
"""

from __future__ import annotations

from typing import Final

from holdfast import errors
from holdfast.core import states

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNDONE: Final = 3
REFUSED: Final = 4
NOT_FOUND: Final = 5
AUTH: Final = 6
SUSPENDED: Final = 7
BUG: Final = 70  # EX_SOFTWARE of sysexits.h
TIMED_OUT: Final = 124  # as timeout(1)
INTERRUPTED: Final = 130  # 128 + SIGINT

#: The state in which a command left its task. Any other: somebody else goes on with it.
OF_STATE: Final = {
    states.SUCCEEDED: OK,
    states.FAILED: FAILED,
    states.CANCELLED: UNDONE,
    states.ABORTED: UNDONE,
    states.REVERTED: UNDONE,
    states.api_state(states.SUSPENDED_FORWARD): SUSPENDED,
}

#: The first that fits counts.
OF_ERROR: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.UsageError, USAGE),
    (errors.NotFound, NOT_FOUND),
    (errors.Gone, NOT_FOUND),
    (errors.SchemaNewer, USAGE),
    (errors.SchemaOlder, USAGE),
    (errors.AccessError, AUTH),
    (errors.StateError, REFUSED),
    (errors.WorldError, USAGE),
    (errors.WaitTimeout, TIMED_OUT),
    (errors.HoldfastError, FAILED),
    (KeyboardInterrupt, INTERRUPTED),
)

LEGEND: Final = """\
Exit codes: 0 ok, the task SUCCEEDED; 1 it FAILED; 2 usage, or the database or the service can't be used; 3 it is
CANCELLED, ABORTED or REVERTED; 4 it was refused; 5 not found; 6 who asks may not; 7 it is SUSPENDED; 124 the wait
timed out; 130 left by Ctrl-C."""


def of_error(error: BaseException) -> int:
    for kind, code in OF_ERROR:
        if isinstance(error, kind):
            return code
    return BUG
