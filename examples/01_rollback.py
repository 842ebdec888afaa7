"""A flow whose last step fails: what was done is undone, in reverse order, the failing step first."""

from __future__ import annotations

import holdfast as hf


@hf.step(provides="port")
def make_port(network: str) -> str:
    print(f"make a port on {network}")
    return f"{network}-port-1"


@make_port.revert
def drop_port(port: str | None = None) -> None:  # None: it was interrupted before it could say what it made
    print(f"drop {port}")


@hf.step(provides="disk")
def make_disk(size_gib: int) -> str:
    print(f"make a disk of {size_gib} GiB")
    return "disk-1"


@make_disk.revert
def drop_disk(disk: str | None = None) -> None:
    print(f"drop {disk}")


@hf.step
def boot(port: str, disk: str) -> None:
    print(f"boot from {disk}, connected by {port}")
    raise RuntimeError("no hypervisor has room")


@boot.revert
def power_off() -> None:
    print("power off whatever booted of it")


build = hf.linear("build", make_port, make_disk, boot)

if __name__ == "__main__":
    outcome = hf.run(build, {"network": "public", "size_gib": 20})
    print()
    print(outcome.state)
    for line in outcome.trace:
        print(f"  {line}")
