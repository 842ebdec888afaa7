"""Values come back exactly, or are refused with a sentence."""

from __future__ import annotations

import datetime
import enum
import io
import json
import math
import subprocess
import sys
import types
import uuid
import zoneinfo
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path as Path_
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import values
from holdfast.core.values import DEPTH_MAX, Secret, Stored, decode, encode, register
from holdfast.errors import SecretKeyMissing, UsageError, ValueRefused, ValueTooLarge


@register
@dataclass(frozen=True, slots=True)
class Disk:
    size_gib: Any
    tags: tuple[str, ...] = ()


@register
@dataclass
class Computed:
    base: int
    doubled: int = field(init=False)

    def __post_init__(self) -> None:
        self.base += 1
        self.doubled = self.base * 2


@register
class Color(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 (an alias, on purpose)
    BLUE = object()


@register
class Mode(enum.Flag):
    READ = 1
    WRITE = 2


@register
class Number(enum.IntEnum):
    ONE = 1


@register
class Point(NamedTuple):
    x: int
    y: int = 0


class Path:
    def __init__(self, parts: list[str]) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Path) and self.parts == other.parts

    __hash__ = None  # type: ignore[assignment]


register(Path, to=lambda path: path.parts, from_=Path)


def same(left: Any, right: Any) -> bool:
    """Equal, of the same types all the way down, with dicts in the same order."""
    if type(left) is not type(right):
        return False
    if type(left) is float:
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if type(left) is Decimal:
        return str(left) == str(right)
    if type(left) in (list, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is dict:
        return same(list(left.items()), list(right.items()))
    if type(left) in (set, frozenset):
        return len(left) == len(right) and all(any(same(one, other) for other in right) for one in left)
    if type(left) in (datetime.datetime, datetime.time):
        return repr(left) == repr(right) and bool(left.fold == right.fold)
    return bool(left == right)


zones = st.none() | st.timezones() | st.just(datetime.UTC) | st.builds(
    datetime.timezone,
    st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
)  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.binary(max_size=8)
    | st.datetimes(timezones=zones, allow_imaginary=True)
    | st.dates()
    | st.times(timezones=zones.filter(lambda zone: not isinstance(zone, zoneinfo.ZoneInfo)))
    | st.timedeltas()
    | st.uuids()
    | st.decimals().filter(lambda number: not number.is_snan())  # which has no hash
    | st.sampled_from([*Color, *Number, *Mode, Mode.READ | Mode.WRITE, Mode(0)])
    | st.builds(Disk, st.integers(), st.tuples(st.text(max_size=3)))
    | st.builds(Point, st.integers(), st.integers())
)
hashables = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
)
anything = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(hashables, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$", "v"]), inner, max_size=3)
        | st.dictionaries(hashables, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(anything)
def test_whatever_is_accepted_comes_back_exactly(value: Any) -> None:
    text = encode(value)
    assert same(decode(text), value)
    assert text.encode()
    json.loads(text)


texts = st.text(st.characters(codec="utf-8"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts.filter(lambda key: key != "$"), inner),
)


@given(plain)
def test_plain_data_is_plain_json(value: Any) -> None:
    assert same(json.loads(encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**63,
        -(2**64),
        10**5_000,
        -(10**700),
        [10**5_000],
        -0.0,
        5e-324,
        1.7976931348623157e308,
        math.inf,
        [-math.inf],
        math.nan,
        "",
        "\0\x1f\u2028\U0001f600",
        "\ud800",
        "\ud83d\ude00",  # two lone surrogates, which json would join
        {"\udc00": ["\ud83d\ude00"]},
        {1: "a", "1": "b", None: "c", False: "d"},
        {"$": "tuple", "v": [1]},
        {"a": {"$": {"$": None}}},
        [(), [], {}, set(), frozenset(), b"", ""],
        ([1], (2, [3])),
        {("a", 1): {None: (1,)}},
        Decimal("-0.00"),
        Decimal("sNaN123"),
        Decimal("1E+999"),
        datetime.datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("America/New_York")),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(seconds=1), "odd")),
        datetime.time(1, 2, 3, 4, fold=1),
        datetime.datetime(1, 1, 1),  # noqa: DTZ001 (naive, on purpose)
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC),
        datetime.timedelta.min,
        uuid.UUID(int=1),
        Color.CRIMSON,
        Mode.READ | Mode.WRITE,
        Number.ONE,
        {Number.ONE: Number.ONE},
        Point(1),
        Disk(3, ("a",)),
        Computed(1),
        [Path(["a", "b"])],
    ],
    ids=lambda value: type(value).__name__,
)
def test_corners_come_back_exactly(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_a_set_is_written_the_same_by_every_process() -> None:
    code = "from holdfast.core.values import encode; print(encode({'c', 'a', ('b', frozenset('xyz'))}))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


class Text(str):
    __slots__ = ()


class Unregistered(enum.IntEnum):
    ONE = 1


class Bare(NamedTuple):
    x: int


@register
@dataclass
class Parent:
    x: Any


class Child(Parent):
    pass


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            {"disks": [0, 1, Disk(io.StringIO())]},
            r"^disks\[2\]\.size_gib is a _io\.StringIO, which can't be stored: return what",
        ),
        (Text("a"), r"^the value is a .*Text, which can't be stored: it would come back as a plain str"),
        ([1, Text("a")], r"^\[1\] is a .*Text"),
        ({Text("a"): 1}, r"^the value's key .* is a .*Text"),
        (OrderedDict(a=1), r"OrderedDict, .*plain dict"),
        ({"a": OrderedDict()}, r"^a is a collections.OrderedDict"),
        (Unregistered.ONE, r"Unregistered, .*@hf\.register"),
        ([Unregistered.ONE], r"Unregistered, .*@hf\.register"),
        (Bare(1), r"Bare, .*@hf\.register"),
        (Child(1), r"Child, .*@hf\.register"),
        (bytearray(b"a"), "bytearray"),
        (1j, "complex"),
        (object(), "object"),
        (iter([1]), "make a list of it"),
        (len, "return what it gives"),
        ({"a b": {3: object()}}, r"^\['a b'\]\[3\] is a object"),
        (Parent(Parent({1, object})), r"^x\.x\{…\} is a type"),
        (datetime.datetime(2026, 1, 1, tzinfo=type("Zone", (datetime.tzinfo,), {})()), "its tzinfo is a .*Zone"),
    ],
)
def test_anything_else_is_refused_by_place_and_type(value: Any, says: str) -> None:
    with pytest.raises(ValueRefused, match=says):
        encode(value)


def test_a_refusal_begins_with_the_name_it_is_given() -> None:
    with pytest.raises(ValueRefused, match=r"^boot's result\.disk\[0\] is a object"):
        encode({"disk": [object()]}, name="boot's result")


def test_circles_are_refused_and_shared_parts_are_not() -> None:
    wide: list[Any] = []
    wide.extend([wide, wide])
    deep: dict[str, Any] = {"a": [1, {}]}
    deep["a"][1]["b"] = deep
    for value in (wide, deep, Parent(wide), (wide,)):
        with pytest.raises(ValueRefused, match="contains itself"):
            encode(value)
    shared = [1]
    assert decode(encode([shared, shared, (shared,)])) == [[1], [1], ([1],)]


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}, Parent])
def test_nesting_is_bounded(wrap: Any) -> None:
    value: Any = 1
    for _ in range(DEPTH_MAX // 2):
        value = wrap(value)
    assert decode(encode(value)) == value
    for _ in range(20_000):
        value = wrap(value)
    with pytest.raises(ValueRefused, match="deep"):
        encode(value)
    while not isinstance(value, int):  # or freeing it recurses
        value = (
            next(iter(value.values()))
            if isinstance(value, dict)
            else value.x
            if isinstance(value, Parent)
            else value[0]
        )


def test_no_recursion_error_leaks_from_a_deep_stack() -> None:
    def descend(value: Any, left: int) -> str:
        return descend(value, left - 1) if left else encode(value)

    value: Any = 1
    for _ in range(DEPTH_MAX - 2):
        value = (value,)
    limit = sys.getrecursionlimit()
    told = set()
    for left in range(limit - 250, limit):
        try:
            descend(value, left)
        except ValueRefused as refused:
            told.add(str(refused).partition(":")[0])
        except RecursionError:  # of `descend` itself, before encode began
            told.add("too deep by itself")
    assert told == {"the value is nested too deep to be stored", "too deep by itself"}


def test_size_is_bounded_in_bytes_of_utf8() -> None:
    assert encode("é" * 4, bytes_max=10) == '"éééé"'
    for value in ("é" * 5, "a" * 9, [1] * 1_000_000, (1,) * 1_000_000, {"a": "b" * 100}, 10**5_000):
        with pytest.raises(ValueTooLarge, match=r"^boot takes .* value_bytes_max = 10 allows"):
            encode(value, name="boot", bytes_max=10)


def test_what_is_much_too_large_is_refused_before_it_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(value: object) -> str:
        raise AssertionError("it was written out")

    monkeypatch.setattr(values, "_dumps", written)
    large: list[Any] = ["a" * 101, b"a" * 101, [b"a" * 101], (b"a" * 60, b"a" * 60), {1: "a" * 101}]
    for value in large:
        with pytest.raises(ValueTooLarge):
            encode(value, bytes_max=100)
    monkeypatch.undo()
    small: list[Any] = [b"a" * 50, ("a" * 30, "b" * 20), [b"a" * 20, b""]]
    for value in small:
        assert decode(encode(value, bytes_max=100)) == value


def test_few_parts_that_make_many_items_are_refused_early() -> None:
    for make in (lambda inner: [inner, inner], lambda inner: (inner, inner)):
        value: Any = [1]
        for _ in range(60):
            value = make(value)
        with pytest.raises(ValueTooLarge):
            encode(value, bytes_max=100_000)


def test_a_stored_value_is_decoded_once() -> None:
    stored = Stored(encode([1, (2,)]))
    assert stored.value == [1, (2,)]
    assert stored.value is stored.value
    assert stored == Stored(stored.text)
    assert Stored("null").value is None


def test_broken_text_is_refused() -> None:
    for text in ("{", '{"$":"tuple"', '{"$":"@nowhere.Thing","v":{}}', '{"$":"Decimal","v":[]}', '{"$":"tuple"}'):
        with pytest.raises(ValueRefused):
            decode(text)


def test_a_reader_with_a_lower_limit_still_reads_long_ints() -> None:
    value = [10**4_000, 1]
    text = "[" + str(value[0]) + ",1]"
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert decode(text) == value
    finally:
        sys.set_int_max_str_digits(limit)


def test_a_dataclass_that_grew_a_field_with_a_default_still_reads() -> None:
    @dataclass
    class Old:
        a: int

    @dataclass
    class New:
        a: int
        b: int = 7

    @dataclass
    class Worse:
        a: int
        b: int

    register(Old, name="test.grown")
    text = encode(Old(1))
    for kind in (New, Worse):
        kind.__qualname__ = Old.__qualname__
        register(kind, name="test.grown")
        if kind is New:
            assert decode(text) == New(1, 7)
        else:
            with pytest.raises(ValueRefused, match="give new ones a default"):
                decode(text)


def test_register_refuses_what_it_cannot_keep() -> None:
    class Plain:
        pass

    with pytest.raises(UsageError, match="to= and from_="):
        register(Plain)
    with pytest.raises(UsageError, match="no need"):
        register(datetime.date)
    with pytest.raises(UsageError, match="no need"):
        register(dict)
    with pytest.raises(UsageError, match="two classes"):
        register(Plain, to=vars, from_=lambda _: Plain(), name=f"{__name__}.Disk")


def test_plain_values_load_no_module_but_json() -> None:
    code = (
        "import sys; from holdfast.core.values import encode, decode; before = set(sys.modules);"
        "decode(encode({'a': (1, {2})})); print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=True, text=True
    )
    assert {"datetime", "decimal", "uuid", "dataclasses", "zoneinfo", "cryptography"}.isdisjoint(done.stdout.split())


def test_a_script_writes_what_its_import_reads(tmp_path: Path_) -> None:
    script = tmp_path / "flows.py"
    script.write_text(
        "from dataclasses import dataclass\n"
        "from holdfast.core.values import encode, register\n"
        "@register\n"
        "@dataclass\n"
        "class Disk:\n"
        "    size: int\n"
        "print(encode(Disk(3)), end='')\n"
    )
    env = {"PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, check=True, text=True).stdout
    module = types.ModuleType("flows_under_another_name")
    module.__dict__["__holdfast_script__"] = str(script)  # as flow/registry.py loads a script
    sys.modules[module.__name__] = module
    try:
        exec(compile(script.read_text(), str(script), "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    assert decode(told) == module.__dict__["Disk"](3)


# --- secrets -----------------------------------------------------------------------------------------------------


def seal(text: str) -> str:
    return text.encode().hex()


def unseal(text: str) -> str:
    return bytes.fromhex(text).decode()


def test_a_secret_is_never_shown() -> None:
    secret = Secret("hunter2")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>10}", f"{[secret]}", repr(Stored(encode(secret, seal)))]
    assert not any("hunter2" in text for text in shown)
    assert "hunter2" not in encode({"password": secret}, seal)


def test_a_secret_round_trips_through_a_seal_and_is_unsealed_late() -> None:
    value = {"password": Secret(("a", 1)), "again": [Secret("b")]}
    text = encode(value, seal)
    back = decode(text, unseal)
    assert back == value
    assert back["password"].reveal() == ("a", 1)
    keyless = decode(text)
    assert repr(keyless["password"]) == "Secret(***)"
    with pytest.raises(SecretKeyMissing):
        keyless["password"].reveal()


def test_a_secret_is_refused_without_a_seal() -> None:
    with pytest.raises(SecretKeyMissing, match=r"^db\.password is a Secret"):
        encode({"db": {"password": Secret("x")}})


def test_what_a_secret_holds_must_be_storable_too() -> None:
    with pytest.raises(ValueRefused, match=r"^password is a object"):
        encode({"password": Secret(object())}, seal)


def test_a_secret_is_not_pickled() -> None:
    import copy
    import pickle

    secret = Secret("x")
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert copy.deepcopy([secret])[0] is secret
