"""Any `concurrent.futures.Executor` may run the steps: here a pool of processes; 18_dask_cluster.py has a whole
cluster. What runs elsewhere is found by the flow's place, so the flow is a variable and the script has a `__main__`."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import holdfast as hf


@hf.step(provides="numbers")
def read_numbers(upto: int) -> list[int]:
    return list(range(2, upto + 1))


@hf.step(provides="divisors")
def count_divisors(number: int) -> tuple[int, bool]:
    count = sum(number % divisor == 0 for divisor in range(1, number + 1))
    return count, os.getpid() == int(os.environ["STARTED_BY"])


@hf.step(provides="primes")
def select(numbers: list[int], found: list[tuple[int, bool]]) -> list[int]:
    return [number for number, (count, _here) in zip(numbers, found, strict=True) if count == 2]


every = hf.map("every", count_divisors, over="numbers", item="number", provides="found")
sieve = hf.linear("sieve", read_numbers, every, select)

if __name__ == "__main__":
    os.environ["STARTED_BY"] = str(os.getpid())
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
        outcome = hf.run(sieve, {"upto": 20}, runtime=pool)
    print(outcome.state, outcome.results["primes"])
    print("in this process:", any(here for _count, here in outcome.results["found"]))
