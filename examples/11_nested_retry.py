"""Retries in retries. A step's own retry comes first; when it is spent, the flow around it undoes what it did and
tries again as a whole; when that is spent too, everything is undone. `ctx.idempotency_key` is the same for every try
of a step, until its revert has begun: what was undone is made anew, under a new key."""

from __future__ import annotations

import holdfast as hf

keys: list[str] = []
tries = 0


@hf.step
def open_account() -> None:
    print("open an account")


@open_account.revert
def close_account() -> None:
    print("close the account")


@hf.step
def make_server(ctx: hf.Context) -> None:
    if ctx.idempotency_key not in keys:
        keys.append(ctx.idempotency_key)
    print(f"  make server {keys.index(ctx.idempotency_key) + 1}")


@make_server.revert
def drop_server(ctx: hf.Context) -> None:
    print(f"  drop server {keys.index(ctx.forward_key) + 1}")


@hf.step(retry=hf.Retry(attempts=2))
def ping(ctx: hf.Context, answers_at: int) -> None:
    global tries
    tries += 1
    print(f"    ping, attempt {ctx.attempt}")
    if tries < answers_at:
        raise TimeoutError("no answer")


server = hf.linear("server", make_server, ping, retry=hf.Retry(attempts=2))
customer = hf.linear("customer", open_account, server)

if __name__ == "__main__":
    for answers_at in (3, 9):
        tries = 0
        keys.clear()
        print(hf.run(customer, {"answers_at": answers_at}).state)
