"""A flow for schedules: it tells the witness which moment it is for."""

from __future__ import annotations

from datetime import datetime

import holdfast as hf
from tests.worker.house import tell


@hf.step
def mark(ctx: hf.Context, at: str, scheduled_at: datetime) -> None:
    tell(at, ctx, "mark", scheduled_at.timestamp())


@hf.step
def begin(ctx: hf.Context, at: str, number: int) -> None:
    tell(at, ctx, "begin", number)
