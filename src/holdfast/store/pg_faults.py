"""PostgreSQL's errors as Holdfast's, each in one sentence that says what to do.

Those of SQLite: store/faults.py.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors

from holdfast.errors import (
    DatabaseUrlInvalid,
    StoreAway,
    StoreBusy,
    StoreCorrupt,
    StoreFull,
    StoreUnwritable,
    UsageError,
)
from holdfast.store.base import Conflict
from holdfast.store.faults import READ_ONLY

# SQLSTATEs, by code or by class (postgresql.org/docs/current/errcodes-appendix.html).
_AWAY: Final = ("08", "57P01", "57P02", "57P03", "57P05", "53300", "25P03", "25006")
_CONTENDED: Final = ("40001", "40P01", "55P03")
_FULL: Final = ("53100", "53200")
_CORRUPT: Final = ("XX001", "XX002")
_TEXT: Final = ("22021", "22P05")
_FORBIDDEN: Final = ("42501", "28", "3D000")


class Contended(StoreBusy):
    """Others held the locks for too long, or waited for ours."""


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or of no more use."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_AWAY)


def translate(error: Exception, shown: str) -> Exception:
    """Ours, caused by the driver's; an error that is not the driver's comes back as it is. `shown`: the database as it
    may be called to people."""
    if not isinstance(error, psycopg.Error):
        return error
    told = _told(error, shown)
    if told is None:
        return error
    told.__cause__ = error
    return told


def _told(error: psycopg.Error, shown: str) -> Exception | None:
    state = error.sqlstate or ""
    if is_lost(error):
        return away(error, shown)
    if state.startswith(_CONTENDED):
        return Contended(f"{shown} is busy ({_first(error)}): try again")
    if state == errors.QueryCanceled.sqlstate:
        return StoreBusy(f"{shown} took too long ({_first(error)}): try again, or see `holdfast doctor`")
    if state.startswith(_FULL):
        return StoreFull(f"the disk is full under {shown}: make room and go on; nothing acknowledged was lost")
    if state.startswith(_CORRUPT):
        return StoreCorrupt(f"{shown} is not a sound database ({_first(error)}): restore it from a copy")
    if state.startswith(_FORBIDDEN):
        return StoreUnwritable(f"{shown} can't be used ({_first(error)}): check the rights of its user")
    if isinstance(error, psycopg.DataError) and ("NUL" in str(error) or state.startswith(_TEXT)):
        return UsageError("a text holds a NUL, or is no text: PostgreSQL keeps none such")
    if isinstance(error, psycopg.IntegrityError):
        return Conflict(f"a row breaks a constraint of the schema: {_first(error)}")
    return None


def away(error: BaseException, shown: str) -> StoreAway:
    told = StoreAway(f"{shown} can't be reached ({_first(error)}): nothing was stored; try again when it is back")
    told.__cause__ = error
    return told


def translate_connecting(error: psycopg.Error, shown: str) -> Exception:
    """Of a first connection: a server that answers, and refuses, will not change its mind."""
    said = str(error)
    if any(words in said for words in ("does not exist", "authentication failed", "no password supplied", "no pg_hba")):
        told: Exception = DatabaseUrlInvalid(f"{shown} can't be used: {_first(error)}")
    elif isinstance(error, psycopg.ProgrammingError):
        told = DatabaseUrlInvalid(f"{shown} can't be used: {_first(error)}")
    else:
        told = away(error, shown)
    told.__cause__ = error
    return told


def translate_reading(error: psycopg.Error, shown: str) -> Exception:
    """As `translate`, on a connection that may only read."""
    if isinstance(error, errors.ReadOnlySqlTransaction):
        told = UsageError(READ_ONLY)
        told.__cause__ = error
        return told
    return translate(error, shown)


def _first(error: BaseException) -> str:
    """The line that says what is wrong; the last attempt of several."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Multiple")]
    return lines[0].removeprefix("connection failed: ") if lines else type(error).__name__
