"""Bodies: JSON as a Struct of msgspec, and what is wrong with one in words that say what is allowed."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.core.canonical import whole
from holdfast.resources.misfit import misfit
from holdfast.service.problems import RequestInvalid


def decode(raw: bytes, kind: Any) -> Any:
    """JSON as a Struct. Raises: RequestInvalid, which says what is allowed."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        if "got `float`" not in str(error):
            raise explained(error, kind) from None
        try:  # 1.0 is a whole number in JSON (RFC 8259 §6, JSON Schema §4.2.3)
            return msgspec.convert(whole(msgspec.json.decode(raw)), kind)
        except msgspec.ValidationError as again:
            raise explained(again, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestInvalid(f"the body is no JSON: {error}") from None
    except RecursionError:
        raise RequestInvalid("the body is nested too deeply") from None


def explained(error: msgspec.ValidationError, kind: Any) -> RequestInvalid:
    """The error in our words: where, what is wrong, and what is allowed there."""
    wrong = misfit(error, kind)
    at = f" at {wrong.place}" if wrong.place else ""
    detail = f"the body{at}: {wrong.said[:1].lower()}{wrong.said[1:]}"
    return RequestInvalid(detail, allowed=wrong.allowed) if wrong.allowed else RequestInvalid(detail)


def _names(kind: Any) -> list[str]:
    fields = getattr(kind, "__struct_encode_fields__", None)
    return list(fields) if fields else []


def fields_of(kind: Any) -> str:
    names = _names(kind)
    return f"a JSON object with {', '.join(names)}" if names else "a JSON object"
