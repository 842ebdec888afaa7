"""Webhooks are served: each event of the log that one wants is sent to its URL, in order, until it was taken.

Theory: a webhook is a place in the log. One process at a time serves it, for as long as it says so in its row; what it
has sent is written there after some events, so after a crash some are sent again (the receiver knows them by their id)
and none is left out. One that fails is tried again later and later, with everything behind it waiting, and is disabled
when it has failed for `webhook_give_up_s`. Each is served for a short turn at a time, on a thread of some.

Whose turn it is, so that a slow receiver holds up nobody else's: feed/turns.py. The rows: feed/hooks.py. The request
itself, and where it may not go: feed/post.py.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from holdfast.clock import SYSTEM, Clock
from holdfast.errors import EventsGone, HoldfastClosed, HoldfastError, WorldError
from holdfast.feed import hooks, log, post, shape, turns
from holdfast.feed.hooks import Hook
from holdfast.seal import Sealer
from holdfast.settings import Settings
from holdfast.store import keep_time
from holdfast.store.base import Store
from holdfast.tasks.show import moment

BATCH: Final = 50  # events between two notes of how far it has got
BACK_OFF_S: Final = (1.0, 300.0)  # the first pause, and the longest
LOOK_S: Final = 0.5
TIME_S: Final = 5.0  # between two looks at the database's clock: the worker's heartbeat looks too, if there is one
PAUSE_S: Final = 0.02  # between two looks: a storm of commits is one
GONE: Final = 410  # the receiver's own word that it wants no more
_journal: Final = logging.getLogger("holdfast.webhooks")


class Sinks:
    """One for each process that sends. `start` and `stop` from any thread."""

    def __init__(self, store: Store, clock: Clock, settings: Settings, sealer: Sealer) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._sealer = sealer
        self._allowed = post.networks(settings.webhook_networks)
        self._claim_s = settings.lease_s + settings.webhook_timeout_s
        self._me = clock.token_hex(8)
        self._seen: dict[str, int] = {}  # up to where the log has nothing more for each webhook
        self._turns = turns.Turns()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._looker = threading.Thread(target=self._look, name="holdfast-webhooks", daemon=True)

    def start(self) -> None:
        self._looker.start()

    def stop(self) -> None:
        """Begin nothing more; what is being sent ends, or is sent again by another process."""
        self._stopping.set()
        if not self._looker.is_alive():
            return
        self._looker.join()
        self._turns.close()
        end = SYSTEM.monotonic() + LOOK_S
        for thread in self._threads:
            thread.join(max(0.0, end - SYSTEM.monotonic()))
        try:
            self._store.write(lambda tx: hooks.release(tx, self._me))
        except (HoldfastClosed, WorldError):
            pass  # the claims run out by themselves

    # --- finding work ---------------------------------------------------------------------------------------------

    def _look(self) -> None:
        seen, served, timed_at = -1, 0, float("-inf")
        while not self._stopping.is_set():
            try:
                before, seen = seen, self._store.changes()
                if SYSTEM.monotonic() - timed_at >= TIME_S:
                    timed_at = SYSTEM.monotonic()
                    keep_time(self._store, self._clock)
                if served or seen != before:
                    served = self._hand_out()
                if served:
                    self._store.wait(seen, LOOK_S)
                    self._stopping.wait(PAUSE_S)
                else:  # who makes the first one is in no hurry
                    self._stopping.wait(LOOK_S)
            except HoldfastClosed:
                return
            except WorldError:
                seen = -1
                self._stopping.wait(LOOK_S)  # the next time

    def _hand_out(self) -> int:
        """Offer the webhooks that something is there for to the threads; how many webhooks there are."""
        now, mark = self._clock.time(), self._turns.mark()
        found, newest = self._store.read(lambda tx: (hooks.live(tx), log.newest(tx)))
        if len(self._seen) > 2 * len(found) + turns.AT_ONCE:  # most of them are gone
            there = {hook.id for hook in found}
            self._turns.forget(but=there)
            for id in set(self._seen) - there:
                self._seen.pop(id, None)
        wanted = self._turns.offer([hook for hook in found if self._has_work(hook, now, newest)], mark)
        while len(self._threads) < wanted:
            thread = threading.Thread(target=self._serve_all, name="holdfast-webhook", daemon=True)
            self._threads.append(thread)
            thread.start()
        return len(found)

    def _has_work(self, hook: Hook, now: float, newest: int) -> bool:
        if hook.next_at > now or max(hook.delivered, self._seen.get(hook.id, 0)) >= newest:
            return False
        return hook.sender in (None, self._me) or hook.sender_until <= now

    # --- sending --------------------------------------------------------------------------------------------------

    def _serve_all(self) -> None:
        while (hook := self._turns.take()) is not None:
            turn = _Turn(self._clock, min(turns.TURN_S, self._settings.lease_s))
            try:
                self._serve(hook, turn)
            except (HoldfastClosed, WorldError):
                pass  # found again, by us or by another
            except Exception:
                _journal.exception("webhook %s", hook.id)
            finally:
                self._turns.end(hook.id, turn.slowest_s)

    def _serve(self, hook: Hook, turn: _Turn) -> None:
        """All that there is for it, or up to its first failure, or as long as its turn is."""
        while not self._stopping.is_set() and not turn.is_over():
            after = max(hook.delivered, self._seen.get(hook.id, 0))
            found, newest = self._store.read(lambda tx, at=hook, after=after: _behind(tx, at, after))  # type: ignore[misc]
            if not found:
                self._seen[hook.id] = newest
                return
            claimed = self._claim(hook.id)
            if claimed is None:
                return
            if claimed.delivered > hook.delivered:  # another process has sent some of these
                hook = claimed
                continue
            if not self._send_all(claimed, found, turn):
                return
            self._seen[hook.id] = found[-1].id
            hook = claimed._replace(delivered=found[-1].id)

    def _claim(self, id: str) -> Hook | None:
        now = self._clock.time()
        return self._store.write(lambda tx: hooks.claim(tx, id, self._me, now, now + self._claim_s))

    def _send_all(self, hook: Hook, entries: list[log.Entry], turn: _Turn) -> bool:
        """Whether all of them were taken, and the webhook is still ours. The claim is longer than the turn and one
        request."""
        delivered = hook.delivered
        for entry in entries:
            if self._stopping.is_set() or turn.is_over():
                break
            with turn:
                status, why = self._send(hook, entry)
            if not 200 <= status < 300:
                self._failed(hook, delivered, status, why)
                return False
            delivered = entry.id
        mine = self._store.write(lambda tx: hooks.sent(tx, hook.id, self._me, delivered))
        return mine and delivered == entries[-1].id

    def _send(self, hook: Hook, entry: log.Entry) -> tuple[int, str]:
        """The status, and what went wrong in words (0: there was no answer)."""
        body = shape.text_of(entry).encode()
        try:
            secret = self._sealer.unseal(hook.secret)
            headers = {
                "Content-Type": "application/cloudevents+json",
                "User-Agent": "holdfast-webhooks",
                **post.signed(secret, f"evt_{entry.id}", self._clock.time(), body),
            }
            status = post.post(
                hook.url, headers, body, timeout_s=self._settings.webhook_timeout_s, allowed=self._allowed
            )
        except HoldfastError as error:
            return 0, str(error)
        except (OSError, ValueError) as error:
            return 0, str(error) or type(error).__name__
        return status, f"it answered {status}"

    def _failed(self, hook: Hook, delivered: int, status: int, why: str) -> None:
        now = self._clock.time()
        failures = hook.failures + 1 if delivered == hook.delivered else 1
        since = hook.failing_since if hook.failing_since is not None and failures > 1 else now
        pause = min(BACK_OFF_S[1], BACK_OFF_S[0] * 2 ** min(failures - 1, 16))
        pause *= 0.5 + int(self._clock.token_hex(2), 16) / 131_072  # those that failed together come back apart
        disabled = None
        if status == GONE:
            disabled = "the receiver answered 410: it wants no more"
        elif now - since >= self._settings.webhook_give_up_s:
            disabled = f"it has failed since {moment(since)}, the last time so: {why}"
        values: dict[str, Any] = {"failures": failures, "since": since, "next_at": now + pause, "disabled": disabled}
        self._store.write(lambda tx: hooks.sent(tx, hook.id, self._me, delivered, **values))
        _journal.warning("webhook %s to %s: %s", hook.id, hook.url.partition("?")[0], disabled or why)


class _Turn:
    """How long one webhook has been served, and how long its slowest request took; a request is done `with` it."""

    def __init__(self, clock: Clock, turn_s: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + turn_s
        self._began = 0.0
        self.slowest_s: float | None = None

    def is_over(self) -> bool:
        return self._clock.monotonic() >= self._end

    def __enter__(self) -> None:
        self._began = self._clock.monotonic()

    def __exit__(self, *error: object) -> None:
        self.slowest_s = max(self.slowest_s or 0.0, self._clock.monotonic() - self._began)


def _behind(tx: Any, hook: Hook, after: int) -> tuple[list[log.Entry], int]:
    """What there is for it, and up to where that was looked for. What is no longer kept can't be sent."""
    try:
        log.check(tx, after)
    except EventsGone:
        after = (log.oldest(tx) or 1) - 1
    found = log.behind(tx, after, limit=BATCH, filter=hook.filter)
    return found, log.newest(tx)
