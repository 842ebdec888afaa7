"""How much one project, and one stranger, may ask for in a time: rates, by the setting `rate_limit`.

How large a request may be: requests.py (bodies) and serve.py (headers, connections, slow ones). How many tasks a
project may have: tasks/quota.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from holdfast.clock import SYSTEM, Clock
from holdfast.errors import RateLimited, SettingInvalid

STRANGERS: Final = "20/second"  # requests without a valid identity, from one address
ADDRESSES_MAX: Final = 10_000
TOKENS_MAX: Final = 10_000


class Rates:
    """Counted in this process: a service of several processes lets each project have as much in each."""

    def __init__(self, text: str | None) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._project = None if text is None else _parsed(text)

    def count(self, project: str) -> None:
        """Raises: RateLimited."""
        if self._project is not None:
            self._hit(self._project, "project", project)

    def _hit(self, item: RateLimitItem, kind: str, who: str) -> None:
        if not self._limiter.hit(item, kind, who):
            after = self._limiter.get_window_stats(item, kind, who).reset_time - SYSTEM.time()
            raise RateLimited(f"no more than {item} here: wait, then ask again", retry_after_s=max(1.0, after))


class Strangers:
    """Who guesses tokens. An address from which too many came that are no good is barred for a while: then no token
    from there is looked at, or the right guess would not be limited at all. Others may be at that address, behind a
    proxy or a gateway: those whose tokens were good there before are not barred."""

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._rate = parse(STRANGERS)
        self._clock = clock
        self._barred: dict[str, float] = {}  # address -> until when
        self._good: dict[bytes, None] = {}  # tokens, as `_name` has them; the oldest first
        self._key = clock.random_bytes(32)

    def check(self, peer: str, headers: Mapping[str, str]) -> None:
        """Before the token is looked at. Raises: RateLimited."""
        until = self._barred.get(peer)
        if until is None:
            return
        if (left := until - self._clock.monotonic()) <= 0:
            del self._barred[peer]
        elif self._name(peer, headers) not in self._good:
            raise RateLimited(
                f"too many tokens from {peer} are not known here: wait, then ask again", retry_after_s=left
            )

    def good(self, peer: str, headers: Mapping[str, str]) -> None:
        """The token was good."""
        name = self._name(peer, headers)
        if name not in self._good:
            if len(self._good) >= TOKENS_MAX:
                del self._good[next(iter(self._good))]
            self._good[name] = None

    def bad(self, peer: str, headers: Mapping[str, str]) -> None:
        """It was not. Raises: RateLimited."""
        self._good.pop(self._name(peer, headers), None)
        if self._limiter.hit(self._rate, peer):
            return
        now = self._clock.monotonic()
        if len(self._barred) >= ADDRESSES_MAX:
            self._barred = {each: until for each, until in self._barred.items() if until > now}
        self._barred[peer] = now + self._rate.get_expiry()
        self.check(peer, headers)

    def _name(self, peer: str, headers: Mapping[str, str]) -> bytes:
        """Of a token at an address. Not the token itself: this is kept."""
        said = "\0".join((peer, headers.get("x-auth-token", ""), headers.get("authorization", "")))
        return blake2b(said.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16).digest()


def _parsed(text: str) -> RateLimitItem:
    try:
        return parse(text)
    except ValueError:
        raise SettingInvalid(f"rate_limit is {text!r}, but has to be a number per time, as 100/second") from None
