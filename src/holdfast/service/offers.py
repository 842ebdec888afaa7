"""What may be asked for by name: the flows that were registered. Import paths are never taken from a request.

The operations of kinds: resources/operate.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from holdfast.core.plan import Plan
from holdfast.errors import OperationUnknown
from holdfast.flow.compile import check_inputs, compile
from holdfast.flow.registry import registered
from holdfast.local import Holdfast
from holdfast.tasks.submit import Request


class Offer(NamedTuple):
    """`request`: what every task of this flow has in common."""

    plan: Plan
    request: Request


class Offers:
    """By name, where only one version has it, and by `name@version`."""

    def __init__(self, hold: Holdfast) -> None:
        self._hold = hold
        self._by_name: dict[str, Offer] = {}
        versions: dict[str, list[str]] = {}
        for key, flow in registered(hold.flows).items():
            self._by_name[key] = Offer(compile(flow), hold.request(flow))
            versions.setdefault(key.rpartition("@")[0], []).append(key)
        for name, keys in versions.items():
            if len(keys) == 1:
                self._by_name.setdefault(name, self._by_name[keys[0]])

    @property
    def names(self) -> list[str]:
        return sorted(self._by_name)

    def request(self, name: str, params: Mapping[str, Any]) -> Request:
        """Raises: OperationUnknown, MissingInput, UnknownInput, ValueRefused."""
        offer = self._by_name.get(name)
        if offer is None:
            raise OperationUnknown(
                f"there is no task {name[:80]!r} to ask for: {', '.join(self.names) or 'none is registered'}",
                allowed=self.names,
            )
        check_inputs(offer.plan, params)
        return offer.request._replace(inputs=self._hold.inputs_text(params))
