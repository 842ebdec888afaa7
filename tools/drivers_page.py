"""The page of power drivers: what each of ours can do, and what a node that has it says in `driver_info`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from holdfast.resources.node.power import Bmc
from tools import pages

TEXT = """
A node names its driver, and gives it what it needs as `driver_info`. What a node can be told is its driver's answer to
`get_supported_power_states`; anything else is refused. `driver_info.password` is sealed before anything is stored, and
shown as `******`. Drivers by others come with packages of theirs
([how to write one](../how-to/write-a-power-driver.md)). What a BMC does wrong is told by the errors `bmc.…` and
`power.…` ([Errors](errors.md)); what to do then: [a BMC that hangs, forgets or lies](../operate/bmc.md).
"""


def drivers(module: ModuleType) -> str:
    return "\n\n".join((pages.head("Power drivers", TEXT), *(_driver(name, module.get(name)) for name in module.OURS)))


def _driver(name: str, driver: Any) -> str:
    first = (sys.modules[type(driver).__module__].__doc__ or "").partition("\n\n")[0]
    about = " ".join(first.split()).removeprefix(f"The driver `{name}`: ")
    targets = ", ".join(f"`{target}`" for target in driver.get_supported_power_states(Bmc("", {})))
    rows = [(f"`{option}`", says) for option, says in _options(driver).items()]
    about = about[:1].upper() + about[1:]
    return "\n\n".join((f"## {name}", about, f"Targets: {targets}.", pages.table(("driver_info", "what"), rows)))


def _options(driver: Any) -> Mapping[str, str]:
    """Those of the module of the driver, or of the one that it is made of."""
    for kind in type(driver).__mro__:
        found: Mapping[str, str] | None = getattr(sys.modules[kind.__module__], "OPTIONS", None)
        if found is not None:
            return found
    raise LookupError(f"{type(driver).__name__} does not say what its options are")
