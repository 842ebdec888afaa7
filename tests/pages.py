"""Runs the blocks of a page as a reader would, top to bottom, in the current directory: `python tests/pages.py PAGE`.

    ```python     runs in the one namespace of the page; one whose first line is `# name.py` is put in that file
    ```text       is what the python block before it prints
    ```console    `$ command` runs, and what follows is its output: `$ holdfast …`, `$ python …`, cat, touch;
                  `… &` runs in the background until it has printed what follows, `$ kill -9 %1` ends the first of these
                  that is left; `$ echo $?` is the exit code of the command before it; `$ export NAME=TEXT` and
                  `$ export NAME=$(command)` are for all commands after them

The ports of this machine that a page names (`127.0.0.1:8765`, `--port 6237`) are free ones in its blocks, so that two
who run it do not meet. In expected output a line `…` stands for any lines, and ids, times and addresses in memory are
all alike; so is whether a task that was just asked for has begun. Blocks in other languages (sh, toml, mermaid) are
only shown. A difference ends the page with exit code 1 and says where it is.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import socket
import subprocess
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^# (\w+\.py)\n")
ALIKE = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?\b"), "TIME"),
    (re.compile(r"^ *\d+\.\d{3} s  ", re.MULTILINE), "SECONDS  "),
    (re.compile(r"\b0x[0-9a-f]+\b"), "ADDRESS"),
    (re.compile(r"^(task ID .*is )RUNNING", re.MULTILINE), r"\1PENDING"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)


PORT = re.compile(r"(?:\b127\.0\.0\.1:|--port )(\d{4,5})\b")


class Block(NamedTuple):
    language: str
    text: str
    line: int


class Different(Exception):
    """What a page says is not what happens."""


def blocks(text: str) -> list[Block]:
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in FENCE.finditer(text)]


def on_free_ports(text: str) -> str:
    with contextlib.ExitStack() as taken:  # until all are found, so that no two are the same
        for port in sorted(set(PORT.findall(text))):
            text = re.sub(rf"\b{port}\b", str(free_port(taken)), text)
    return text


def free_port(taken: contextlib.ExitStack) -> int:
    """One that is free for TCP, and for UDP."""
    while True:
        stream, packets = (taken.enter_context(socket.socket(type=kind)) for kind in (SOCK_STREAM, SOCK_DGRAM))
        stream.bind(("127.0.0.1", 0))
        try:
            packets.bind(stream.getsockname())
        except OSError:
            continue
        return int(stream.getsockname()[1])


def alike(text: str) -> str:
    for pattern, word in ALIKE:
        text = pattern.sub(word, text)
    return text.strip("\n") + "\n"


def compare(said: str, real: str, place: str) -> None:
    parts = re.split(r"^ *…$\n?", alike(said), flags=re.MULTILINE)
    pattern = "(?s:.*)".join(re.escape(part) for part in parts)
    if not re.fullmatch(pattern, alike(real)):
        raise Different(f"{place}\n--- the page says\n{said}\n--- it is\n{real}")


class Page:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.module = types.ModuleType(f"{re.sub(r'[^a-z]', '_', path.stem.lower())}_page")
        sys.modules[self.module.__name__] = self.module  # flows are found in modules
        self.background: list[subprocess.Popen[str]] = []
        self.code = 0

    def run(self) -> None:
        every = blocks(on_free_ports(self.path.read_text(encoding="utf-8")))
        following = [*every[1:], Block("", "", 0)]
        for block, after in zip(every, following, strict=True):
            place = f"{self.path.name}, line {block.line}"
            if block.language == "python":
                printed = self.python(block)
                if after.language == "text":
                    compare(after.text, printed, f"{self.path.name}, line {after.line}")
            elif block.language == "console":
                self.console(block.text, place)

    def python(self, block: Block) -> str:
        named = FILE.match(block.text)
        if named:
            Path(named[1]).write_text(block.text, encoding="utf-8")
            return ""
        printed = io.StringIO()
        # Tracebacks name the page and its line.
        code = compile("\n" * block.line + block.text, self.path.name, "exec", dont_inherit=True)
        with contextlib.redirect_stdout(printed):
            exec(code, vars(self.module))
        return printed.getvalue()

    def console(self, text: str, place: str) -> None:
        for command, said in commands(text):
            where = f"{place}: $ {command}"
            if command == "kill -9 %1":
                end(self.background.pop(0))
            elif command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                if value.startswith("$("):
                    value, _ = start(value.removeprefix("$(").removesuffix(")")).communicate()
                os.environ[name] = value.strip()
            elif command == "echo $?":
                compare(said, str(self.code), where)
            elif command.endswith(" &"):
                self.background.append(start(command.removesuffix(" &"), "setpriv", "--pdeathsig", "KILL"))
                compare(said, first_lines(self.background[-1], said.count("\n")), where)
            else:
                done = start(command)
                real, _ = done.communicate()
                self.code = done.returncode
                compare(said, real, where)

    def end(self) -> None:
        """End what runs in the background, the last first."""
        while self.background:
            end(self.background.pop())


def end(process: subprocess.Popen[str]) -> None:
    """The hard way."""
    process.kill()
    process.communicate()


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command and the output that the page gives for it."""
    for part in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, said = part.partition("\n")
        yield " ".join(command.split()), said


def start(command: str, *under: str) -> subprocess.Popen[str]:
    """`under`: what it is started by: what runs in the background ends with this process, however that ends."""
    words = shlex.split(command)
    if words[0] == "holdfast":
        words[:1] = [sys.executable, "-m", "holdfast"]
    elif words[0] == "python":
        words[:1] = [sys.executable]
    elif words[0] not in ("cat", "touch"):
        raise Different(f"a console block can't run {command!r}: show it as ```sh")
    return subprocess.Popen(
        [*under, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def first_lines(process: subprocess.Popen[str], count: int) -> str:
    assert process.stdout is not None
    return "".join(process.stdout.readline() for _ in range(count))


def main(arguments: list[str]) -> int:
    page = Page(Path(arguments[0]))
    sys.path.insert(0, str(Path.cwd()))
    try:
        page.run()
    except Different as difference:
        print(difference, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        page.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
