"""Histories of many machines: workers and API servers that lose sight of their database, with clocks of their own."""

from __future__ import annotations

import os

import pytest

from holdfast.testing.simulate import Simulator, main

SEEDS = int(os.environ.get("HOLDFAST_TEST_CLUSTER_SEEDS", "24"))
BLOCKS = 4  # for the workers of pytest to share


@pytest.mark.requirement("NOVA-17", "NEUTRON-7", "TAG-14", "TF-12", "TF-15", "G1", "G2", "G3", "G4", "G5", "G7", "G9")
@pytest.mark.parametrize("block", range(BLOCKS))
def test_what_must_hold_holds_in_every_history(block: int) -> None:
    size = SEEDS // BLOCKS
    broken = Simulator("cluster").first_broken(range(block * size, (block + 1) * size))
    assert broken is None, broken.report()


def test_a_seed_gives_the_same_history_every_time() -> None:
    simulator = Simulator("cluster")
    for seed in range(2):
        first = simulator.run(seed, every_line=True)
        assert simulator.run(seed, every_line=True) == first
        assert Simulator("cluster").run(seed, every_line=True) == first


def test_the_storm_is_one() -> None:
    """Each kind of misfortune happens, and to histories that are worth it."""
    simulator = Simulator("cluster")
    histories = [simulator.run(seed) for seed in range(12)]
    for kind in ("kill", "freeze", "fuse", "commit", "cut", "away", "clock", "pause", "leave", "lost", "verbs"):
        assert sum(history.happened[kind] for history in histories) >= 5, kind
    for kind in ("heard", "fired", "children", "replanned", "asked again", "events"):
        assert sum(history.happened[kind] for history in histories) >= 5, kind


def test_the_command_says_how_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--world", "cluster", "--seeds", "2", "--first", "7"]) == 0
    assert "cluster: 2 seeds" in capsys.readouterr().out
    assert main(["--world", "cluster", "--seed", "7", "--trace"]) == 0
    said = capsys.readouterr().out
    assert "w1.1 starts" in said
    assert "api1.1 starts" in said
