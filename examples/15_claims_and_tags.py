"""Tags and claims. The same request under the same tag is the same task, however often it is sent. Tasks that claim
the same resource run one after the other, in the order in which they were accepted; readers may share."""

from __future__ import annotations

import threading

import holdfast as hf
from holdfast.errors import TagReused

running: set[str] = set()
guard = threading.Lock()


@hf.step
def change(ctx: hf.Context, what: str) -> None:
    with guard:
        assert not running, f"{what} beside {running}"
        running.add(what)
    print(what)
    ctx.sleep(0.01)
    with guard:
        running.remove(what)


maintain = hf.linear("maintain", change)

if __name__ == "__main__":
    with hf.open("sqlite:///:memory:") as hold:
        first = hold.submit(maintain, {"what": "upgrade"}, tag="ticket-17", claims=["host/7", "network/a"])
        again = hold.submit(maintain, {"what": "upgrade"}, tag="ticket-17", claims=["host/7", "network/a"])
        print("the same task:", again.id == first.id, again.replayed)
        try:
            hold.submit(maintain, {"what": "downgrade"}, tag="ticket-17", claims=["host/7"])
        except TagReused as refusal:
            print(type(refusal).__name__, refusal.code)

        second = hold.submit(maintain, {"what": "reboot"}, claims=["host/7"])
        third = hold.submit(maintain, {"what": "rename"}, claims=["network/a", "host/7"])
        print("waits behind", len(second.view()["blocked_by"]), "and", len(third.view()["blocked_by"]))
        hold.work(until_idle=True)
        print([task.state for task in (first, second, third)])
