"""What the client says and hears, as a table: which failures are tried again, with which tag, for how long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast import errors
from holdfast.client import resources, tasks
from holdfast.client.patience import Patience, retry_after_s
from holdfast.client.problems import error_of
from holdfast.client.protocol import Lost, Reply, ask, path_of, with_query
from tests.client.script import UUID, Script, lost, problem, reply, task, words

DONE = reply(202, {"task": task("PENDING")}, task_tag=UUID)


@pytest.mark.parametrize(
    ("first", "tries"),
    [
        (lost(), 2),
        (lost(3), 4),
        ([reply(502)], 2),
        ([reply(503, retry_after="1")], 2),
        ([reply(504)], 2),
        ([problem(429, "rate")._replace(headers={"retry-after": "1"})], 2),
        ([reply(502), Lost("reset"), reply(503), reply(504)], 5),
    ],
)
@pytest.mark.requirement("TAG-13")
def test_what_may_be_answered_otherwise_is_asked_again_with_the_same_tag(first: list[Any], tries: int) -> None:
    script = Script(*first, DONE)
    accepted = script.play(tasks.submit(script.ways, "deploy", {"size": 2}))
    assert accepted.task["uuid"] == "0198"
    assert script.header("Task-tag") == [UUID] * tries
    assert len({request.body for request in script.requests}) == 1
    assert len(script.pauses) == tries - 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(400, "request.invalid"), errors.UsageError),
        (problem(401, "auth.required"), errors.AuthRequired),
        (problem(403, "policy.forbidden"), errors.PolicyForbidden),
        (problem(404, "not_found"), errors.NotFound),
        (problem(409, "task.verb_not_allowed"), errors.VerbRefused),
        (problem(409, "task.past_pivot"), errors.PastPivot),
        (problem(409, "something.new"), errors.StateError),
        (problem(410, "gone"), errors.Gone),
        (problem(422, "tag.reused"), errors.TagReused),
        (problem(429, "rate"), errors.RateLimited),
        (problem(418, "teapot"), errors.UsageError),
        (problem(500, "holdfast"), errors.HoldfastError),
        (Reply(500, {}, b"<html>"), errors.WorldError),
        (Reply(302, {"location": "http://elsewhere/"}), errors.AnswerUnreadable),
        (Reply(200, {}, b"<html>a portal</html>"), errors.AnswerUnreadable),
        (reply(202, {"other": 1}), errors.AnswerUnreadable),
    ],
)
def test_what_will_be_answered_the_same_is_an_error_at_once(answer: Reply, kind: type[Exception]) -> None:
    script = Script(answer)
    with pytest.raises(kind) as caught:
        script.play(tasks.submit(script.ways, "deploy"))
    assert type(caught.value) is kind
    assert (len(script.requests), script.pauses) == (1, [])


def test_an_error_says_what_the_service_said() -> None:
    answer = problem(409, "task.verb_not_allowed", "Cannot 'suspend' task U", allowed=["rollback"], request_id="req-1")
    error = error_of(answer.status, answer.headers, answer.body)
    assert (type(error), error.code, error.status, str(error)) == (
        errors.VerbRefused, "task.verb_not_allowed", 409, "Cannot 'suspend' task U",
    )  # fmt: skip
    assert error.details == {"allowed": ["rollback"], "request_id": "req-1"}
    other = error_of(409, {"x-openstack-request-id": "req-2"}, json.dumps({"code": "a.b", "status": 409}).encode())
    assert (other.code, other.status, other.details) == ("a.b", 409, {"request_id": "req-2"})
    assert errors.StateError.code == "state"  # the class is left alone
    said = {"detail": "no", "message": "no", "error_message": "no", "self": 1, "kind": "node"}
    strange = error_of(404, {}, json.dumps(said).encode())
    assert (type(strange), str(strange), strange.details) == (errors.NotFound, "no", {"self": 1, "kind": "node"})


def test_every_error_of_the_tree_comes_back_as_itself_or_as_what_it_is_a_kind_of() -> None:
    def tree(kind: type[errors.HoldfastError]) -> list[type[errors.HoldfastError]]:
        known = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
        return [kind, *(below for child in known for below in tree(child))]

    for kind in tree(errors.HoldfastError):
        answer = problem(kind.status, kind.code)
        found = error_of(answer.status, answer.headers, answer.body)
        assert issubclass(kind, type(found)), kind
        assert found.code == kind.code


@pytest.mark.requirement("TAG-8", "TAG-13")
def test_whoever_gives_up_says_by_which_tag_the_task_can_be_found() -> None:
    script = Script(*lost(100), patience=Patience(deadline_s=20))
    with pytest.raises(errors.ServiceUnreachable, match=rf"reset; if it was accepted .* has the tag {UUID}") as caught:
        script.play(tasks.submit(script.ways, "deploy"))
    assert caught.value.details["tag"] == UUID
    assert 15 <= sum(script.pauses) <= 20
    assert len(script.requests) > 3


def test_whoever_gives_up_on_a_busy_service_says_what_it_said() -> None:
    busy = problem(503, "store.busy", "the database is locked")
    script = Script(*[busy] * 100, patience=Patience(deadline_s=5))
    with pytest.raises(errors.StoreBusy, match=r"^the database is locked; if it was accepted"):
        script.play(resources.delete(script.ways, "server", "7", tag="mine"))
    assert set(script.header("Task-tag")) == {"mine"}


def test_looking_has_no_tag() -> None:
    script = Script(*lost(), reply(200, task()))
    assert script.play(tasks.show(script.ways, "0198"))["state"] == "RUNNING"
    assert script.header("Task-tag") == [None, None]


def test_each_logical_request_has_a_tag_of_its_own() -> None:
    script = Script(DONE, DONE)
    tags = {script.play(tasks.submit(script.ways, "deploy")).tag for _ in range(2)}
    assert tags == set(script.header("Task-tag"))
    assert len(tags) == 2


def test_pauses_double_up_to_a_bound_and_chance_spreads_them() -> None:
    patience = Patience(first_s=1, most_s=8)
    assert [patience.pause_s(tries, 1.0) for tries in range(1, 7)] == [1, 2, 4, 8, 8, 8]
    assert [round(patience.pause_s(tries, 0.0), 3) for tries in range(1, 5)] == [0.1, 0.2, 0.4, 0.8]
    assert patience.pause_s(10_000, 1.0) == 8
    assert patience.pause_s(1, 0.0, 5.0) == 5
    assert 5 < patience.pause_s(1, 1.0, 5.0) <= 6


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after_s("3", 0) == 3
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 50) == 10
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 90) == 0
    assert [retry_after_s(text, 0) for text in (None, "", "soon", "-1", "٣")] == [None] * 5
    assert retry_after_s("9" * 400, 0) == 3600


def test_retry_after_is_never_undercut() -> None:
    script = Script(reply(503, retry_after="7"), DONE, chance=0.0)
    script.play(tasks.submit(script.ways, "deploy"))
    assert script.pauses == [7]


# --- lists -------------------------------------------------------------------------------------------------------


def _page(*uuids: str, next: str | None = None) -> Reply:
    links = [] if next is None else [{"rel": "next", "href": next}]
    return reply(200, {"tasks": [{"uuid": uuid} for uuid in uuids], "links": links})


def test_a_list_goes_on_over_its_pages() -> None:
    script = Script(_page("a", "b", next="/v3/tasks?marker=b&limit=2"), _page("c"))
    script.play(tasks.tasks(script.ways, state=["RUNNING", "WAITING"], tag=None))
    assert [each["uuid"] for each in script.emitted] == ["a", "b", "c"]
    assert words(script.requests) == ["GET /v3/tasks?state=RUNNING%2CWAITING", "GET /v3/tasks?marker=b&limit=2"]


def test_a_list_stops_at_its_limit() -> None:
    script = Script(_page("a", "b", next="/v3/tasks?marker=b"))
    script.play(tasks.tasks(script.ways, limit=2))
    assert (len(script.emitted), words(script.requests)) == (2, ["GET /v3/tasks?limit=2"])


def test_a_next_page_on_another_host_is_not_asked_for_with_our_token() -> None:
    script = Script(_page("a", next="http://evil/v3/tasks?marker=a"))
    with pytest.raises(errors.AnswerUnreadable, match="evil"):
        script.play(tasks.tasks(script.ways))
    same = Script(_page("a", next="http://service:8080/v3/tasks?marker=a"), _page("b"))
    same.play(tasks.tasks(same.ways))
    assert words(same.requests)[1] == "GET /v3/tasks?marker=a"


def test_pages_that_go_in_a_circle_end() -> None:
    script = Script(_page("a", next="/v3/tasks"), _page("a", next="/v3/tasks"))
    with pytest.raises(errors.AnswerUnreadable, match="same page"):
        script.play(tasks.tasks(script.ways))
    assert len(script.requests) == 1


# --- tasks -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TAG-8")
def test_a_task_is_found_by_its_tag() -> None:
    script = Script(reply(200, {"tasks": [task(tag="order/17")]}), reply(200, task()))
    assert script.play(tasks.find(script.ways, "order/17"))["uuid"] == "0198"
    assert words(script.requests) == ["GET /v3/tasks?tag=order%2F17&limit=1", "GET /v3/tasks/0198"]


def test_nothing_at_all_is_no_task() -> None:
    """An unset variable in a script must not cancel the newest task of the project."""
    script = Script(reply(200, {"tasks": [task()]}), reply(200, task()))
    with pytest.raises(errors.UsageError, match="'' is no name of anything"):
        script.play(tasks.find(script.ways, ""))
    assert script.requests == []


def test_a_task_is_found_by_its_id() -> None:
    script = Script(reply(200, {"tasks": []}), reply(200, task()))
    assert script.play(tasks.find(script.ways, UUID))["uuid"] == "0198"
    assert words(script.requests)[1] == f"GET /v3/tasks/{UUID}"


def test_a_task_is_found_by_the_beginning_of_its_id_alone() -> None:
    made = [f"0198a3f2-{at}" for at in ("2222", "1111")]
    listed = [task(uuid=uuid, created_at="2025-08-13T10:00:00.000000Z") for uuid in made]
    older = task(uuid="0198a3f1-0000", created_at="2025-08-01T10:00:00.000000Z")
    script = Script(reply(200, {"tasks": []}), reply(200, {"tasks": [*listed, older]}), reply(200, task()))
    assert script.play(tasks.find(script.ways, "0198A3f2-1"))
    assert words(script.requests)[2] == "GET /v3/tasks/0198a3f2-1111"
    assert "created_at=lt%3A2025-08-" in script.requests[1].path
    again = Script(reply(200, {"tasks": []}), reply(200, {"tasks": [*listed, older]}))
    with pytest.raises(errors.UsageError, match="several tasks begin with 0198a3f2"):
        again.play(tasks.find(again.ways, "0198a3f2"))
    none = Script(reply(200, {"tasks": []}), reply(200, {"tasks": []}))
    with pytest.raises(errors.TaskNotFound, match="no task 0198beef"):
        none.play(tasks.find(none.ways, "0198beef"))


def test_wait_polls_until_it_has_ended() -> None:
    script = Script(
        reply(200, task("PENDING"), etag='"1"'), reply(304), reply(200, task("RUNNING"), etag='"2"'),
        reply(200, task("SUCCEEDED"), etag='"3"'),
    )  # fmt: skip
    assert script.play(tasks.wait(script.ways, "0198"))["state"] == "SUCCEEDED"
    assert script.header("If-None-Match") == [None, '"1"', '"1"', '"2"']
    assert words(script.requests)[:2] == ["GET /v3/tasks/0198", "GET /v3/tasks/0198?wait=26"]
    assert script.requests[1].answer_s > 26


def test_wait_ends_where_the_task_rests_or_the_time_is_over() -> None:
    script = Script(reply(200, task("SUSPENDED"), etag='"1"'))
    assert script.play(tasks.wait(script.ways, "0198"))["state"] == "SUSPENDED"
    late = Script(reply(200, task("RUNNING"), etag='"1"'))
    with pytest.raises(errors.WaitTimeout, match=r"still RUNNING after 0 s; it goes on"):
        late.play(tasks.wait(late.ways, "0198", 0.0))


@pytest.mark.parametrize(
    ("call", "said", "body"),
    [
        (lambda ways: tasks.cancel(ways, "T"), "POST /v3/tasks/T/cancel", {}),
        (lambda ways: tasks.cancel(ways, "T", revert=False), "POST /v3/tasks/T/cancel", {"revert": False}),
        (lambda ways: tasks.abort(ways, "T"), "POST /v3/tasks/T/abort", {}),
        (lambda ways: tasks.suspend(ways, "T", release_claims=True), "POST /v3/tasks/T/suspend",
         {"release_claims": True}),
        (lambda ways: tasks.resume(ways, "T"), "POST /v3/tasks/T/resume", {}),
        (lambda ways: tasks.resume(ways, "T", {"a/b": ("done", 7), "c": "skip"}), "POST /v3/tasks/T/resume",
         {"steps": {"a/b": {"as": "done", "result": 7}, "c": {"as": "skip"}}}),
        (lambda ways: tasks.rollback(ways, "T", force=True), "POST /v3/tasks/T/rollback", {"force": True}),
        (lambda ways: tasks.retry(ways, "T"), "POST /v3/tasks/T/retry", {}),
        (lambda ways: tasks.force_fail(ways, "T", "fire"), "POST /v3/tasks/T/force-fail", {"reason": "fire"}),
        (lambda ways: tasks.verbs(ways, "cancel", {"state": "RUNNING"}), "POST /v3/tasks/verbs",
         {"verb": "cancel", "filter": {"state": "RUNNING"}, "options": {}}),
        (lambda ways: resources.reconcile(ways, "server", "7"), "POST /v3/resources/server/7/reconcile", {}),
        (lambda ways: resources.set(ways, "server", "a b", {"size": 1}), "PUT /v3/resources/server/a%20b", {"size": 1}),
    ],
)  # fmt: skip
def test_what_each_call_asks(call: Any, said: str, body: Any) -> None:
    script = Script(reply(202, {"task": task()}))
    assert script.play(call(script.ways))
    assert words(script.requests) == [said]
    assert json.loads(script.requests[0].body or b"null") == body
    assert script.header("X-Auth-Token") == ["t0k3n"]


def test_an_operation_is_one_key() -> None:
    script = Script(DONE, DONE)
    script.play(resources.operate(script.ways, "server", "7", "reboot", {"type": "SOFT"}))
    script.play(resources.operate(script.ways, "server", "7", "stop"))
    assert set(words(script.requests)) == {"POST /v3/resources/server/7/action"}
    assert [json.loads(request.body or b"") for request in script.requests] == [
        {"reboot": {"type": "SOFT"}}, {"stop": None},
    ]  # fmt: skip


def test_a_new_resource_goes_to_the_kinds_own_path_which_is_asked_for_once() -> None:
    kinds = reply(200, {"kinds": {"box": {"plural": "boxes"}}})
    script = Script(kinds, DONE, DONE)
    for name in ("a", "b"):
        script.play(resources.create(script.ways, "box", {"name": name}))
    assert words(script.requests) == ["GET /v3/schemas/actions", "POST /v3/boxes", "POST /v3/boxes"]
    assert json.loads(script.requests[2].body or b"") == {"box": {"name": "b"}}
    other = Script(kinds)
    with pytest.raises(errors.UsageError, match="no kind 'car': it has box"):
        other.play(resources.create(other.ways, "car", {}))


def test_a_revision_is_a_condition() -> None:
    script = Script(problem(412, "precondition.failed"))
    with pytest.raises(errors.HoldfastError) as caught:
        script.play(resources.set(script.ways, "server", "7", {}, revision=3))
    assert (caught.value.status, script.header("If-Match")) == (412, ['"3"'])


def test_paths_and_queries_say_what_is_meant_and_nothing_else() -> None:
    assert path_of("tasks", "a/b?c#d") == "/v3/tasks/a%2Fb%3Fc%23d"
    for word in ("", ".", ".."):
        with pytest.raises(errors.UsageError):
            path_of("tasks", word)
    assert with_query("/v3/tasks", {"a": None, "b": True, "c": "x&y=z", "d": ("1", 2)}) == (
        "/v3/tasks?b=true&c=x%26y%3Dz&d=1%2C2"
    )


def test_what_json_has_no_word_for_is_refused_here() -> None:
    script = Script()
    for value in (float("nan"), object(), "\ud800"):
        with pytest.raises(errors.UsageError, match="can't be sent as JSON"):
            script.play(ask(script.ways, "POST", "/v3/tasks", body={"value": value}))
    assert script.requests == []
