"""The pages: no link leads nowhere, no page is out of reach."""

from __future__ import annotations

import re
from pathlib import Path

from tests.shape import repository

# [text](target), not the ones in code blocks or in backticks.
LINK = re.compile(r"(?<!`)\[[^\]\[]+\]\(([^)\s]+)\)")
INDEX = repository.ROOT / "docs" / "index.md"


def documents() -> list[Path]:
    return [path for path in repository.text_files() if path.suffix == ".md"]


def links(path: Path) -> list[Path]:
    """The files of the repository that a page links to; addresses and places within a page are left out."""
    prose = re.sub(r"^```.*?^```", "", repository.text(path), flags=re.DOTALL | re.MULTILINE)
    targets = [target.partition("#")[0] for target in LINK.findall(prose) if "://" not in target]
    return [(path.parent / target).resolve() for target in targets if target]


def test_every_link_leads_to_a_file() -> None:
    dead = [
        f"{repository.name(path)} -> {target.name}"
        for path in documents()
        for target in links(path)
        if not target.exists()
    ]
    assert dead == []


def test_every_page_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    ahead = [INDEX]
    while ahead:
        page = ahead.pop()
        if page.suffix == ".md" and page not in reached and page.is_file():
            reached.add(page)
            ahead += links(page)
        elif page.is_dir():  # a link to a folder reaches what is in it
            ahead += sorted(page.glob("*.md"))
    lost = [repository.name(page) for page in sorted((repository.ROOT / "docs").rglob("*.md")) if page not in reached]
    assert lost == []
