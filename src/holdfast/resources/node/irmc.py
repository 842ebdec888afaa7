"""The driver `irmc`: Fujitsu's iRMC, which is IPMI, and stops an NMI that is still on its way."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.resources.node import words
from holdfast.resources.node.ipmi import Ipmi
from holdfast.resources.node.power import Bmc


class Irmc(Ipmi):
    """All nine."""

    def get_supported_power_states(self, bmc: Bmc) -> Sequence[str]:
        return words.TARGETS
