"""The API as an OpenAPI 3.1 document, made of the table of routes: what is dispatched is what is described.

What the schemas are: documents.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, get_origin

import msgspec

from holdfast import __version__
from holdfast.service import problems
from holdfast.service.app import Service
from holdfast.service.documents import ANSWERS, BY_NAME, components
from holdfast.service.requests import VERSION_MAX, Ask
from holdfast.service.routes import JSON, PROBLEM, SAFE, Answer, Route, Schema

#: What any route may answer with, besides its own.
EVERYWHERE: Final = (400, 406, 431, 500, 503)
IDENTIFIED: Final = (401, 403, 429)
WITH_BODY: Final = (408, 413, 415)
WITH_TAG: Final = (410, 422)
_HEADERS: Final = {
    "X-OpenStack-Request-Id": {"schema": {"type": "string", "pattern": "^req-[0-9a-f-]{36}$"}},
    "X-Compute-Request-Id": {"schema": {"type": "string", "pattern": "^req-[0-9a-f-]{36}$"}},
    "OpenStack-API-Version": {"schema": {"type": "string"}},
}
#: Of each Struct, where its schema is.
Refs = Mapping[Any, dict[str, Any]]
_TAG: Final = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}


class Document:
    """Made at the first request for it: other modules' routes are there by then."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._text: bytes | None = None

    async def show(self, ask: Ask) -> Answer:
        if self._text is None:
            self._text = msgspec.json.encode(document(self._service.routes))
        return Answer(body=self._text)


def document(routes: list[Route]) -> dict[str, Any]:
    shown = [route for route in routes if not route.hidden]
    structs = list(dict.fromkeys([*ANSWERS, *(kind for route in shown for kind in _structs(route))]))
    made, named = components(structs)
    refs = dict(zip(structs, made, strict=True))
    paths: dict[str, Any] = {}
    for route in shown:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast",
            "version": ".".join(map(str, VERSION_MAX)),
            "description": f"Tasks on resources. Served by Holdfast {__version__}.",
        },
        "paths": paths,
        "components": {
            "schemas": named,
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"token": []}, {"bearer": []}],
    }


def _structs(schema: Any) -> list[Any]:
    """The Structs in what a route takes and answers, however deep."""
    if isinstance(schema, Route):
        return [kind for each in (*schema.answers.values(), schema.body, schema.body_schema) for kind in _structs(each)]
    if isinstance(schema, dict):
        return [kind for each in schema.values() for kind in _structs(each)]
    if isinstance(schema, list):
        return [kind for each in schema for kind in _structs(each)]
    return [schema] if isinstance(schema, type) and issubclass(schema, msgspec.Struct) else []


def _operation(route: Route, refs: Refs) -> dict[str, Any]:
    answers: dict[int, Any] = dict(route.answers)
    usual = [*EVERYWHERE]
    usual += IDENTIFIED if route.rule is not None else ()
    usual += WITH_BODY if route.method not in SAFE else ()
    usual += WITH_TAG if route.tagged else ()
    for status in usual:
        answers.setdefault(status, "Problem")
    made: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {str(status): _answer(route, status, answers[status], refs) for status in sorted(answers)},
    }
    if route.rule is None:
        made["security"] = []
    else:
        made["x-rule"] = route.rule
    if route.body is not None:
        body = _schema(route.body_schema or route.body, refs)
        made["requestBody"] = {"required": route.body_needed, "content": {JSON: {"schema": body}}}
    return made


def _name(route: Route) -> str:
    words = re.findall(r"[A-Za-z0-9]+", route.path) or ["root"]
    return "_".join([route.method.lower(), *words])


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": dict(route.path_schemas.get(name, {"type": "string"}))}
        for name in route.places
    ]
    found += [
        {
            "name": param.name,
            "in": "query",
            "required": False,
            "description": param.help,
            "schema": _unset(param.schema),
        }
        for param in route.query
    ]
    found += [
        {"name": each.name, "in": "header", "required": True, "description": each.help, "schema": dict(each.schema)}
        for each in route.headers
    ]
    if route.tagged:
        said = (
            "Names this request: sent again, it is answered with the same task. Idempotency-Key is another name for it"
        )
        found.append({"name": "Task-tag", "in": "header", "required": False, "description": said, "schema": _TAG})
    return found


def _unset(schema: Schema) -> dict[str, Any]:
    """An empty parameter is one that is not given, whatever it would be."""
    return dict(schema) if schema.get("type") in ("string", None) else {"anyOf": [dict(schema), {"const": ""}]}


def _answer(route: Route, status: int, kind: Any, refs: Refs) -> dict[str, Any]:
    made: dict[str, Any] = {"description": _description(status, kind), "headers": dict(_HEADERS)}
    if kind is None:
        return made
    media = (PROBLEM, JSON) if kind == "Problem" else route.media
    made["content"] = {each.partition(";")[0]: {"schema": _schema(kind, refs)} for each in media}
    return made


def _description(status: int, kind: Any) -> str:
    if kind == "Problem":
        named = sorted(code for code, error in problems.codes().items() if error.status == status)
        return f"A problem: {', '.join(named) or 'see its code'}"
    return {200: "It is so", 201: "Made", 202: "Accepted", 204: "Nothing more", 304: "As you have seen it"}.get(
        status, str(status)
    )


def _schema(kind: Any, refs: Refs) -> dict[str, Any]:
    """`kind`: a name of documents.py, a Struct, any object (`dict`), or a JSON schema in which Structs stand."""
    if isinstance(kind, str):
        return refs[BY_NAME[kind]]
    if isinstance(kind, dict):
        return {name: _inside(each, refs) for name, each in kind.items()}
    if kind is dict or get_origin(kind) is dict:
        return {"type": "object"}
    return refs[kind]


def _inside(found: Any, refs: Refs) -> Any:
    if isinstance(found, list):
        return [_inside(each, refs) for each in found]
    if isinstance(found, dict):
        return {name: _inside(each, refs) for name, each in found.items()}
    return refs[found] if isinstance(found, type) else found


def routes(service: Service) -> list[Route]:
    made = Document(service)
    return [
        Route("GET", "/openapi.json", made.show, None, "This document", answers={200: {"type": "object"}},
              limited=False)
    ]  # fmt: skip
