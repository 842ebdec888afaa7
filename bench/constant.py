"""The web stack of the service answering a constant: what an answer costs before Holdfast has done anything.

The same framework, server, connections and settings as `holdfast serve`; a body is read and decoded, an answer of the
size of a task is encoded, nothing is looked up or stored. `python -m bench.constant` prints its port and serves until
it is ended.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import uvicorn
from litestar import Litestar, get, post

from holdfast.service.connections import protocol
from holdfast.settings import Settings

TASK = {
    "uuid": "0198c1f0-7b00-7000-8000-000000000001", "task": "touch", "state": "PENDING", "tag": None,
    "resource": {"thing": "thing-1"}, "resource_id": "thing-1", "resource_type": "thing",
    "claims": [{"type": "thing", "id": "thing-1", "mode": "exclusive"}], "request_id": "req-" + "0" * 36,
    "user_id": "user", "project_id": "default", "origin": "api", "created_at": "2026-01-01T00:00:00.000000Z",
    "progress": {"percent": 0, "completed": 0, "total": 1, "step": None, "message": None, "updated_at": None},
    "effect": "none", "revert": "none", "supported_verbs": ["cancel", "abort", "suspend"],
    "links": [{"rel": rel, "href": f"/v3/tasks/0198c1f0-7b00-7000-8000-000000000001/{rel}"} for rel in "abcde"],
}  # fmt: skip


class Asked(msgspec.Struct):
    task: str
    resource: dict[str, str | None]
    params: dict[str, Any] = {}


@post("/tasks", status_code=202)
async def accept(data: Asked) -> dict[str, Any]:
    return {"task": TASK}


@get("/task")
async def one() -> dict[str, Any]:
    return {"task": TASK}


app = Litestar([accept, one], openapi_config=None)

if __name__ == "__main__":
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it an answer takes 40 ms.
    config = uvicorn.Config(app, http=protocol(Settings.load()), log_level="warning", access_log=False)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run([listener])
