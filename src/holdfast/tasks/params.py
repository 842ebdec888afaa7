"""The parameters of a list of tasks, as clients write them: `state=in:failed,aborted&created_at=gt:2026-01-01`.

Theory: an empty value is as if it weren't there, so that a form with empty fields works; a name that isn't known, or a
value that can't be meant, is refused, because a list that is longer than what was asked for misleads. Times are shown
to the microsecond and stored more finely, so a limit lies half a microsecond beside the time that is written: what is
shown as equal counts as equal.

What is then looked for, and how: tasks/listing.py. Who may see which projects is the service's to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from holdfast.errors import QueryUnknown, UsageError
from holdfast.tasks.listing import LIMIT, LIMIT_MAX, NEWEST_FIRST, SORTS, Filter, Sort, states_of

HALF: Final = 5e-7
DIGITS_MAX: Final = 18
VALUE_CHARS_MAX: Final = 4096
VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]*")
DEPTHS: Final = ("roots", "all")
_TRUE, _FALSE = frozenset(("true", "1", "yes", "on")), frozenset(("false", "0", "no", "off"))
_OTHER_NAMES: Final = {"task_state": "state", "start_time": "created_at", "updated_at": "last_updated"}


class Asked(NamedTuple):
    """A list that is asked for. `filter` has no project yet: `project_id` and `all_projects` are what the client says
    about that. `fields`: the keys to show of each task; none: all of a list's."""

    filter: Filter = Filter(roots=True)
    sort: Sort = NEWEST_FIRST
    limit: int = LIMIT
    marker: str | None = None
    fields: tuple[str, ...] = ()
    project_id: str = ""
    all_projects: bool = False


_TEXTS: Final = ("task", "tag", "resource_id", "resource_type", "user_id", "request_id", "origin")
#: operator -> which end of the range it sets, and on which side of the time
_BOUNDS: Final = {
    "gt": (("from", HALF),),
    "gte": (("from", -HALF),),
    "lt": (("to", -HALF),),
    "lte": (("to", HALF),),
    "eq": (("from", -HALF), ("to", HALF)),
}
_TIMES: Final = {"created_at": "created", "last_updated": "updated"}
_CHANGES: Final = {"changes-since": "gte", "changes-before": "lte"}
#: Every parameter that a list takes, by its first name.
NAMES: Final = (
    "state",
    *_TEXTS,
    "parent_id",
    "root_id",
    "depth",
    *_TIMES,
    *_CHANGES,
    "limit",
    "marker",
    "sort",
    "fields",
    "project_id",
    "all_projects",
)


def read(given: Iterable[tuple[str, str]], *, fields: Iterable[str] = ()) -> Asked:
    """The list that these parameters ask for. `fields`: the keys that a task has, where they may be chosen.

    Children are left out unless `parent_id`, `root_id` or `depth=all` asks for them.
    Raises: QueryUnknown; UsageError: a value that can't be meant. Details: `parameter`.
    """
    wanted: dict[str, Any] = {"roots": True}
    how: dict[str, Any] = {}
    seen: set[str] = set()
    for name, value in given:
        known = _OTHER_NAMES.get(name, name)
        if known not in NAMES:
            raise QueryUnknown(f"a list of tasks takes no {name}: it takes {', '.join(NAMES)}", parameter=name)
        if not value:
            continue
        if len(value) > VALUE_CHARS_MAX or not VALUE.fullmatch(value):
            raise UsageError(f"{name} is at most {VALUE_CHARS_MAX} characters, none a control one", parameter=name)
        if known in _TIMES or known in _CHANGES:
            _bound(wanted, name, known, value)
            continue
        if known in seen:
            raise UsageError(f"{name} is given twice", parameter=name)
        seen.add(known)
        if known in _TEXTS:
            wanted[known] = value
        elif known in _READ:
            how[known] = _READ[known](name, value)
        elif known == "fields":
            how["fields"] = _fields(value, tuple(fields))
        elif known == "depth":
            all_of_them = _one_of(DEPTHS, name, value) == "all"
            wanted |= {"roots": not all_of_them, "trees": all_of_them}
        elif known == "state":
            wanted["state"] = ",".join(_states(name, value))
        else:
            wanted[known.removesuffix("_id")] = value
    if "parent" in wanted or "root" in wanted:
        wanted["roots"] = False
    return Asked(Filter(**wanted), **how)


def moment(text: str, *, parameter: str) -> float:
    """The time that a client wrote, ISO 8601; UTC if it says nothing else. Raises: UsageError."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{parameter} is a time as 2026-11-21T08:30:00Z, not {text[:40]!r}", parameter=parameter
        ) from None


def truth(name: str, value: str) -> bool:
    """Raises: UsageError."""
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise UsageError(f"{name} is true or false, not {value[:40]!r}", parameter=name)


def _bound(wanted: dict[str, Any], name: str, known: str, value: str) -> None:
    if known in _CHANGES:
        word, text, known = _CHANGES[known], value, "last_updated"
    else:
        word, colon, text = value.partition(":")
        if word not in _BOUNDS or not colon:
            word, text = "eq", value
    at = moment(text, parameter=name)
    for end, beside in _BOUNDS[word]:
        field = f"{_TIMES[known]}_{end}"
        narrower: Callable[..., float] = max if end == "from" else min
        wanted[field] = narrower(at + beside, wanted.get(field, at + beside))


def _states(name: str, value: str) -> list[str]:
    try:
        found = states_of(value)
    except UsageError as error:
        raise UsageError(str(error), parameter=name) from None
    if not found:
        raise UsageError(f"{name} names no state: {value[:40]!r}", parameter=name)
    return found


def _limit(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise UsageError(f"{name} is a whole number, 0 or more, not {value[:40]!r}", parameter=name)
    return LIMIT_MAX if len(value) > DIGITS_MAX else min(int(value), LIMIT_MAX)


def _sort(name: str, value: str) -> Sort:
    keys: dict[str, bool] = {}
    for each in value.split(","):
        word, _, direction = each.partition(":")
        key = _OTHER_NAMES.get(word, word)
        if key not in SORTS or key in keys:
            raise UsageError(
                f"{name} is one or more of {', '.join(SORTS)}, each once and with :asc or :desc, not {each[:40]!r}",
                parameter=name,
            )
        keys[key] = _one_of(("asc", "desc"), name, direction or "desc") == "desc"
    directions = [*keys.values(), *keys.values()]
    return Sort(next(iter(keys)), directions[0], directions[1])


def _fields(value: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise UsageError(f"a task has no field {name[:40]!r}: choose of {', '.join(known)}", parameter="fields")
    return names


def _one_of(words: tuple[str, ...], name: str, value: str) -> str:
    if value.lower() not in words:
        raise UsageError(f"{name} is {' or '.join(words)}, not {value[:40]!r}", parameter=name)
    return value.lower()


def _text(name: str, value: str) -> str:
    return value


_READ: Final[dict[str, Callable[[str, str], Any]]] = {
    "limit": _limit,
    "marker": _text,
    "sort": _sort,
    "project_id": _text,
    "all_projects": truth,
}
