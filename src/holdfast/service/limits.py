"""How much one project, and one stranger, may ask for in a time: rates, by the setting `rate_limit`.

How large a request may be: requests.py (bodies) and serve.py (headers, connections, slow ones). How many tasks a
project may have: tasks/quota.py.
"""

from __future__ import annotations

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from holdfast.clock import SYSTEM
from holdfast.errors import RateLimited, SettingInvalid

STRANGERS = "20/second"  # requests without a valid identity, from one address


class Rates:
    """Counted in this process: a service of several processes lets each project have as much in each."""

    def __init__(self, text: str | None) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._project = None if text is None else _parsed(text)
        self._stranger = parse(STRANGERS)

    def count(self, project: str) -> None:
        """Raises: RateLimited."""
        if self._project is not None:
            self._hit(self._project, "project", project)

    def count_stranger(self, peer: str) -> None:
        """Somebody whose token is no good: guessing shall take long. Raises: RateLimited."""
        self._hit(self._stranger, "stranger", peer)

    def _hit(self, item: RateLimitItem, kind: str, who: str) -> None:
        if not self._limiter.hit(item, kind, who):
            after = self._limiter.get_window_stats(item, kind, who).reset_time - SYSTEM.time()
            raise RateLimited(f"no more than {item} here: wait, then ask again", retry_after_s=max(1.0, after))


def _parsed(text: str) -> RateLimitItem:
    try:
        return parse(text)
    except ValueError:
        raise SettingInvalid(f"rate_limit is {text!r}, but has to be a number per time, as 100/second") from None
