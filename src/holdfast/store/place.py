"""Where a database is: its URL, taken apart, and as it may be shown.

sqlite:///FILE    sqlite:////ABSOLUTE/FILE    sqlite:///:memory:
postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require …     whatever libpq understands, and
    direct=HOST:PORT    where the server itself is, if HOST:PORT before is a pooler of connections
"""

from __future__ import annotations

import os
import re
from typing import Final

from holdfast.errors import DatabaseUrlInvalid

MEMORY: Final = ":memory:"
_POSTGRESQL: Final = ("postgresql", "postgres")
_USER: Final = re.compile(r"(?<=://)([^/?#@:]*):[^/?#]*@")  # a password may hold an @, if somebody forgot to quote it
_DIRECT: Final = re.compile(r"([?&])direct=([^&#]*)")
_HOST: Final = re.compile(r"(?:\[([^]]+)\]|([^:\[\]]+))(?::(\d+))?")
_SECRETS: Final = re.compile(r"((?:password|sslpassword|passfile)=)[^&]*")


def is_postgresql(url: str) -> bool:
    return url.partition("://")[0] in _POSTGRESQL


def redacted(url: str) -> str:
    """The URL without what nobody is to read."""
    return _SECRETS.sub(r"\1***", _USER.sub(r"\1:***@", url))


def without_direct(url: str) -> tuple[str, dict[str, str] | None]:
    """The URL as libpq understands it, and what is another past the pooler that it names; None: it says nothing."""
    found = _DIRECT.search(url)
    if found is None:
        return url, None
    from urllib.parse import unquote

    places = [_HOST.fullmatch(each) for each in unquote(found[2]).split(",")]
    if not all(places):
        raise DatabaseUrlInvalid(f"{redacted(url)!r} can't be used: direct=HOST:PORT, or several with commas between")
    hosts = [(each[1] or each[2]) for each in places if each]
    ports = [(each[3] or "5432") for each in places if each]
    rest = url[: found.start()] + (found[1] + url[found.end() :].lstrip("&") if url[found.end() :] else "")
    return rest, {"host": ",".join(hosts), "port": ",".join(ports)}


def sqlite_path(url: str) -> str:
    """The file that `sqlite:///FILE` names, or `:memory:`. Raises DatabaseUrlInvalid."""
    scheme, separator, path = url.partition("://")
    if scheme != "sqlite" or not separator:
        raise DatabaseUrlInvalid(
            f"{redacted(url)!r} can't be used: sqlite:///FILE, sqlite:////ABSOLUTE/FILE, sqlite:///:memory: or"
            " postgresql://USER@HOST/DATABASE"
        )
    if path in ("", "/", "/:memory:"):
        return MEMORY
    if not path.startswith("/") or "?" in path or "\0" in path:
        raise DatabaseUrlInvalid(f"{url!r} can't be used: sqlite:///FILE or sqlite:////ABSOLUTE/FILE, with no options")
    return path[1:]


def lock_prefix(url: str, generation: str) -> str | None:
    """What the files begin with by which processes of one host tell each other that they live; None: there are none.
    Beside a file; for a server, in memory, where nobody tidies up. Their directory is made."""
    if not is_postgresql(url):
        path = sqlite_path(url)
        return None if path == MEMORY else path
    from tempfile import gettempdir

    directory = os.path.join("/dev/shm" if os.access("/dev/shm", os.W_OK) else gettempdir(), f"holdfast-{os.getuid()}")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError:
        return None  # a dead worker of this host is then found when its lease has run out, as one of another host
    return os.path.join(directory, generation)
