"""A step that must not run twice, and a worker that dies in the middle of it: nobody knows whether the money was sent.
The task rests as SUSPENDED until a person has looked and says what is true. Nothing was repeated, nothing guessed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import holdfast as hf
from holdfast.errors import AnswerNeeded


@hf.step(provides="receipt", on_interrupt="suspend")  # at most once
def send_money(amount: int) -> str:
    print(f"send {amount}", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return "never reached"


@hf.step
def write_letter(receipt: str) -> None:
    print(f"we have paid: {receipt}", flush=True)


pay = hf.linear("pay", send_money, write_letter)

if __name__ == "__main__":
    if len(sys.argv) == 2:
        with hf.open(sys.argv[1]) as hold:
            hold.work(until_idle=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'tasks.db'}"
            with hf.open(url) as hold:
                task = hold.submit(pay, {"amount": 100})
                subprocess.run([sys.executable, __file__, url])
                hold.work(until_idle=True)
                print(task.state, task.reason, flush=True)
                try:
                    task.resume()
                except AnswerNeeded as refusal:
                    print("steps:", refusal.details["steps"], "answers:", refusal.details["words"], flush=True)
                task.resume({"pay/send_money": ("done", "receipt 4711")})  # somebody has asked the bank
                hold.work(until_idle=True)
                print(task.state, task.results)
