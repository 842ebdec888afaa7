"""`agent=`: which pool of agents runs a step."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.errors import FlowError
from holdfast.flow.options import fields_of


@hf.step(agent="hv-{host}")
def make(host: str) -> str:
    return host


def test_a_step_runs_where_it_is_called_in_memory() -> None:
    assert hf.run(hf.linear("making", make), {"host": "7"}).state == "SUCCEEDED"


def test_a_pool_is_named_by_parameters_of_the_step() -> None:
    assert fields_of("hv-{host}-{rack}") == ["host", "rack"]
    assert make.with_options(agent=None).agent is None
    assert make.with_options(agent="all").agent == "all"


@pytest.mark.parametrize("agent", ["", "hv-{rack}", "hv-{", "hv-{0}", "hv\n", 7])
def test_what_no_pool_can_be_called_is_refused(agent: object) -> None:
    with pytest.raises(FlowError, match="agent="):
        make.with_options(agent=agent)  # type: ignore[arg-type]


def test_a_class_says_it_too() -> None:
    class Make(hf.Step):
        agent = "hv-{host}"

        def execute(self, host: str) -> str:
            return host

    assert Make().agent == "hv-{host}"
    with pytest.raises(FlowError, match="rack"):

        class Wrong(hf.Step):
            agent = "hv-{rack}"

            def execute(self, host: str) -> str:
                return host


def test_a_step_that_makes_a_child_task_is_no_agents() -> None:
    with pytest.raises(FlowError, match="no option 'agent'"):
        hf.child("inner", hf.linear("making", make)).with_options(agent="hv1")
