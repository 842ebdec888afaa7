"""Five minutes of soak, with everything at random: TEST_SOAK_S is for how long on each database, TEST_SEED repeats the
draws. They come first, so that the other process of the suite does the rest meanwhile (conftest.py).

A long one is `make chaos MINUTES=60`.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from chaos.run import Given, soak

SECONDS = float(os.environ.get("TEST_SOAK_S", "150"))
SEED = int(os.environ.get("TEST_SEED", random.SystemRandom().randrange(1 << 32)))


@pytest.mark.timeout(SECONDS * 2 + 900)
@pytest.mark.requirement(
    "TF-12", "NOVA-18", "NEUTRON-9", "TAG-13", "P1", "P2", "P9", "P10", "P12", "G1", "G3", "G5", "G7"
)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_whatever_fails_no_guarantee_is_broken(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="hf-soak-"))  # a short name: PostgreSQL's socket is in it
    held = soak(directory, SEED, SECONDS, Given(database, rate=2.0))
    said = capsys.readouterr().out
    assert held, f"seed {SEED}, in {directory}:\n{said}"
    assert "rule: exclusion                      held" in said
    assert re.search(r"[1-9]\d* by agents$", said, re.MULTILINE), said
    faults = [int(number) for number in re.findall(r"^fault: .* (\d+)$", said, re.MULTILINE)]
    assert sum(faults) > SECONDS / 10, f"hardly anything failed, so little was shown:\n{said}"
    shutil.rmtree(directory)
