"""One thing that no row may be. Those of tasks: examine.py; of what is around them: examine_around.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Select

from holdfast.store.base import Tx


class Fault(NamedTuple):
    """`find`: its rows; the first column names what it is about. `says`: of {it}. `holds`: whether a row that was found
    really is one, where that can't be said in a statement."""

    name: str
    find: Select[Any]
    says: str
    holds: Callable[[Tx, Any], bool] | None = None
