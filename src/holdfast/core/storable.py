"""Which types can be stored besides JSON's own, and how: one table for the way in, one for the way back.

Theory: a type is either known exactly or refused, so nothing comes back as something else. A subclass is another
type: what it adds would be lost. The name on disk is the class's own, so moving a registered class needs
`register(cls, name="old.module.Old")`. Nothing is ever imported or called because a stored text says so.

The codec that walks values and writes the text is core/values.py.
"""

from __future__ import annotations

import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

from holdfast.core.retry import type_name
from holdfast.errors import UsageError, ValueRefused

T = TypeVar("T", bound=type)


class Way(NamedTuple):
    """How one type is stored: the tag it is written under, and what makes storable data of it."""

    tag: str
    take: Callable[[Any], Any]


class Refusal(Exception):
    """A `take` found something that it can't keep; the text completes "which can't be stored: …"."""


#: exact type -> how it goes in. Types of modules that are slow to import join when those are seen (`learn`).
WAYS: dict[type, Way] = {}
#: tag -> what makes the value of the stored data again.
BACK: dict[str, Callable[[Any], Any]] = {}

_OWN = frozenset((type(None), bool, int, float, str, list, dict, tuple, set, frozenset, bytes))
_registered: dict[str, type] = {}


@overload
def register(kind: T, /, *, name: str | None = ...) -> T: ...
@overload
def register(kind: T, /, *, to: Callable[[Any], Any], from_: Callable[[Any], Any], name: str | None = ...) -> T: ...
@overload
def register(*, name: str | None = ...) -> Callable[[T], T]: ...
def register(
    kind: Any = None,
    /,
    *,
    to: Callable[[Any], Any] | None = None,
    from_: Callable[[Any], Any] | None = None,
    name: str | None = None,
) -> Any:
    """Let values of this very class (not of its subclasses) be stored. A decorator, or called with the class.

    Dataclasses, enums and NamedTuples need no more: they are kept by the names of their fields, so a field added
    later needs a default. Any other class needs `to`, which makes storable data of it, and `from_`, which makes an
    equal value of that data again. `name` is the word on disk; by default the class's module and name.
    """
    if kind is None:
        return lambda decorated: register(decorated, name=name)
    if not isinstance(kind, type):
        raise UsageError(f"register takes a class, not {kind!r}")
    if (to is None) != (from_ is None):
        raise UsageError(f"register({kind.__qualname__}): to= and from_= go together")
    if kind in _OWN or (way_of(kind) is not None and kind not in _registered.values()):
        raise UsageError(f"{type_name(kind)} can be stored as it is: there is no need to register it")
    if to is None or from_ is None:
        to, from_ = _ways_of(kind)
    word = name or _home(kind)
    before = _registered.get(word)
    if before is not None and before is not kind and _home(before) != _home(kind):
        raise UsageError(
            f"{word!r} is the stored name of two classes, {type_name(before)} and {type_name(kind)}: set name="
        )
    _registered[word] = kind
    WAYS[kind] = Way(f"@{word}", to)
    BACK[f"@{word}"] = from_
    return kind


def _home(kind: type) -> str:
    """The class's name on disk: a script's classes have the same one whether it is run or imported."""
    module = sys.modules.get(kind.__module__)
    if module is not None and kind.__module__ == "__main__":
        spec = getattr(module, "__spec__", None)
        place = getattr(spec, "name", None) or getattr(module, "__file__", None)
    else:
        place = getattr(module, "__holdfast_script__", None)
    return f"{place}:{kind.__qualname__}" if place else type_name(kind)


def _ways_of(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass(kind)
    if hasattr(kind, "__members__"):
        return _enum(kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _namedtuple(kind)
    raise UsageError(
        f"{kind.__qualname__} is neither a dataclass, an enum nor a NamedTuple: say how to store it with to= and from_="
    )


def _dataclass(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    import dataclasses

    if any(field._field_type is dataclasses._FIELD_INITVAR for field in kind.__dataclass_fields__.values()):  # type: ignore[attr-defined]
        raise UsageError(
            f"{kind.__qualname__} has an InitVar, which isn't kept: say how to store it with to= and from_="
        )
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    asked = {field.name for field in fields if field.init} if kind.__dataclass_params__.init else None

    def take(value: Any) -> dict[str, Any]:
        try:
            return {name: getattr(value, name) for name in names}
        except AttributeError as error:
            raise Refusal(f"{error}; a stored dataclass has all its fields") from None

    def back(data: dict[str, Any]) -> Any:
        known = {name: data[name] for name in names if name in data}
        if asked is None:
            value = object.__new__(kind)
        else:
            value = kind(**{name: item for name, item in known.items() if name in asked})
        for name, item in known.items():  # not what __post_init__ made of them, but what they were
            object.__setattr__(value, name, item)
        return value

    return take, back


def _enum(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    import enum

    if issubclass(kind, enum.Flag):  # a combination need not have a name

        def take_flag(value: Any) -> int:
            return int(value.value)

        return take_flag, kind

    def take(value: Any) -> str:
        if kind.__members__.get(value.name) is not value:
            raise Refusal("only members that the enum names can be stored")
        return str(value.name)

    return take, kind.__getitem__


def _namedtuple(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    names: tuple[str, ...] = kind._fields

    def take(value: Any) -> dict[str, Any]:
        return dict(zip(names, value, strict=True))

    def back(data: dict[str, Any]) -> Any:
        return kind._make([data[name] if name in data else kind._field_defaults[name] for name in names])

    return take, back


# --- the standard library's own ----------------------------------------------------------------------------------


def _take_zone(value: Any) -> Any:
    zone = value.tzinfo
    if zone is None:
        return None
    import datetime

    if zone is datetime.UTC:
        return "UTC"
    if type(zone) is datetime.timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return [offset, *name]
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        return {"zone": zone.key}
    raise Refusal(f"its tzinfo is a {type_name(type(zone))}; use datetime.timezone or zoneinfo.ZoneInfo")


def _zone(stored: Any) -> Any:
    import datetime

    if stored is None:
        return None
    if stored == "UTC":
        return datetime.UTC
    if type(stored) is list:
        return datetime.timezone(*stored)
    import zoneinfo

    return zoneinfo.ZoneInfo(stored["zone"])


def _take_clock(value: Any) -> list[Any]:
    return [value.replace(tzinfo=None).isoformat(), value.fold, _take_zone(value)]


def _datetime(stored: Any) -> Any:
    import datetime

    return datetime.datetime.fromisoformat(stored[0]).replace(fold=stored[1], tzinfo=_zone(stored[2]))


def _time(stored: Any) -> Any:
    import datetime

    return datetime.time.fromisoformat(stored[0]).replace(fold=stored[1], tzinfo=_zone(stored[2]))


def _date(stored: str) -> Any:
    import datetime

    return datetime.date.fromisoformat(stored)


def _timedelta(stored: list[int]) -> Any:
    import datetime

    return datetime.timedelta(*stored)


def _uuid(stored: str) -> Any:
    import uuid

    return uuid.UUID(stored)


def _decimal(stored: str) -> Any:
    import decimal

    return decimal.Decimal(stored)


def _take_timedelta(value: Any) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _take_bytes(value: bytes) -> str:
    return b2a_base64(value, newline=False).decode()


#: module -> type name -> (what goes in, what comes back)
_LATE: dict[str, dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "datetime": {
        "datetime": (_take_clock, _datetime),
        "date": (lambda value: value.isoformat(), _date),
        "time": (_take_clock, _time),
        "timedelta": (_take_timedelta, _timedelta),
    },
    "uuid": {"UUID": (str, _uuid)},
    "decimal": {"Decimal": (str, _decimal)},
}

WAYS[bytes] = Way("bytes", _take_bytes)
BACK["bytes"] = a2b_base64
BACK["tuple"] = tuple
BACK["set"] = set
BACK["frozenset"] = frozenset
BACK["dict"] = dict
BACK["str"] = lambda stored: bytes.fromhex(stored).decode("utf-8", "surrogatepass")
BACK["int"] = lambda stored: int(stored, 16)
BACK["float"] = float
for _types in _LATE.values():
    BACK.update((_name, _back) for _name, (_take, _back) in _types.items())


def way_of(kind: type) -> Way | None:
    """How values of this very type are stored; None: they aren't. A type of a module that nobody has imported has
    no values, so looking at the loaded ones is enough."""
    way = WAYS.get(kind)
    if way is None and kind.__module__ in _LATE:
        known = _LATE[kind.__module__].get(kind.__name__)
        if known is not None and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind:
            way = WAYS[kind] = Way(kind.__name__, known[0])
    return way


def restore(tag: str, stored: Any) -> Any:
    """The value that was stored under `tag`.

    Raises: ValueRefused: the class isn't registered in this process, or no longer takes what was stored.
    """
    back = BACK.get(tag)
    if back is None:
        raise ValueRefused(
            f"a stored value is a {tag.lstrip('@')}, which isn't registered here: import the module that registers it"
        )
    try:
        return back(stored)
    except Exception as error:
        raise ValueRefused(
            f"a stored {tag.lstrip('@')} can't be made again, {type(error).__name__}: {error}; "
            "keep its old fields or give new ones a default"
        ) from error


def advice(value: Any) -> str:
    """What to do with a value that can't be stored: the end of the sentence that refuses it."""
    kind = type(value)
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__members__") or hasattr(kind, "_fields"):
        return "decorate the class with @hf.register"
    if isinstance(value, (bool, int, float, str, bytes, list, dict, tuple, set, frozenset)):
        base = next(base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")
        return f"it would come back as a plain {base}; make it one with {base}(…), or register the class"
    if hasattr(kind, "__await__"):
        return "await it and return what it gives"
    if hasattr(kind, "__next__") and not hasattr(kind, "read"):
        return "make a list of it"
    if callable(value):
        return "return what it gives, or a name to find it by"
    return "return what is needed to get it again (a path, an id), or register the class with to= and from_="
