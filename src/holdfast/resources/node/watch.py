"""The look of the power sync at one machine: what is known of its power afterwards, and when it is looked at again.

Theory: a look logs in. Many BMCs lock out who is refused again and again, and lock the people out with it; so one that
has refused the password is left alone for a while, which doubles each time. What is known of that is in `observed`
(`unseen`) and is read before the next look, so a restart repeats nothing. It counts for the revision that was refused
and until somebody has been let in: another password is tried at once. One that gives no answer is asked each round.

The rounds: resources/sync.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import BMCAuthFailed, BMCError, ResourceBusy
from holdfast.resources.kind import Seen
from holdfast.resources.node import drivers
from holdfast.resources.node.course import checked, seen
from holdfast.resources.node.lines import Yielded

if TYPE_CHECKING:
    from holdfast.resources.node.flows import Nodes

REFUSED_S: Final = 900.0  # how long one is left alone that has refused the password for the first time
REFUSED_MAX_S: Final = 86_400.0


def look(driver: Nodes, resource_id: str, desired: dict[str, Any], revision: int, observed: Mapping[str, Any]) -> Seen:
    """Where the machine is. Raises: ResourceBusy: somebody has taken the line."""
    unseen = observed.get("unseen") or {}
    if observed.get("last_error") is None or unseen.get("revision") != revision:
        before: Mapping[str, Any] = {}
    else:
        before = unseen
    if driver.now() < (before.get("again_at") or 0.0):
        return Seen(None)
    name = desired["driver"]
    made, bmc = drivers.get(name), driver.bmc(resource_id, desired)
    try:
        power = checked(name, driver.lines.call(bmc, lambda at: made.get_power_state(at), background=True))
    except Yielded:
        raise ResourceBusy("the line to it was given to somebody who works on a node") from None
    except BMCError as error:
        return _unseen(error, before, revision, driver.now())
    found = seen(power)
    if unseen:
        return Seen(True, found | {"unseen": None})
    del found["last_error"]  # of what somebody did: that it failed stays true
    return Seen(True, found)


def _unseen(error: BMCError, before: Mapping[str, Any], revision: int, now: float) -> Seen:
    known = {"since": before.get("since", now), "refused": 0, "again_at": None, "revision": revision}
    if not isinstance(error, BMCAuthFailed):
        return Seen(None, {"last_error": str(error), "unseen": known}, reached=False)
    times = known["refused"] = before.get("refused", 0) + 1
    known["again_at"] = again_at = now + min(REFUSED_S * 2.0 ** min(times - 1, 20), REFUSED_MAX_S)
    told = datetime.fromtimestamp(again_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    said = f"{error}; the power sync tries that again at {told}, so that the BMC does not lock anybody out"
    return Seen(False, {"last_error": said, "unseen": known})
