"""The page docs/reference/python.md: every public name with its signature and what its docstring says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final

from tools import pages

HEAD = """
What `import holdfast as hf` gives. What the docstrings say, in one place; the [how-to pages](../index.md) say when to
use what. Anything that is not here, in [`holdfast.client`](client.md), `holdfast.errors` or `holdfast.testing` may
change without notice.
"""
WIDTH: Final = 100
#: Holdfast makes them; nobody else does.
GIVEN: Final = {"AsyncContext", "Context", "Failure", "Flow", "Holdfast", "Outcome", "Step", "Task"}
STARS: Final[dict[object, str]] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
FUNCTIONS: Final = (FunctionType, staticmethod, classmethod)


def python(module: ModuleType) -> str:
    parts = [pages.head("Python", HEAD)]
    for name in sorted(module.__all__, key=str.lower):
        parts += section(name, getattr(module, name))
    return "\n\n".join(parts)


def section(name: str, thing: Any) -> Iterator[str]:
    yield f"## hf.{name}"
    if not isinstance(thing, type):
        if isinstance(thing, FunctionType):
            yield code(f"hf.{name}", thing)
            yield told(thing)
        else:
            yield f"A type: `{str(thing).replace('holdfast.flow.step.', 'hf.')}`."
        return
    if name not in GIVEN and not issubclass(thing, BaseException):
        yield code(f"hf.{name}", thing)
    yield told(thing)
    for called, member in members(thing):
        if isinstance(member, FUNCTIONS):
            yield code(called, getattr(thing, called), is_method=True)
            yield told(getattr(thing, called))
        else:
            yield f"`{called}`: {told(member)}"


def members(thing: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that say something of themselves, those of private bases included."""
    seen: set[str] = set()
    for owner in thing.__mro__:
        if owner is not thing and not owner.__name__.startswith("_"):
            break
        for name, member in vars(owner).items():
            speaks = isinstance(member, (*FUNCTIONS, property)) and inspect.getdoc(member)
            if speaks and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def code(name: str, thing: Any, *, is_method: bool = False) -> str:
    """The signature as a block: one line, or a line for each parameter."""
    signature = inspect.signature(thing)
    given = list(signature.parameters.values())
    if is_method and given and given[0].name in ("self", "cls"):
        del given[0]
    returns = "" if isinstance(thing, type) else f" -> {shown(signature.return_annotation)}"
    words = list(parameters(given))
    text = f"{name}({', '.join(words)}){returns}"
    if len(text) > WIDTH:
        text = "\n    ".join((f"{name}(", *(f"{word}," for word in words))) + f"\n){returns}"
    return f"```text\n{text}\n```"


def parameters(given: list[inspect.Parameter]) -> Iterator[str]:
    """Each as it is written in the source, with `/` and `*` where they belong."""
    before = None
    for parameter in given:
        if before is parameter.POSITIONAL_ONLY and parameter.kind is not before:
            yield "/"
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            yield "*"
        stars = STARS.get(parameter.kind, "")
        kind = "" if parameter.annotation is parameter.empty else f": {shown(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        yield f"{stars}{parameter.name}{kind}{default}"
        before = parameter.kind
    if before is inspect.Parameter.POSITIONAL_ONLY:
        yield "/"


def shown(annotation: Any) -> str:
    """As it is written in the source, without modules."""
    text = getattr(annotation, "__forward_arg__", None) or annotation
    if not isinstance(text, str):
        text = getattr(text, "__name__", str(text))
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)


NAMED: Final = re.compile(r"[a-z_]+(, [a-z_]+)*: |Raises: ")


def told(thing: Any) -> str:
    """The docstring. Where each line tells of a parameter, it stays a line."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    following = [*lines[1:], ""]
    return "\n".join(
        f"{line}  " if line and NAMED.match(after) else line for line, after in zip(lines, following, strict=True)
    )
