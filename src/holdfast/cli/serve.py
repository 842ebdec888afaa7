"""`holdfast serve`: the service, with a worker beside it, until told to stop. What it does: service/serve.py."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from holdfast.cli import exits, options
from holdfast.cli.leaving import Leaving
from holdfast.cli.options import DatabaseOption, FlowsOption, RuntimeOption


def serve(
    database: DatabaseOption = None,
    flows: FlowsOption = None,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="PORT", help="0: one that is free.")] = None,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="WORD", help="Who asks: none, tokens, keystone-proxy or oidc."),
    ] = None,
    tokens_file: Annotated[
        str | None, typer.Option("--tokens-file", metavar="FILE", help="With --identity tokens: who has which token.")
    ] = None,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Do the tasks of this pool.")] = None,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Do the tasks too, or only serve.")] = True,
    runtime: RuntimeOption = "threads",
) -> int:
    """Serve the tasks of a database over HTTP, and do them.

    \b
    holdfast serve                                           on http://127.0.0.1:8760, for this machine only
    holdfast serve --database sqlite:///tasks.db --flows cloud.flows:make_flows
    holdfast serve --host 0.0.0.0 --identity tokens --tokens-file tokens.json
    holdfast serve --no-worker                               workers elsewhere do them: `holdfast worker`

    Without identity it listens on this machine alone, and everybody on it is an administrator.
    SIGTERM or Ctrl-C: answer what is asked and end streams, within HOLDFAST_STOP_S; ask running steps to stop at a
    safe point, within HOLDFAST_GRACE_S; hand the tasks over, leave. A second one leaves at once, and nothing that was
    accepted is lost.
    """
    from holdfast.service import logs
    from holdfast.service.serve import Serving, raise_file_limit, settle

    given = {"host": host, "port": port, "pool": pool, "identity": identity, "tokens_file": tokens_file}
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with options.opened(database, create=True, flows=flows, kinds=True, **known) as hold:
        said = raise_file_limit(hold.settings.connections_max)
        if said:
            print(f"holdfast: {said}", file=sys.stderr)
        serving = Serving(hold, worker=worker, runtime=runtime)
        logs.set_up(hold.settings, worker=lambda: serving.worker_id)
        leaving = Leaving()
        serving.ended = leaving.wake
        serving.start()
        settle()
        if not _is_one_terminal():
            print(f"holdfast: {serving.url}", flush=True)  # for programs that let it choose the port
        print(f"serving {hold.shown} on {serving.url}", file=sys.stderr, flush=True)
        leaving.wait()
        serving.stop()
        serving.raise_error()
    return exits.OK


def _is_one_terminal() -> bool:
    """Whether what is written to both ends before the same eyes."""
    return os.isatty(1) and os.isatty(2) and os.ttyname(1) == os.ttyname(2)
