"""How long a request is tried, and how long between two tries. Numbers in, numbers out: time and chance are the
caller's.

Who tries again, and after which answers: protocol.py.
"""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

PAUSE_S_MAX: Final = 3600.0  # no service is waited for longer between two tries, whatever it says


class Patience(NamedTuple):
    """`deadline_s`: for all tries of one request together. Between two of them a random part of a pause that doubles,
    from `first_s` to `most_s`. `answer_s`: how long one try waits for its answer; `connect_s`: for a connection.
    `silence_s`: how long an event stream may say nothing at all."""

    deadline_s: float = 60.0
    first_s: float = 0.2
    most_s: float = 10.0
    answer_s: float = 30.0
    connect_s: float = 10.0
    silence_s: float = 40.0

    def pause_s(self, tries: int, chance: float, asked_s: float | None = None) -> float:
        """Before the next try, when `tries` have failed. `chance`: from 0 to 1, so that many clients that lost one
        service do not come back at one moment. `asked_s`: the service's Retry-After, which is never undercut."""
        most = min(self.most_s, self.first_s * 2.0 ** min(tries - 1, 30))
        spread = most * (0.1 + 0.9 * chance)
        return spread if asked_s is None else min(PAUSE_S_MAX, asked_s + chance * min(most, 1.0))


def retry_after_s(text: str | None, now: float) -> float | None:
    """Retry-After in seconds (RFC 9110 §10.2.3): a number, or a date. None: it is not there or says nothing."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), PAUSE_S_MAX)
    try:
        at: datetime = parsedate_to_datetime(text)
    except ValueError:
        return None
    return min(max(0.0, at.timestamp() - now), PAUSE_S_MAX)
