"""A stored exception: plain data that survives the process, and the code, that raised it.

Theory: nothing that was raised is ever raised again from storage, because its class may be gone. What is kept is
what people and retry policies ask for: the names of its classes, its message, its traceback and what caused it.
Everything is bounded, so that one failure can't fill a journal.

The classes that Holdfast itself raises are in errors.py; how other values are stored is in core/values.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.core.retry import type_name

MESSAGE_CHARS_MAX = 4_096
TRACEBACK_CHARS_MAX = 16_384
DEPTH_MAX = 5
CAUSES_MAX = 32
FRAMES_MAX = 64
TYPES_MAX = 32

_NAMELESS = (object, BaseException)


class Failure(NamedTuple):
    """`types`: the names of the exception's class and its bases, most derived first, as core/retry.type_name.
    `causes`: what it was raised from, or while handling; the members of an exception group."""

    types: tuple[str, ...]
    message: str
    traceback: str | None = None
    causes: tuple[Failure, ...] = ()

    @classmethod
    def of(cls, exc: BaseException, *, with_traceback: bool = True) -> Failure:
        """Describe an exception. The traceback covers its causes too, so theirs are None. Never raises."""
        return _describe(exc, _traceback(exc) if with_traceback else None, DEPTH_MAX, {id(exc)})

    @property
    def type(self) -> str:
        """The class's own name, without its module."""
        return self.types[0].rpartition(".")[2] if self.types else "Exception"

    @property
    def summary(self) -> str:
        """One line, as `ConnectionError: refused`."""
        lines = self.message.strip().splitlines()
        return f"{self.type}: {lines[0]}" if lines else self.type

    def to_json(self) -> dict[str, Any]:
        """The failure as data that json can write."""
        return {
            "types": list(self.types),
            "message": self.message,
            "traceback": self.traceback,
            "causes": [cause.to_json() for cause in self.causes],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Failure:
        """The failure that `to_json` wrote."""
        return cls(
            tuple(data["types"]),
            data["message"],
            data.get("traceback"),
            tuple(cls.from_json(cause) for cause in data.get("causes", ())),
        )


def _describe(exc: BaseException, traceback: str | None, depth: int, seen: set[int]) -> Failure:
    types = tuple(type_name(kind) for kind in type(exc).__mro__ if kind not in _NAMELESS)[:TYPES_MAX]
    causes = []
    if depth > 0:
        for cause in _causes(exc):
            if id(cause) not in seen and len(seen) <= CAUSES_MAX:
                seen.add(id(cause))
                causes.append(_describe(cause, None, depth - 1, seen))
    return Failure(types or (type_name(type(exc)),), _message(exc), traceback, tuple(causes))


def _causes(exc: BaseException) -> list[BaseException]:
    found = exc.__cause__
    if found is None and not exc.__suppress_context__:
        found = exc.__context__
    causes = [] if found is None else [found]
    if isinstance(exc, BaseExceptionGroup):
        causes.extend(exc.exceptions[:CAUSES_MAX])
    return causes


def _message(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception as broken:
        text = f"(its message can't be shown: {type(broken).__name__})"
    return clean(text if len(text) <= MESSAGE_CHARS_MAX else text[: MESSAGE_CHARS_MAX - 1] + "…")


def _traceback(exc: BaseException) -> str | None:
    from traceback import TracebackException

    try:
        told = TracebackException.from_exception(exc, limit=-FRAMES_MAX, max_group_depth=DEPTH_MAX, compact=True)
        text = "".join(told.format())
    except Exception:  # a class with a broken __str__ or __eq__ must not turn a failure into a crash
        return None
    if len(text) > TRACEBACK_CHARS_MAX:
        # The end says what went wrong and where; the start only how the worker got there.
        text = "…\n" + text[2 - TRACEBACK_CHARS_MAX :]
    return clean(text)


def clean(text: str) -> str:
    """Text that UTF-8 and every database can hold: lone surrogates and NUL are spelled out."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
