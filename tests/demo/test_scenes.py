"""The scenes of `make demo`, one by one, with the real command line, real processes and the real BMC process."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from demo import scenes
from demo.children import Children
from demo.program import play
from demo.show import Show

Prove = Callable[[scenes.Scene], str]


@pytest.fixture
def prove(tmp_path: Path) -> Prove:
    """Play a scene; what is not proved, with what the scene has shown."""

    def played(scene: scenes.Scene) -> str:
        text = io.StringIO()
        with Children() as children:
            different = play([scene], Show(Console(file=text, highlight=False, soft_wrap=True)), tmp_path, children)
        left = children.left()
        return text.getvalue() if different or left else ""

    return played


@pytest.mark.requirement("IRONIC-17")
def test_it_ends_well(prove: Prove) -> None:
    assert prove(scenes.it_ends_well) == ""


@pytest.mark.requirement("TF-16", "NOVA-14")
def test_kill_9_in_the_wait(prove: Prove) -> None:
    assert prove(scenes.kill_9_in_the_wait) == ""


@pytest.mark.requirement("IRONIC-1", "G6")
def test_cancel_in_the_wait(prove: Prove) -> None:
    assert prove(scenes.cancel_in_the_wait) == ""


@pytest.mark.requirement("TF-9")
def test_bmc_answers_with_errors(prove: Prove) -> None:
    assert prove(scenes.bmc_answers_with_errors) == ""


@pytest.mark.requirement("IRONIC-1")
def test_guest_ignores_soft_off(prove: Prove) -> None:
    assert prove(scenes.guest_ignores_soft_off) == ""
