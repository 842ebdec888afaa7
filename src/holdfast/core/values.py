"""The codec: values as JSON text that comes back exactly, or a refusal that says why.

Theory: plain data (None, bool, int, float, str, list, dict with str keys) is written as itself, so people and SQL can
read it. Anything else is written as `{"$": tag, "v": data}`; a dict with a key "$" is written that way too, so no
user data can be taken for a tag. json alone would turn tuples into lists, 1 into "1" as a key, and subclasses into
their bases; so the exact type of every item is checked first, a whole container at a time and in C.

Which types there are and how each is kept: core/storable.py. How a Secret is sealed: core/secret.py, seal.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from holdfast.core.retry import type_name
from holdfast.core.secret import Seal, Secret
from holdfast.core.storable import Refusal, advice, register, restore, way_of
from holdfast.errors import SecretKeyMissing, ValueRefused, ValueTooLarge

__all__ = ["DEPTH_MAX", "SEALED", "Seal", "Secret", "Stored", "decode", "encode", "register"]

DEPTH_MAX: Final = 100
#: Longer ints are written in hex, because CPython may refuse to read their decimal text (PYTHONINTMAXSTRDIGITS).
INT_BITS_MAX: Final = 2_000
#: How a sealed secret begins in a text of `encode`; what follows is its token.
SEALED: Final = '{"$":"secret","v":"'

_SCALARS: Final = frozenset((type(None), bool, int, float, str))
_CONTAINERS: Final = frozenset((list, dict))
_STR: Final = frozenset((str,))
_PLAIN_AT_ONCE: Final = frozenset((float, str))
_LONG: Final = frozenset((str, bytes))


class Stored:
    """A stored value that is decoded when it is first asked for. `text` is what the database holds."""

    __slots__ = ("_unseal", "_value", "text")

    def __init__(self, text: str, unseal: Seal | None = None) -> None:
        self.text = text
        self._unseal = unseal
        self._value: Any = _UNREAD

    @classmethod
    def of(cls, value: Any, seal: Seal | None = None, *, name: str = "", bytes_max: int | None = None) -> Stored:
        """A value at hand, with its text. Raises as `encode`."""
        stored = cls(encode(value, seal, name=name, bytes_max=bytes_max))
        stored._value = value
        return stored

    @property
    def value(self) -> Any:
        """The value; the same object every time."""
        if self._value is _UNREAD:
            self._value = decode(self.text, self._unseal)
        return self._value

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Stored) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Stored({self.text if len(self.text) <= 80 else self.text[:79] + '…'})"


_UNREAD: Final = object()


def encode(value: Any, seal: Seal | None = None, *, name: str = "", bytes_max: int | None = None) -> str:
    """Write a value as JSON text. `name` is what a refusal calls it; `bytes_max` bounds the text as UTF-8.

    Raises: ValueRefused: return something else, or register the class. ValueTooLarge. SecretKeyMissing.
    """
    if value is None:
        return "null"
    kind = type(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int and value.bit_length() <= INT_BITS_MAX:
        return repr(value)
    if bytes_max is not None and kind in _LONG and len(value) > bytes_max:  # not written out only to be refused
        raise ValueTooLarge(_too_large(name, len(value), bytes_max))
    try:
        if kind in _PLAIN_AT_ONCE or (kind in _CONTAINERS and _plain(value, 0, [bytes_max or ITEMS_MAX])):
            text = _plain_text(value)
        else:
            text = _careful_text(value, seal, name, bytes_max)
    except _NotPlain:
        text = _careful_text(value, seal, name, bytes_max)
    except (_TooMany, MemoryError):
        raise ValueTooLarge(_too_large(name, None, bytes_max)) from None
    except RecursionError:
        raise ValueRefused(f"{name or 'the value'} is nested too deep to be stored: make it flatter") from None
    if bytes_max is not None and len(text) * 4 > bytes_max:
        size = len(text) if text.isascii() else len(text.encode())
        if size > bytes_max:
            raise ValueTooLarge(_too_large(name, size, bytes_max))
    return text


def decode(text: str, unseal: Seal | None = None) -> Any:
    """Read what `encode` wrote. A Secret is unsealed when it is revealed, not here.

    Raises: ValueRefused: the text wasn't written by `encode`, or a class of it isn't registered in this process.
    """
    if text == "null":
        return None
    try:
        if '"$"' not in text:
            try:
                return _loads(text)
            except ValueError:  # a long int, or no JSON at all
                pass
        return _loads_tagged(text, unseal)
    except RecursionError:
        raise ValueRefused("a stored value is nested too deep to be read here") from None
    except ValueError as error:
        raise ValueRefused(f"a stored value can't be read: {error}") from error


# --- the way in --------------------------------------------------------------------------------------------------

#: Where no `bytes_max` is given: a list of two lists of two lists … has few parts and many items.
ITEMS_MAX: Final = 1 << 24


class _NotPlain(Exception):
    """The C encoder can't write this exactly: the careful way has to."""


class _TooMany(Exception):
    """The value has more items than its text may have bytes."""


def _plain(value: Any, depth: int, room: list[int]) -> bool:
    """Whether a list or dict holds JSON's own types only, exactly. `room` bounds the items looked at."""
    room[0] -= len(value)
    if room[0] < 0:
        raise _TooMany
    if depth >= DEPTH_MAX:
        return False
    if type(value) is dict:
        if value and (not _STR.issuperset(map(type, value)) or "$" in value):
            return False
        items: Iterable[Any] = value.values()
    else:
        items = value
    if _SCALARS.issuperset(map(type, items)):
        return True
    for item in items:
        kind = type(item)
        if kind not in _SCALARS and (kind not in _CONTAINERS or not _plain(item, depth + 1, room)):
            return False
    return True


def _plain_text(value: Any) -> str:
    try:
        text = _dumps(value)
        if not text.isascii():
            text.encode()  # a lone surrogate is no text to UTF-8
    except ValueError:  # nan, inf, an int of thousands of digits, a lone surrogate
        raise _NotPlain from None
    return text


def _careful_text(value: Any, seal: Seal | None, name: str, bytes_max: int | None) -> str:
    try:
        return _dumps(_Lowering(seal, name, bytes_max).lower(value, name, 0))
    except RecursionError:
        raise
    except RuntimeError as error:  # "dictionary changed size during iteration"
        raise ValueRefused(
            f"{name or 'the value'} was changed while it was being stored: return a copy ({error})"
        ) from None


def _lower_scalar(value: Any) -> Any:
    kind = type(value)
    if kind is int and value.bit_length() > INT_BITS_MAX:
        return {"$": "int", "v": hex(value)}
    if kind is float and (value != value or value in (_INF, -_INF)):
        return {"$": "float", "v": repr(value)}
    if kind is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return {"$": "str", "v": value.encode("utf-8", "surrogatepass").hex()}
    return value


_INF: Final = float("inf")


class _Lowering:
    """One walk that turns a value into data that json writes exactly."""

    __slots__ = ("bytes_max", "name", "path", "room", "seal")

    def __init__(self, seal: Seal | None, name: str, bytes_max: int | None) -> None:
        self.seal = seal
        self.name = name
        self.bytes_max = bytes_max
        self.room = bytes_max or ITEMS_MAX
        self.path: set[int] = set()  # ids of the containers that the walk is inside of

    def lower(self, value: Any, place: str, depth: int) -> Any:
        kind = type(value)
        size = len(value) if kind in _LONG and self.bytes_max is not None else 1
        if size > self.room:
            raise _TooMany
        self.room -= size if kind is str else 1  # bytes come here once more, as the text that they become
        if kind in _SCALARS:
            return _lower_scalar(value)
        if depth > DEPTH_MAX:
            raise ValueRefused(
                f"{place[:80]}… is nested more than {DEPTH_MAX} deep, which can't be stored: make it flatter"
            )
        if kind is Secret:
            return self._secret(value, place)
        if id(value) in self.path:
            raise ValueRefused(f"{place or 'the value'} contains itself, which can't be stored: leave the circle out")
        self.path.add(id(value))
        try:
            return self._container(value, kind, place, depth + 1)
        finally:
            self.path.discard(id(value))

    def _container(self, value: Any, kind: type, place: str, depth: int) -> Any:
        if kind is list or kind is tuple:
            items = [self.lower(item, f"{place}[{index}]", depth) for index, item in enumerate(value)]
            return items if kind is list else {"$": "tuple", "v": items}
        if kind is dict:
            return self._dict(value, place, depth)
        if kind is set or kind is frozenset:
            # Sorted, because the order of a set differs from process to process and the text should not.
            items = [self.lower(item, f"{place}{{…}}", depth) for item in value]
            return {"$": kind.__name__, "v": sorted(items, key=_dumps)}
        way = way_of(kind)
        if way is None:
            raise ValueRefused(f"{place or 'the value'} is a {type_name(kind)}, which can't be stored: {advice(value)}")
        try:
            taken = way.take(value)
        except Refusal as refusal:
            raise ValueRefused(
                f"{place or 'the value'} is a {type_name(kind)}, which can't be stored: {refusal}"
            ) from None
        except (ValueRefused, RecursionError):
            raise
        except Exception as error:
            raise ValueRefused(
                f"{place or 'the value'} is a {type_name(kind)}, whose `to` raised {type(error).__name__}: {error}"
            ) from error
        return {"$": way.tag, "v": self.lower(taken, place, depth)}

    def _dict(self, value: dict[Any, Any], place: str, depth: int) -> Any:
        plain = _STR.issuperset(map(type, value)) and "$" not in value and all(map(_is_text, value))
        if plain:
            return {key: self.lower(item, _at(place, key), depth) for key, item in value.items()}
        pairs = [
            [
                self.lower(key, f"{place or 'the value'}'s key {_short(key)}", depth),
                self.lower(item, _at(place, key), depth),
            ]
            for key, item in value.items()
        ]
        return {"$": "dict", "v": pairs}

    def _secret(self, value: Secret, place: str) -> Any:
        if self.seal is None:
            raise SecretKeyMissing(
                f"{place or 'the value'} is a Secret and there is no key to seal it with: set HOLDFAST_SECRET_KEY "
                "(`holdfast key new` prints one)"
            )
        try:
            known = value.reveal()
        except SecretKeyMissing:  # who can't open it can still hand it on
            sealed = value._as_sealed(self.seal)
            if sealed is None:
                raise
        else:
            sealed = self.seal(encode(known, self.seal, name=place, bytes_max=self.bytes_max))
        return {"$": "secret", "v": sealed}


def _is_text(key: str) -> bool:
    return _lower_scalar(key) is key


def _at(place: str, key: Any) -> str:
    if type(key) is str and key.isidentifier():
        return f"{place}.{key}" if place else key
    return f"{place}[{_short(key)}]"


def _short(key: Any) -> str:
    """What a message calls a dict's key: never a secret's content, never long."""
    if type(key) is int and key.bit_length() > INT_BITS_MAX:
        return "(a long int)"
    return repr(key)[:40] if type(key) in _SCALARS else f"({type_name(type(key))})"


def _too_large(name: str, size: int | None, bytes_max: int | None) -> str:
    what = f"{name or 'the value'} takes {'too many bytes' if size is None else f'{size:,} bytes'}"
    bound = "can be stored" if bytes_max is None else f"value_bytes_max = {bytes_max:,} allows"
    return f"{what}, more than {bound}: put it elsewhere (a file, an object store) and return where it is"


# --- json, imported when it is first used ------------------------------------------------------------------------


def _first_dumps(value: Any) -> str:
    global _dumps
    from holdfast.core.compact import writer

    _dumps = writer(nan=False)  # the walk before has bounded the depth
    return _dumps(value)


def _first_loads(text: str) -> Any:
    global _loads
    from json import JSONDecoder

    _loads = JSONDecoder().decode
    return _loads(text)


_dumps: Callable[[Any], str] = _first_dumps
_loads: Callable[[str], Any] = _first_loads


def _loads_tagged(text: str, unseal: Seal | None) -> Any:
    from json import JSONDecoder

    def hook(data: dict[str, Any]) -> Any:
        tag = data.get("$")
        if tag is None:
            return data
        if tag == "secret":
            return Secret._of_sealed(data["v"], unseal)
        return restore(tag, data.get("v"))

    return JSONDecoder(object_hook=hook, parse_int=_int).decode(text)


def _int(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # more digits than this process reads, as written by one that reads more
        from decimal import Decimal

        return int(Decimal(digits))
