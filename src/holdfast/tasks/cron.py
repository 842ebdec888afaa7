"""Cron expressions as moments: when one is due next, and which moments have passed.

Theory: an expression of five fields is read as Debian's cron reads it, on the clock of a named zone. So what is due at
a fixed hour that the clock leaves out when it is put forward is due when the clock goes on, and what is due in the hour
that comes twice when it is put back is due once; what is due every so many minutes goes by the minutes that pass.
Moments are whole minutes, as seconds since the epoch.

What becomes of a moment: tasks/schedules.py. The arithmetic itself is cronsim's.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from holdfast.errors import ScheduleInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

EXPRESSION_CHARS_MAX: Final = 200
ZONE_CHARS_MAX: Final = 64
FIELDS: Final = 5
_SPAN_S: Final = 3600.0


def check(expression: str, zone: str = "UTC") -> None:
    """Raises: ScheduleInvalid: it is no expression, is never due, or there is no such zone."""
    if len(expression) > EXPRESSION_CHARS_MAX:
        raise ScheduleInvalid(f"a cron expression has {EXPRESSION_CHARS_MAX} characters at most")
    if len(expression.split()) != FIELDS:
        raise ScheduleInvalid(
            f"{expression!r} is no cron expression: it takes five fields, minute, hour, day of the month, month, day "
            'of the week, as "30 2 * * MON-FRI"'
        )
    if after(expression, zone, 0.0) is None:
        raise ScheduleInvalid(f"{expression!r} is never due")


def after(expression: str, zone: str, at: float) -> float | None:
    """The first moment later than `at`; None: there is none in fifty years. Raises: ScheduleInvalid."""
    return next(_from(expression, zone, at), None)


def passed(expression: str, zone: str, since: float, until: float, *, limit: int) -> list[float]:
    """The moments from `since` up to `until`, both included, in order; the last `limit` of them, if there are more.
    Raises: ScheduleInvalid."""
    first, span = since - 1.0, _SPAN_S  # moments are whole
    while True:
        begin = max(first, until - span)
        found = deque(takewhile(lambda moment: moment <= until, _from(expression, zone, begin)), limit)
        if begin == first or len(found) == limit:
            return list(found)
        span *= 8.0  # whoever was away for a year looks at its last days only


def _from(expression: str, zone: str, begin: float) -> Iterator[float]:
    """The moments later than `begin`. Raises: ScheduleInvalid."""
    from datetime import UTC, datetime

    from cronsim import CronSim, CronSimError

    known = _zone(zone)
    try:
        moments = CronSim(expression, datetime.fromtimestamp(begin, UTC if known is None else known))
    except CronSimError as error:
        raise ScheduleInvalid(f"{expression!r} is no cron expression: {error}") from None
    last = begin
    try:
        for each in moments:
            moment = each.timestamp()
            if moment > last:  # in an hour that comes twice it begins before `begin`
                yield moment
                last = moment
    except (OverflowError, ValueError):  # behind the last year there is
        return


@lru_cache(maxsize=128)
def _zone(name: str) -> tzinfo | None:
    """None: UTC. Raises: ScheduleInvalid."""
    if name == "UTC":
        return None
    from zoneinfo import ZoneInfo

    try:
        if not 0 < len(name) <= ZONE_CHARS_MAX:
            raise ValueError
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # what is no name of a file, or one of a folder
        raise ScheduleInvalid(f"there is no time zone {name[:ZONE_CHARS_MAX]!r}, as Europe/Berlin") from None
