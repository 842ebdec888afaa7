"""The service from Python: `connect(url)` blocks, `connect_async(url)` is awaited. Both can be asked the same.

Every request that makes a task carries a tag of its own, the same however often it has to be sent: a lost answer
makes no second task. Nothing is loaded before one of them is called; they need `pip install 'holdfast[client]'`.

What can be asked: surface.py. How: protocol.py. The database without a service: `holdfast.open`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.client.aio import AsyncClient
    from holdfast.client.client import Client
    from holdfast.client.patience import Patience


def connect(
    url: str,
    *,
    token: str | None = None,
    project: str | None = None,
    user: str | None = None,
    roles: str | None = None,
    patience: Patience | None = None,
    verify: Any = True,
) -> Client:
    """A client of the service at that address, as http://127.0.0.1:8760. Nothing is asked of it yet.

    token: who asks. project, user, roles: for a service that takes them from headers, as one without identity does.
    patience: how long a request is tried. verify: as httpx takes it, for https. Raises: UsageError.
    """
    from holdfast.client.client import Client

    return Client(_options(url, token, project, user, roles, patience, verify))


def connect_async(
    url: str,
    *,
    token: str | None = None,
    project: str | None = None,
    user: str | None = None,
    roles: str | None = None,
    patience: Patience | None = None,
    verify: Any = True,
) -> AsyncClient:
    """The same, for coroutines: `async with connect_async(url) as client: await client.tasks.show(id)`."""
    from holdfast.client.aio import AsyncClient

    return AsyncClient(_options(url, token, project, user, roles, patience, verify))


def _options(
    url: str, token: str | None, project: str | None, user: str | None, roles: str | None, patience: Patience | None,
    verify: Any,
) -> Any:  # fmt: skip
    from holdfast.client.patience import Patience
    from holdfast.client.shell import Options

    return Options(url, token, project, user, roles, patience or Patience(), verify)


__all__ = ["connect", "connect_async"]
