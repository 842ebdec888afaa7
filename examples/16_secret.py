"""Secrets: sealed in the database, shown nowhere, and given back only by `reveal()`. Needs `holdfast[secrets]`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import holdfast as hf
from holdfast.seal import new_key


@hf.step(provides="token")
def log_in(user: str, password: hf.Secret) -> hf.Secret:
    print(f"log in as {user} with {password}")
    return hf.Secret(f"token of {user}, who knows {password.reveal()}")


@hf.step
def change_name(token: hf.Secret) -> None:
    print("the step has", token.reveal())
    raise PermissionError(f"{token} may not do this")


rename = hf.linear("rename", log_in, change_name)

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.db"
        with hf.open(f"sqlite:///{path}", secret_key=new_key()) as hold:
            task = hold.submit(rename, {"user": "ada", "password": hf.Secret("open sesame")})
            hold.work(until_idle=True)
            print(task.state, task.failure and task.failure.summary)
            print("shown:", json.dumps(task.view()["params"]))
        stored = b"".join(file.read_bytes() for file in Path(folder).iterdir())
        print("in the files:", b"open sesame" in stored)
