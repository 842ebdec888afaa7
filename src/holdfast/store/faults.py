"""SQLite's errors as Holdfast's, each in one sentence that says what to do."""

from __future__ import annotations

import sqlite3
from typing import Final

from holdfast.errors import StoreBusy, StoreCorrupt, StoreFull, StoreUnwritable, UsageError
from holdfast.store.base import Conflict

# Primary result codes (sqlite.org/rescode.html); the extended ones keep them in their low byte.
PERM: Final = 3
BUSY: Final = 5
LOCKED: Final = 6
READONLY: Final = 8
IOERR: Final = 10
CORRUPT: Final = 11
FULL: Final = 13
CANTOPEN: Final = 14
CONSTRAINT: Final = 19
NOTADB: Final = 26

READ_ONLY: Final = "a read changes nothing: use write() for that"


def translate(error: Exception, path: str) -> Exception:
    """Ours, caused by the driver's; an error that is not the driver's comes back as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    told = _told(code & 0xFF, error, path)
    if told is None:
        return error
    told.__cause__ = error
    return told


def _told(code: int, error: sqlite3.Error, path: str) -> Exception | None:
    if code in (BUSY, LOCKED):
        return StoreBusy(f"{path} is locked by another program: try again, or see `holdfast doctor`")
    if code == FULL:
        return StoreFull(f"the disk is full under {path}: make room and go on; nothing acknowledged was lost")
    if code in (CORRUPT, NOTADB):
        return StoreCorrupt(f"{path} is not a sound database ({error}): restore it from a copy")
    if code == CANTOPEN:
        return StoreUnwritable(f"{path} can't be opened: check that its directory exists and may be written")
    if code in (READONLY, PERM):
        return StoreUnwritable(f"{path} can't be written: check the permissions of the file and of its directory")
    if code == IOERR:
        name = getattr(error, "sqlite_errorname", "SQLITE_IOERR")
        return StoreUnwritable(
            f"the disk under {path} fails ({name}): mend it and start again; nothing acknowledged is lost"
        )
    if code == CONSTRAINT:
        return Conflict(f"a row breaks a constraint of the schema: {error}")
    return None


def translate_reading(error: Exception, path: str) -> Exception:
    """As `translate`, on a connection that may only read."""
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == READONLY:
        told = UsageError(READ_ONLY)
        told.__cause__ = error
        return told
    return translate(error, path)
