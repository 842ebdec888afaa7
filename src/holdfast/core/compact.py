"""JSON without blanks, by an encoder that is kept.

json.JSONEncoder makes a C encoder for every text, which takes longer than to write a small document with it.
How values are kept exactly: core/values.py.
"""

from __future__ import annotations

import json.encoder
from collections.abc import Callable
from typing import Any


def writer(*, ascii: bool = False, nan: bool = True) -> Callable[[Any], str]:
    """What writes plain data as text, as json.dumps does. `ascii`: the text is ASCII. `nan`: numbers that JSON lacks
    are written all the same, else they raise ValueError. Data that contains itself raises RecursionError."""
    whole = json.JSONEncoder(ensure_ascii=ascii, allow_nan=nan, check_circular=False, separators=(",", ":"))
    make: Any = json.encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:  # an interpreter without it
        return whole.encode
    quote: Any = json.encoder.encode_basestring_ascii if ascii else json.encoder.encode_basestring
    parts = make(None, whole.default, quote, None, ":", ",", False, False, nan)
    join = "".join
    return lambda data: join(parts(data, 0))
