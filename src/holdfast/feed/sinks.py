"""Webhooks are served: each event of the log that one wants is sent to its URL, in order, until it was taken.

Theory: a webhook is a place in the log. One process at a time serves it, for as long as it says so in its row; what it
has sent is written there after some events, so after a crash some are sent again (the receiver knows them by their id)
and none is left out. One that fails is tried again later and later, with everything behind it waiting, and is disabled
when it has failed for `webhook_give_up_s`. Each is served on a thread of a few, so that a slow receiver holds up nobody
else's.

The rows: feed/hooks.py. The request itself, and where it may not go: feed/post.py.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any, Final

from holdfast.clock import SYSTEM, Clock
from holdfast.errors import EventsGone, HoldfastClosed, HoldfastError, WorldError
from holdfast.feed import hooks, log, post, shape
from holdfast.feed.hooks import Hook
from holdfast.seal import Sealer
from holdfast.settings import Settings
from holdfast.store.base import Store
from holdfast.tasks.show import moment

THREADS: Final = 8
BATCH: Final = 50  # events between two notes of how far it has got
BACK_OFF_S: Final = (1.0, 300.0)  # the first pause, and the longest
LOOK_S: Final = 0.5
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
        self._busy: set[str] = set()
        self._work: queue.SimpleQueue[Hook | None] = queue.SimpleQueue()
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
        for _ in self._threads:
            self._work.put(None)
        end = SYSTEM.monotonic() + LOOK_S
        for thread in self._threads:
            thread.join(max(0.0, end - SYSTEM.monotonic()))
        try:
            self._store.write(lambda tx: hooks.release(tx, self._me))
        except (HoldfastClosed, WorldError):
            pass  # the claims run out by themselves

    # --- finding work ---------------------------------------------------------------------------------------------

    def _look(self) -> None:
        seen = -1
        while not self._stopping.is_set():
            try:
                served = self._hand_out()
                self._stopping.wait(PAUSE_S if served else LOOK_S)
                seen = self._store.wait(seen, LOOK_S)
            except HoldfastClosed:
                return
            except WorldError:
                self._stopping.wait(LOOK_S)  # the next time

    def _hand_out(self) -> int:
        """Give the webhooks that something is there for to the threads; how many webhooks there are."""
        now = self._clock.time()
        found, newest = self._store.read(lambda tx: (hooks.live(tx), log.newest(tx)))
        if len(self._seen) > 2 * len(found) + THREADS:  # most of them are gone
            for id in set(self._seen) - {hook.id for hook in found}:
                self._seen.pop(id, None)
        for hook in found:
            if hook.id in self._busy or hook.next_at > now or max(hook.delivered, self._seen.get(hook.id, 0)) >= newest:
                continue
            if hook.sender not in (None, self._me) and hook.sender_until > now:
                continue
            self._busy.add(hook.id)
            self._work.put(hook)
            if len(self._threads) < THREADS and len(self._busy) > len(self._threads):
                thread = threading.Thread(target=self._serve_all, name="holdfast-webhook", daemon=True)
                self._threads.append(thread)
                thread.start()
        return len(found)

    # --- sending --------------------------------------------------------------------------------------------------

    def _serve_all(self) -> None:
        while (hook := self._work.get()) is not None and not self._stopping.is_set():
            try:
                self._serve(hook)
            except (HoldfastClosed, WorldError):
                pass  # found again, by us or by another
            except Exception:
                _journal.exception("webhook %s", hook.id)
            finally:
                self._busy.discard(hook.id)

    def _serve(self, hook: Hook) -> None:
        """All that there is for it, or up to its first failure."""
        while not self._stopping.is_set():
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
            if not self._send_all(claimed, found):
                return
            self._seen[hook.id] = found[-1].id
            hook = claimed._replace(delivered=found[-1].id)

    def _claim(self, id: str) -> Hook | None:
        now = self._clock.time()
        return self._store.write(lambda tx: hooks.claim(tx, id, self._me, now, now + self._claim_s))

    def _send_all(self, hook: Hook, entries: list[log.Entry]) -> bool:
        """Whether all of them were taken, and the webhook is still ours."""
        delivered = hook.delivered
        until = self._clock.time() + self._settings.lease_s  # and the time that one request may take
        for entry in entries:
            if self._stopping.is_set():
                break
            if self._clock.time() > until:
                until = self._clock.time() + self._settings.lease_s
                if self._claim(hook.id) is None:
                    return False
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


def _behind(tx: Any, hook: Hook, after: int) -> tuple[list[log.Entry], int]:
    """What there is for it, and up to where that was looked for. What is no longer kept can't be sent."""
    try:
        log.check(tx, after)
    except EventsGone:
        after = (log.oldest(tx) or 1) - 1
    found = log.behind(tx, after, limit=BATCH, filter=hook.filter)
    return found, log.newest(tx)
