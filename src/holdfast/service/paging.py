"""What all lists have in common: whose things they are of, and the link to what is behind a page."""

from __future__ import annotations

from urllib.parse import urlencode

from holdfast.service.requests import Ask, address


def project(ask: Ask) -> str | None:
    """Whose things the query asks for; None: everybody's. Raises: PolicyForbidden, UsageError."""
    given = ask.text("all_projects")  # empty, it is not given: no flag
    return project_of(ask, ask.text("project_id"), every=given != "" and ask.boolean("all_projects"))


def project_of(ask: Ask, named: str, *, every: bool) -> str | None:
    """His own, if the asker says nothing; else the one that he names, if any, also where he wants those of `every`
    project. Whoever means others than his own has to be allowed to. Raises: PolicyForbidden."""
    own = ask.caller.project_id
    if not every and named in ("", own):
        return own
    ask.service.policy.check(ask.caller, "tasks:all_projects")
    return named or None


def next_link(ask: Ask, marker: str | None, *, name: str = "marker") -> list[dict[str, str]]:
    """The same list, behind the marker, which is the parameter `name`. None: there is no more."""
    if marker is None:
        return []
    kept = [(each, value) for each, value in ask.pairs if value and each != name]
    return [{"rel": "next", "href": f"{address(ask.scope)}?{urlencode([*kept, (name, marker)])}"}]
