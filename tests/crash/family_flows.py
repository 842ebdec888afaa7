"""Flows with children, whose steps tell the witness of the other flows of this package."""

from __future__ import annotations

import holdfast as hf
from tests.crash.flows import boom, named, polled

leaf = hf.linear("leaf", *named("x", "y"))
slow_leaf = hf.linear("slow_leaf", *named("x"), polled)
bad_leaf = hf.linear("bad_leaf", *named("x"), boom)
middle = hf.linear("middle", *named("m"), hf.child("leaf", leaf), *named("n"))
bad_middle = hf.linear("bad_middle", *named("m"), hf.child("leaf", leaf), hf.child("bad", bad_leaf))

one = hf.linear("one", *named("a"), hf.child("leaf", leaf), *named("b"))
two = hf.linear("two", hf.unordered("both", hf.child("left", leaf), hf.child("right", slow_leaf)), *named("b"))
nested = hf.linear("nested", hf.child("middle", middle), *named("b"))
back_one = hf.linear("back_one", *named("a"), hf.child("leaf", leaf), boom)
back_two = hf.linear("back_two", *named("a"), hf.unordered("both", hf.child("left", leaf), hf.child("right", bad_leaf)))
back_nested = hf.linear("back_nested", *named("a"), hf.child("middle", middle), hf.child("bad", bad_middle))
tried = hf.linear("tried", hf.child("bad", bad_leaf, retry=hf.Retry(attempts=2, backoff_s=0.02)))

FORWARD = (one, two, nested)
BACKWARD = (back_one, back_two, back_nested, tried)
