"""What a route is, as data: the one table from which requests are dispatched and checked, and the API described.

A route module has a function `routes(service) -> list[Route]` and stands in app.MODULES. What is checked of a request
before its handler sees it: app.py; how the table becomes a document: openapi.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from holdfast.service.requests import Ask

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
STREAM: Final = "text/event-stream"
SAFE: Final = frozenset(("GET", "HEAD"))

Schema = Mapping[str, Any]
TEXT_SCHEMA: Final[Schema] = {"type": "string"}


class Answer(NamedTuple):
    """`body`: data for JSON; bytes and None go as they are. `stream`: sent as it comes, instead of a body."""

    status: int = 200
    body: Any = None
    headers: Sequence[tuple[str, str]] = ()
    media: str = JSON
    stream: AsyncIterator[bytes] | None = None


class Param(NamedTuple):
    """A query parameter. An empty one counts as not given. `repeats`: it may be given more than once."""

    name: str
    help: str
    schema: Schema = TEXT_SCHEMA
    repeats: bool = False


class Route(NamedTuple):
    """`path` names its parameters as {task}; `path_schemas` says of which only some texts are meant. `rule` of
    policy.py: who may ask; None: anybody. `body`: the Struct of msgspec that it takes; `dict`: any JSON object, of
    which `body_schema` says more (Structs may stand in it); None: none. `answers`: status -> schema of the body (a
    Struct, a JSON schema, a name of documents.py, or None: no body); errors that every route may answer with are not
    listed. One that may answer 412 looks at If-Match; the others refuse it. `tagged`: it makes a task, so it takes a
    Task-tag. `media`: what it can answer in, besides problems. `limited`: it counts for the project's rate. `headers`:
    those without which it is nothing."""

    method: str
    path: str
    handler: Callable[[Ask], Awaitable[Answer]]
    rule: str | None
    summary: str
    query: Sequence[Param] = ()
    body: Any = None
    body_needed: bool = True
    body_schema: Schema | None = None
    path_schemas: Mapping[str, Schema] = {}
    answers: Mapping[int, Any] = {}
    tagged: bool = False
    media: Sequence[str] = (JSON,)
    limited: bool = True
    hidden: bool = False
    headers: Sequence[Param] = ()

    @property
    def places(self) -> dict[str, int]:
        """The parameters of the path -> which segment they are."""
        return _places(self.path)


@cache
def _places(path: str) -> dict[str, int]:
    return {part[1:-1]: place for place, part in enumerate(path.split("/")) if part.startswith("{")}


COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
BOOLEAN: Final[Schema] = {"type": "boolean"}
