"""One word, one meaning: the words that Holdfast does not use, and what must not be left behind in its files."""

from __future__ import annotations

import re
from pathlib import Path

from tests.shape import repository

# Words of other projects for a thing that has its own word here (step, task, flow, plan).
BANNED_WORDS = {"activity", "activities", "atom", "atoms", "job", "jobs", "workflow", "workflows"}
# Rooms where everything ends up and nothing is found.
BANNED_MODULES = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
# A name made of this one would be about nothing.
BANNED_CLASS_ENDINGS = ("Helper", "Impl", "Manager", "Util", "Utils")
# Where the words of others are explained, quoted or called.
FOREIGN = ("bench/", "demo/", "docs/", "tests/", "tools/")


def words(identifier: str) -> set[str]:
    """The words of a snake_case or CamelCase name."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}


def test_no_name_uses_a_word_of_another_vocabulary() -> None:
    used = [
        f"{repository.name(path)}:{line} {defined}"
        for path in repository.python_files("src")
        for line, defined in repository.defined_names(path)
        if words(defined) & BANNED_WORDS
    ]
    assert used == []


def test_no_sentence_in_the_source_uses_a_word_of_another_vocabulary() -> None:
    banned = re.compile(rf"\b(?:{'|'.join(sorted(BANNED_WORDS))}|execution graph)\b", re.IGNORECASE)
    assert matches(banned, repository.python_files("src")) == []


def test_no_module_is_named_after_nothing() -> None:
    named = [
        repository.name(path) for path in repository.python_files() if {path.stem, path.parent.name} & BANNED_MODULES
    ]
    assert named == []


def test_no_class_is_named_after_nothing() -> None:
    named = [
        f"{repository.name(path)}:{line} {defined}"
        for path in repository.python_files("src")
        for line, defined in repository.defined_names(path)
        if defined.endswith(BANNED_CLASS_ENDINGS)
    ]
    assert named == []


def test_nothing_is_left_for_later() -> None:
    # Spelt in pieces so that this file does not find itself.
    later = re.compile("|".join(("TO" + "DO", "FIX" + "ME", r"\bX" + "XX", "NotImplemented" + "Error")))
    assert matches(later, repository.text_files()) == []


def test_no_file_names_the_machine_it_was_written_on() -> None:
    places = [r"/root/", r"/home/[a-z]+/", r"/Users/[A-Za-z]+/", r"\.pyenv\b"]
    if len(repository.ROOT.parts) > 2:  # `/src` alone would be found in every path
        places.append(re.escape(str(repository.ROOT)) + r"\b")
    assert matches(re.compile("|".join(places)), [p for p in repository.text_files() if p != Path(__file__)]) == []


def test_pins_are_plain() -> None:
    lines = repository.text(repository.ROOT / "constraints.txt").splitlines()
    plain = re.compile(r"^[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.+]*$")
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 20
    assert [line for line in pins if not plain.match(line)] == []


def matches(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """Where the pattern is found, as `file:line the line`."""
    return [
        f"{repository.name(path)}:{number} {line.strip()[:80]}"
        for path in paths
        for number, line in enumerate(repository.text(path).splitlines(), 1)
        if pattern.search(line)
    ]
