"""What a Redfish BMC's process and those who watch it agree on: how a file is put, and what a machine is called.

Kept apart from redfish_device.py so that the watchers need not load the emulator.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

_NODES = uuid.UUID("6d0e1f5e-3a35-4f0c-9a8b-0c4c7a0f2b11")


def system_id(node: str) -> str:
    """The Redfish id of a node: the same in every process, so that nobody has to ask."""
    return str(uuid.uuid5(_NODES, node))


def put(path: Path, text: str) -> None:
    """Write a small file whole: who reads it sees the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
