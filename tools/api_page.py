"""The page of the HTTP API: every route with what it takes and answers, from the table that requests are served by."""

from __future__ import annotations

from itertools import groupby
from types import ModuleType
from typing import Any

from holdfast import local
from holdfast.resources.node.kind import node
from holdfast.resources.registry import Kinds
from holdfast.resources.server.kind import server
from tools import pages

API = """
What `holdfast serve` answers. Every kind has the routes that are shown here of `server` under its own plural (nodes
have them under `/v3/nodes`); nodes have Ironic's besides, where a node is named by its id or by its name.
`GET /openapi.json` is the same for programs, with every body. *Who* is the rule that the asker has to satisfy
(`policy_file` changes who does): no rule, anybody. *tag*: it makes a task, and takes a `Task-tag` or an
`Idempotency-Key`. Every route may also answer 400, 406, 431, 500 and 503; those with a rule 401, 403 and 429; those
with a body 408, 413 and 415; those with a tag 410 and 422. HEAD is GET without the body.

Errors have one body, `application/problem+json`: `code` is for programs ([all of them](errors.md)), `detail` for
people, and more members say what is allowed. Who accepts `application/json` alone, and OpenStack's clients (a
`User-Agent` with `keystoneauth1/`), get it as that, with a `message` too. Below `/v1`,
`X-OpenStack-Ironic-API-Version` is negotiated as Ironic does it, and errors have Ironic's `error_message` too.
"""
TITLES = {
    "": "The service itself",
    "tasks": "Tasks",
    "servers": "Servers, or any other kind",
    "nodes": "Nodes, as Ironic's clients know them",
    "resources": "Resources",
    "events": "Events",
    "webhooks": "Webhooks",
    "schemas": "Schemas",
}


def api(module: ModuleType) -> str:
    """`module`: holdfast.service.app."""
    with local.open("sqlite:///:memory:", kinds=Kinds([node, server])) as hold:
        shown = [route for route in module.Service(hold).routes if not route.hidden]
    routes = [route for route in shown if not route.path.startswith("/v3/nodes")]
    sections = [pages.head("HTTP API", API)]
    for noun, found in groupby(sorted(routes, key=_place), key=_noun):
        sections.append(f"## {TITLES[noun]}")
        sections.append(
            pages.table(("route", "what it does", "who", "query", "answers"), [_row(route) for route in found])
        )
    return "\n\n".join(sections)


def _noun(route: Any) -> str:
    parts = route.path.strip("/").split("/")
    words = parts[1:] if parts[0] == "v3" or parts[:2] == ["v1", "nodes"] else parts
    return words[0] if words and words[0] in TITLES else ""


def _place(route: Any) -> tuple[Any, ...]:
    return list(TITLES).index(_noun(route)), route.path, route.method


def _row(route: Any) -> tuple[str, str, str, str, str]:
    tag = " (tag)" if route.tagged else ""
    body = f"; body: {_body(route)}" if route.body is not None else ""
    return (
        f"`{route.method} {route.path}`",
        f"{route.summary}{body}{tag}",
        f"`{route.rule}`" if route.rule else "",
        ", ".join(f"`{param.name}`" for param in route.query),
        ", ".join(map(str, sorted(route.answers))),
    )


def _body(route: Any) -> str:
    fields = getattr(route.body, "__struct_encode_fields__", None)
    return ", ".join(f"`{field}`" for field in fields) if fields else "an object"
