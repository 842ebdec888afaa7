"""Values flow by name: a parameter is what a step requires, `provides` what it gives. Mistakes are found before a
step has run, and the sentence names the place."""

from __future__ import annotations

import holdfast as hf


@hf.step(provides=("first", "last"))
def split(name: str) -> tuple[str, str]:
    first, last = name.split()
    return first, last


@hf.step(provides="address")
def make_address(first: str, last: str, domain: str = "example.org") -> str:
    return f"{first}.{last}@{domain}".lower()


@hf.step(provides="letter")
def write(address: str, first: str, greeting: str) -> str:
    return f"To {address}: {greeting} {first}!"


# bind= renames what a step requires, inject= fixes it.
welcome = hf.linear("welcome", split, make_address, write.with_options(inject={"greeting": "Welcome,"}))
by_last_name = hf.linear(
    "by_last_name",
    split,
    make_address,
    write.with_options(bind={"first": "last"}, inject={"greeting": "Dear"}),
)

if __name__ == "__main__":
    print(hf.run(welcome, {"name": "Ada Lovelace"}).results["letter"])
    print(hf.run(welcome, {"name": "Ada Lovelace", "domain": "analytical.engine"}).results["address"])
    print(hf.run(by_last_name, {"name": "Ada Lovelace"}).results["letter"])
    try:
        hf.run(hf.linear("too_early", make_address, split), {"name": "Ada Lovelace"})
    except hf.HoldfastError as mistake:
        print(f"{type(mistake).__name__}: {mistake}")
