"""Trying again: one step by itself, and a whole flow once for each value of a list, undone in between."""

from __future__ import annotations

import holdfast as hf


@hf.step(provides="quota", retry=hf.Retry(attempts=3, backoff_s=0.01, on=(ConnectionError,)))
def ask_quota(ctx: hf.Context) -> int:
    print(f"ask for the quota, attempt {ctx.attempt}")
    if ctx.attempt < 3:
        raise ConnectionError("the service restarts")
    return 10


@hf.step(provides="server")
def make_server(zone: str, quota: int) -> str:
    print(f"make a server in {zone}")
    return f"server in {zone}"


@make_server.revert
def drop_server(server: str | None = None) -> None:
    print(f"drop the {server}")


@hf.step
def attach_disk(zone: str) -> None:
    if zone != "zone-c":
        raise LookupError(f"no disks left in {zone}")
    print(f"attach a disk in {zone}")


in_some_zone = hf.linear("in_some_zone", make_server, attach_disk, retry=hf.Retry(over="zones", item="zone"))
build = hf.linear("build", ask_quota, in_some_zone)

if __name__ == "__main__":
    outcome = hf.run(build, {"zones": ["zone-a", "zone-b", "zone-c"]})
    print(outcome.state, "with a", outcome.results["server"])
