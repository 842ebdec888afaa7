"""Two thousand histories in which everything goes wrong that can, and nothing that may not."""

from __future__ import annotations

import os

import pytest

from holdfast.testing.simulate import Simulator, main

SEEDS = int(os.environ.get("HOLDFAST_TEST_SEEDS", "2000"))
BLOCKS = 16  # for the workers of pytest to share


@pytest.mark.requirement("TF-12", "G1", "G2", "G3", "G4", "G5", "G7")
@pytest.mark.parametrize("block", range(BLOCKS))
def test_what_must_hold_holds_in_every_history(block: int) -> None:
    size = SEEDS // BLOCKS
    broken = Simulator().first_broken(range(block * size, (block + 1) * size))
    assert broken is None, broken.report()


def test_a_seed_gives_the_same_history_every_time() -> None:
    simulator = Simulator()
    for seed in range(20):
        first = simulator.run(seed, every_line=True)
        assert simulator.run(seed, every_line=True) == first
        assert Simulator().run(seed, every_line=True) == first


def test_the_storm_is_one() -> None:
    """Each kind of misfortune happens, and to histories that are worth it."""
    simulator = Simulator()
    histories = [simulator.run(seed) for seed in range(96)]
    for kind in ("kill", "power", "freeze", "fuse", "commit", "pause", "leave", "lost", "orphans", "verbs"):
        assert sum(history.happened[kind] for history in histories) >= 10, kind
    assert sum(history.happened["events"] for history in histories) / len(histories) >= 100


def test_the_command_says_how_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "5", "--first", "7"]) == 0
    assert "5 seeds" in capsys.readouterr().out
    assert main(["--seed", "7", "--trace"]) == 0
    said = capsys.readouterr().out
    assert "w1.1 starts" in said
    assert "seed 7: " in said
