"""The parameters of a list, as clients write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import HoldfastError, QueryUnknown, UsageError
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import params, query, show
from holdfast.tasks.listing import Filter, Sort
from tests.tasks.desk import Desk


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def asked(*given: tuple[str, str]) -> params.Asked:
    return params.read(given, fields=("uuid", "state"))


def listed(desk: Desk, *given: tuple[str, str]) -> list[int]:
    wanted = asked(*given)
    return [at.id for at in desk.store.read(lambda tx: query.page(tx, wanted.filter, sort=wanted.sort)).tasks]


@pytest.mark.requirement("NEUTRON-14")
def test_an_empty_value_asks_for_nothing() -> None:
    assert asked(*((name, "") for name in params.NAMES)) == asked() == params.Asked(Filter(roots=True))
    assert asked(("resource_id", ""), ("task_state", "FAILED")).filter == Filter(state="FAILED", roots=True)


@pytest.mark.requirement("NEUTRON-14")
@pytest.mark.parametrize("name", ["task_state", "state"])
@pytest.mark.parametrize("value", ["failed,ABORTED", "in:Failed,aborted", "in:FAILED, ABORTED,"])
def test_states_are_lists_in_any_case(name: str, value: str) -> None:
    assert asked((name, value)).filter.state == "FAILED,ABORTED"


@pytest.mark.requirement("NEUTRON-14")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", "sleeping"), ("state", ","), ("task_state", "in:"), ("limit", "-1"), ("limit", "x"), ("limit", "1.0"),
        ("limit", "٣"), ("sort", "user_id"), ("sort", "uuid:up"), ("sort", "uuid,uuid"), ("sort", ","),
        ("created_at", "yesterday"), ("created_at", "gt:"), ("created_at", "near:2026-01-01"), ("changes-since", "0"),
        ("depth", "2"), ("all_projects", "perhaps"), ("fields", "uuid,secrets"), ("tag", "a\x00b"),
        ("user_id", "u" * 5000), ("last_updated", "9999-99-99"),
    ],
)  # fmt: skip
def test_what_cant_be_meant_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(UsageError) as refusal:
        asked((name, value))
    assert refusal.value.details["parameter"] == name
    assert refusal.value.code == "request.invalid"


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(QueryUnknown, match="takes no colour") as refusal:
        asked(("colour", ""))
    assert (refusal.value.status, refusal.value.code) == (400, "query.unknown")


def test_one_value_is_given_once_but_a_time_has_two_ends() -> None:
    for name in ("state", "tag", "limit"):
        with pytest.raises(UsageError, match="twice"):
            asked((name, "1" if name == "limit" else "failed"), ("task_state" if name == "state" else name, "1"))
    found = asked(("created_at", "gte:2026-01-01T00:00:00Z"), ("created_at", "lt:2026-01-01T01:00:00+00:00")).filter
    assert (found.created_from, found.created_to) == pytest.approx((1767225600.0, 1767229200.0), abs=1e-6)


def test_the_narrower_of_two_ends_holds() -> None:
    found = asked(("last_updated", "gt:2026-01-02"), ("changes-since", "2026-01-01")).filter
    assert found.updated_from == asked(("last_updated", "gt:2026-01-02")).filter.updated_from
    assert found.updated_to is None


@pytest.mark.parametrize(
    ("value", "sort"),
    [
        ("created_at", Sort()),
        ("created_at:desc,uuid:desc", Sort()),
        ("created_at:asc", Sort("created_at", False, False)),
        ("last_updated:desc,uuid:asc", Sort("last_updated", True, False)),
        ("updated_at:ASC", Sort("last_updated", False, False)),
        ("uuid:desc", Sort("uuid", True, True)),
    ],
)
def test_sort_keys_have_directions(value: str, sort: Sort) -> None:
    assert asked(("sort", value)).sort == sort


def test_how_much_and_where_from() -> None:
    found = asked(("limit", "100000000000000000000000"), ("marker", "m"), ("fields", "state, uuid,state"))
    assert (found.limit, found.marker, found.fields) == (1000, "m", ("state", "uuid"))
    assert asked(("limit", "0")).limit == 0
    who = asked(("project_id", "p"), ("all_projects", "True"))
    assert (who.project_id, who.all_projects, who.filter.project_id) == ("p", True, None)
    assert not asked(("all_projects", "0")).all_projects


@pytest.mark.requirement("NOVA-8")
def test_children_are_left_out_unless_asked_for() -> None:
    assert asked().filter.roots
    assert asked(("depth", "roots")).filter == Filter(roots=True)
    assert asked(("depth", "all")).filter == Filter(trees=True)
    assert asked(("parent_id", "u")).filter == Filter(parent="u")
    assert asked(("root_id", "u"), ("depth", "roots")).filter == Filter(root="u")


def test_a_time_as_it_is_shown_is_that_time(desk: Desk) -> None:
    desk.now = 1_700_000_000.123456789
    before, at, behind = desk.submit(), desk.submit(), desk.submit()
    text = show.moment(desk.row(at).created_at)
    assert listed(desk, ("created_at", f"{text}")) == listed(desk, ("created_at", f"eq:{text}")) == [at]
    assert listed(desk, ("created_at", f"gt:{text}")) == [behind]
    assert listed(desk, ("created_at", f"gte:{text}")) == listed(desk, ("changes-since", f"{text}")) == [behind, at]
    assert listed(desk, ("created_at", f"lt:{text}")) == [before]
    assert listed(desk, ("created_at", f"lte:{text}")) == listed(desk, ("changes-before", f"{text}")) == [at, before]


_words = st.text(max_size=12) | st.sampled_from(
    ["gt:", "in:", "9999-12-31T23:59:59.999999-23:59", "0001-01-01", "2026"]
)


@given(st.lists(st.tuples(st.sampled_from(params.NAMES), _words), max_size=4))
def test_any_text_is_a_list_or_refused(given: list[tuple[str, str]]) -> None:
    found: Any
    try:
        found = asked(*given)
    except HoldfastError as error:
        found = error
    assert isinstance(found, (params.Asked, UsageError))
