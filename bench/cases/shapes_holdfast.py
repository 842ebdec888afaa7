"""Holdfast in memory, inline: flows of one shape and any size; built, compiled and run by `hf.run`.

The clock covers all three. `--warm` steps of the same shape are run before: ten load what is loaded late; a thousand
also let the interpreter specialise its bytecode, so that a small size is not flattered against a large one, nor the
other way round.
"""

from __future__ import annotations

import argparse
import functools
import random

import holdfast as hf
from bench.cases.report import Stopwatch, peak_bytes, report

undone = 0


@hf.step
def noop() -> None:
    return None


@hf.step
def undoable() -> None:
    return None


@undoable.revert
def undo() -> None:
    global undone
    undone += 1


@hf.step
def boom() -> None:
    raise ValueError("boom")


@hf.step
def source() -> int:
    return 1


@hf.step
def chain(a: int) -> int:
    return a


@hf.step
def join(a: int, b: int) -> int:
    return a ^ b


def linear(steps: int) -> None:
    flow = hf.linear("linear", *(noop.with_options(name=f"step{number}") for number in range(steps)))
    expect(hf.run(flow), "SUCCEEDED")


def unordered(steps: int) -> None:
    flow = hf.unordered("unordered", *(noop.with_options(name=f"step{number}") for number in range(steps)))
    expect(hf.run(flow), "SUCCEEDED")


@functools.cache
def edges(steps: int) -> list[tuple[int, int]]:
    """Two earlier steps for each, drawn from a seed; the first two have too few, and theirs are not used."""
    chance = random.Random(20)
    drawn = [(0, 0), (0, 0)]
    for number in range(2, steps):
        a, b = chance.sample(range(number), 2)
        drawn.append((a, b))
    return drawn


def graph(steps: int) -> None:
    """A random graph, the same at every run: each step takes what two earlier ones gave."""
    members: list[hf.Step] = [
        source.with_options(name="step0", provides="v0"),
        chain.with_options(name="step1", provides="v1", bind={"a": "v0"}),
    ]
    for number, (a, b) in enumerate(edges(steps)[2:], 2):
        bind = {"a": f"v{a}", "b": f"v{b}"}
        members.append(join.with_options(name=f"step{number}", provides=f"v{number}", bind=bind))
    outcome = hf.run(hf.graph("graph", *members))
    expect(outcome, "SUCCEEDED")
    assert outcome.results[f"v{steps - 1}"] in (0, 1)


def barriers(steps: int) -> None:
    flow = hf.linear(
        "barriers",
        *(
            hf.unordered(f"wave{wave}", *(noop.with_options(name=f"step{number}") for number in range(10)))
            for wave in range(steps // 10)
        ),
    )
    expect(hf.run(flow), "SUCCEEDED")


def failure(steps: int) -> None:
    global undone
    undone = 0
    flow = hf.linear("failure", *(undoable.with_options(name=f"step{number}") for number in range(steps)), boom)
    expect(hf.run(flow), "FAILED")
    assert undone == steps, f"{undone} of {steps} steps undone"


def expect(outcome: hf.Outcome, state: str) -> None:
    assert outcome.state == state, outcome


SHAPES = {f.__name__: f for f in (linear, unordered, graph, barriers, failure)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warm", type=int, default=10)
    options = parser.parse_args()
    run = SHAPES[options.shape]
    edges(options.steps)
    run(options.warm)
    with Stopwatch() as watch:
        run(options.steps)
    report(steps=options.steps, wall_s=watch.wall_s, cpu_s=watch.cpu_s, peak_bytes=peak_bytes())
