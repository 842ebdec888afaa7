"""The version of Ironic's API that a client speaks, which it says in a header of its own; and how it is told of errors.

What is served does not depend on it: everything that a client may find here is there in every version that it may ask
for. It is negotiated because clients do: they ask for the newest that they know, are told which there are, and take
that. Only what is below /v1 has it (app.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from holdfast.service.problems import RequestInvalid, VersionUnsupported

PREFIX: Final = "/v1"
MIN: Final = (1, 1)
#: The first that has the history of a node, which is the youngest part of what is served.
MAX: Final = (1, 78)
NAME: Final = "X-OpenStack-Ironic-API-Version"
_VERSION: Final = re.compile(r"^(\d{1,4})\.(\d{1,4})$")


def dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


RANGE: Final = (
    ("X-OpenStack-Ironic-API-Minimum-Version", dotted(MIN)),
    ("X-OpenStack-Ironic-API-Maximum-Version", dotted(MAX)),
    ("Vary", NAME),
)


def is_spoken_at(path: str) -> bool:
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def negotiated(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """The headers of the answer. Raises: RequestInvalid, VersionUnsupported, which have the range in theirs."""
    given = headers.get(NAME.lower(), dotted(MIN)).strip()
    if given.lower() == "latest":
        return [(NAME, dotted(MAX)), *RANGE]
    match = _VERSION.match(given)
    if match is None:
        raise RequestInvalid(f"{NAME} is a version, as {dotted(MAX)}, or latest, not {given[:40]!r}")
    version = int(match[1]), int(match[2])
    if not MIN <= version <= MAX:
        raise VersionUnsupported(
            f"version {dotted(version)} is not served: {dotted(MIN)} to {dotted(MAX)} are",
            min_version=dotted(MIN),
            max_version=dotted(MAX),
        )
    return [(NAME, dotted(version)), *RANGE]


def fault(status: int, detail: str) -> dict[str, Any]:
    """What a problem has besides, where Ironic's clients look for its sentence: JSON in JSON."""
    told = {"faultcode": "Client" if status < 500 else "Server", "faultstring": detail, "debuginfo": None}
    return {"error_message": json.dumps(told)}
