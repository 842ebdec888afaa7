"""Plays a transcript: what is asked is asked over a socket, and what the answer has to have is looked for in it.

`> METHOD PATH [JSON]` asks once, `>>` again until the answer fits, and `>` lines beneath it are headers or JSON; `<`
lines are the status, a header, or JSON, which may go on over several lines; `! word` has something done. In JSON an
object has at least the members that are said; a list that begins or ends with `…` has the others among its elements,
in this order. In texts … is any text and $A (one capital letter) a text that is the same each time. Behind a lone `<`
stand the lines of a stream, whose `data:` is JSON; a `…` among them is any number of lines.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.resources.server.conftest import pause

AGAIN_S = 20.0  # how quick it is is for other tests to say
PAUSE_S = 0.02


class Exchange(NamedTuple):
    """`request` "": something is done (`body`). `sent`: headers and a body; `lines`: of the answer."""

    line: int
    again: bool
    request: str
    body: str
    sent: list[str]
    lines: list[str]


class Differs(AssertionError):
    """The answer is not as the transcript has it."""


def read(path: Path) -> Iterator[Exchange]:
    found: Exchange | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if found is not None and found.request and not found.lines and line.startswith("> "):
            found.sent.append(line[2:])
        elif line.startswith((">", "!")):
            if found is not None:
                yield found
            arrow, _, rest = line.partition(" ")
            method, _, more = rest.partition(" ")
            place, _, body = more.partition(" ")
            found = Exchange(number, arrow == ">>", "" if arrow == "!" else f"{method} {place}", body or "", [], [])
            if arrow == "!":
                found = found._replace(body=rest)
        elif line.startswith("<"):
            assert found is not None, f"{path.name}:{number}: an answer to nothing"
            found.lines.append(line[2:])
    if found is not None:
        yield found


def play(path: Path, client: httpx.Client, names: dict[str, str], deeds: Mapping[str, Callable[[], object]]) -> int:
    """How many exchanges there were. `names`: what $N and the like are; those that the answers tell are added."""
    exchanges = list(read(path))
    for exchange in exchanges:
        if not exchange.request:
            deeds[exchange.body]()
            continue
        end = time.monotonic() + AGAIN_S
        while True:
            told = dict(names)
            try:
                _fits(exchange, _ask(client, exchange, told), told)
            except Differs as error:
                if not exchange.again or time.monotonic() > end:
                    raise Differs(f"{path.name}:{exchange.line}: {exchange.request}: {error}") from None
                pause(PAUSE_S)
            else:
                names.update(told)
                break
    return len(exchanges)


def _ask(client: httpx.Client, exchange: Exchange, names: Mapping[str, str]) -> httpx.Response:
    method, _, place = _filled(exchange.request, names).partition(" ")
    headers, body = {}, exchange.body
    for line in exchange.sent:
        if line.startswith("{"):
            body = line
        else:
            name, _, value = line.partition(": ")
            headers[name] = _filled(value, names)
    return client.request(method, place, headers=headers, json=json.loads(body) if body else None)


def _filled(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\$([A-Z])", lambda found: names[found[1]], text)


def _fits(exchange: Exchange, answer: httpx.Response, names: dict[str, str]) -> None:
    status, *lines = exchange.lines
    if answer.status_code != int(status):
        raise Differs(f"{answer.status_code}, not {status}: {answer.text}")
    while lines and lines[0] and not lines[0].startswith("{"):
        name, _, value = lines.pop(0).partition(": ")
        _same(value, answer.headers.get(name), names, name)
    if lines and not lines[0]:
        _flows(_unwrapped(lines[1:]), [line for line in answer.text.splitlines() if line], names)
    elif lines:
        wanted = json.loads(_quoted("".join(lines)))
        _same(wanted, answer.json(), names, "")


def _quoted(text: str) -> str:
    return text.replace("[…,", '["…",').replace(",…]", ',"…"]')


def _unwrapped(lines: list[str]) -> list[str]:
    """What goes on over several lines is one."""
    found: list[str] = []
    for line in lines:
        if line.startswith(" "):
            found[-1] += line
        else:
            found.append(line)
    return found


def _flows(wanted: list[str], found: list[str], names: dict[str, str]) -> None:
    """The lines of a stream."""
    left, skips = iter(found), False
    for want in wanted:
        if want == "…":
            skips = True
            continue
        for line in left:
            told = dict(names)
            try:
                _same_line(want, line, told)
            except Differs:
                if not skips:
                    raise
                continue
            names.update(told)
            break
        else:
            raise Differs(f"the stream has no {want}, or not behind what was before it: {found}")
        skips = False


def _same_line(wanted: str, found: str, names: dict[str, str]) -> None:
    if wanted.startswith("data: {") and found.startswith("data: "):
        _same(json.loads(_quoted(wanted[6:])), json.loads(found[6:]), names, "data")
    else:
        _same(wanted, found, names, "the stream")


def _same(wanted: Any, found: Any, names: dict[str, str], place: str) -> None:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name, value in wanted.items():
            if name not in found:
                raise Differs(f"{place}: there is no {name}: {found}")
            _same(value, found[name], names, f"{place}.{name}")
    elif isinstance(wanted, list) and isinstance(found, list):
        if "…" in (*wanted[:1], *wanted[-1:]):
            _among([want for want in wanted if want != "…"], found, names, place)
        elif len(wanted) != len(found):
            raise Differs(f"{place}: {len(found)} of them, not {len(wanted)}: {found}")
        else:
            for number, (want, is_) in enumerate(zip(wanted, found, strict=True)):
                _same(want, is_, names, f"{place}[{number}]")
    elif isinstance(wanted, str) and isinstance(found, str):
        _same_text(wanted, found, names, place)
    elif wanted != found:
        raise Differs(f"{place}: {found!r}, not {wanted!r}")


def _among(wanted: list[Any], found: list[Any], names: dict[str, str], place: str) -> None:
    left = iter(found)
    for want in wanted:
        for each in left:
            told = dict(names)
            try:
                _same(want, each, told, place)
            except Differs:
                continue
            names.update(told)
            break
        else:
            raise Differs(f"{place}: there is no {want}, or not behind those before it: {found}")


def _same_text(wanted: str, found: str, names: dict[str, str], place: str) -> None:
    pattern = ""
    for part in re.split(r"(…|\$[A-Z])", wanted):
        if part == "…":
            pattern += ".*"
        elif re.fullmatch(r"\$[A-Z]", part):
            known = names.get(part[1])
            pattern += f"(?P<{part[1]}>[^/]+)" if known is None else re.escape(known)
        else:
            pattern += re.escape(part)
    match = re.fullmatch(pattern, found, re.DOTALL)
    if match is None:
        raise Differs(f"{place}: {found!r}, not {wanted!r}")
    names.update(match.groupdict())
