"""A list known only at run time: `hf.map` runs its body once for each value, here two at a time. Results come in the
order of the list, whichever ended first; when one element fails, the others are undone."""

from __future__ import annotations

import threading

import holdfast as hf

made: list[str] = []
guard = threading.Lock()


@hf.step(provides="sizes")
def read_order(order: str) -> list[int]:
    return [int(word) for word in order.split("+")]


@hf.step(provides="volume")
def make_volume(size_gib: int) -> str:
    if size_gib > 100:
        raise ValueError(f"{size_gib} GiB is more than the quota")
    volume = f"volume of {size_gib} GiB"
    with guard:
        made.append(volume)
    return volume


@make_volume.revert
def delete_volume(size_gib: int, volume: str | None = None) -> None:
    if volume is not None:
        with guard:
            made.remove(volume)


volumes = hf.map("volumes", make_volume, over="sizes", item="size_gib", provides="volumes", at_once=2)
build = hf.linear("build", read_order, volumes)

if __name__ == "__main__":
    for order in ("10+20+30", "10+500"):
        made.clear()
        outcome = hf.run(build, {"order": order}, runtime="threads")
        print(order, outcome.state, outcome.results.get("volumes"))
        print("  left behind:", sorted(made))
    print([step.id for step in outcome.steps])
