"""JSON data as one text, whoever wrote it: RFC 8785, with whole numbers kept to their last digit.

For fingerprints: two requests are the same if these texts are.
"""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import Any


def canonical(data: Any) -> str:
    """Data as a JSON decoder gives it. Raises: ValueError: a number that JSON has not."""
    parts: list[str] = []
    _write(data, parts)
    return "".join(parts)


def whole(data: Any) -> Any:
    """The same data, with whole numbers as such: 1.0 is one in JSON."""
    if isinstance(data, float) and data.is_integer():
        return int(data)
    if isinstance(data, dict):
        return {key: whole(value) for key, value in data.items()}
    return [whole(value) for value in data] if isinstance(data, list) else data


def _write(data: Any, parts: list[str]) -> None:
    if data is None or isinstance(data, bool):
        parts.append("null" if data is None else "true" if data else "false")
    elif isinstance(data, str):
        parts.append(_text(data))
    elif isinstance(data, int):
        parts.append(str(data))
    elif isinstance(data, float):
        parts.append(number(data))
    elif isinstance(data, dict):
        between = "{"
        for key in sorted(data, key=_code_units):
            parts += (between, _text(key), ":")
            _write(data[key], parts)
            between = ","
        parts.append("{}" if between == "{" else "}")
    else:
        between = "["
        for item in data:
            parts.append(between)
            _write(item, parts)
            between = ","
        parts.append("[]" if between == "[" else "]")


def _text(text: str) -> str:
    """§3.2.2.2: the short escapes, \\u00xx in lower case for other controls, everything else as it is."""
    return encode_basestring(text)


def _code_units(key: str) -> bytes:
    """§3.2.3: keys are sorted by their UTF-16 code units."""
    return key.encode("utf-16-be", "surrogatepass")


def number(value: float) -> str:
    """§3.2.2.3: as ECMAScript writes a number (ECMA-262, Number::toString)."""
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{value} is no JSON number")
    if value == 0:
        return "0"
    if value < 0:
        return f"-{number(-value)}"
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))  # where it stands in `digits`
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    power = point - 1
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e{'+' if power > 0 else '-'}{abs(power)}"
