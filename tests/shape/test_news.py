"""News fragments: one file for each change that users notice, written for them (news/README.md)."""

from __future__ import annotations

import re
import tomllib

from tests.shape import repository

NEWS = repository.ROOT / "news"


def fragments() -> dict[str, str]:
    return {path.name: repository.text(path) for path in sorted(NEWS.iterdir()) if path.name != "README.md"}


def kinds() -> list[str]:
    project = tomllib.loads(repository.text(repository.ROOT / "pyproject.toml"))
    return [kind["directory"] for kind in project["tool"]["towncrier"]["type"]]


def test_a_fragment_is_named_after_its_issue_and_its_kind() -> None:
    named = re.compile(rf"^(?:[0-9]+|\+[a-z0-9-]+)\.(?:{'|'.join(kinds())})(?:\.[0-9]+)?\.md$")
    assert [name for name in fragments() if not named.match(name)] == []


def test_a_fragment_is_whole_sentences() -> None:
    assert [name for name, text in fragments().items() if not re.match(r"^[A-Z`].*[.!]\n$", text, re.DOTALL)] == []


def test_the_readme_of_the_news_names_every_kind() -> None:
    page = repository.text(NEWS / "README.md")
    assert [kind for kind in kinds() if f"`{kind}`" not in page] == []
