"""Who asks, in four ways; what he may do; and how much of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from holdfast.errors import AuthRequired, RateLimited, SettingInvalid
from holdfast.service import identity, limits
from holdfast.service.limits import Strangers
from holdfast.service.policy import RULES, Policy
from holdfast.settings import Settings
from holdfast.testing.clock import FakeClock
from tests.service.conftest import MakeService, Service
from tests.service.test_requests import problem


def caller(way: identity.Identify, headers: dict[str, str], peer: str = "127.0.0.1") -> identity.Caller:
    async def ask() -> identity.Caller:
        return await way(headers, peer)

    return asyncio.run(ask())


# --- none --------------------------------------------------------------------------------------------------------


def test_none_is_for_this_machine_only() -> None:
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(SettingInvalid, match="identity is none, which believes everybody"):
            identity.make(Settings(host=host))
    for host in ("127.0.0.1", "::1", "localhost"):
        assert caller(identity.make(Settings(host=host)), {}) == ("", "default", frozenset({"admin"}), "api", ())
    with pytest.raises(SettingInvalid, match="has to be one of none, tokens, keystone-proxy, oidc"):
        identity.make(Settings(identity="password"))


def test_none_believes_what_it_is_told(shared: Service) -> None:
    task = shared.client("a", user="jo").post("/v3/tasks", json={"task": "quick"}).json()["task"]
    assert (task["project_id"], task["user_id"], task["origin"]) == ("a", "jo", "api")
    problem(shared.client(roles="reader").post("/v3/tasks", json={"task": "quick"}), 403, "policy.forbidden")
    problem(shared.client(roles="stranger").get("/v3/tasks"), 403, "policy.forbidden")
    problem(shared.client("a" * 300).get("/v3/tasks"), 401, "auth.required")


def test_none_believes_no_page_of_another_site(shared: Service) -> None:
    """Whose browser runs here reaches this machine's own addresses, and so does every page in it."""
    client = shared.client(roles="admin")
    port = shared.url.rpartition(":")[2]
    for headers in (
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://[::1"},
        {"Host": f"evil.example:{port}"}, {"Host": f"127.0.0.1.evil.example:{port}"}, {"Host": "192.0.2.1"},
    ):  # fmt: skip
        answer = client.post("/v3/tasks", content=b'{"task": "quick"}', headers=headers)
        problem(answer, 401, "auth.required")
        assert "www-authenticate" in answer.headers
    assert client.get("/v3/tasks").json()["tasks"] == []
    for headers in ({"Host": f"localhost:{port}"}, {"Host": "[::1]"}, {"Origin": "http://localhost:3000"}):
        assert client.get("/v3/tasks", headers=headers).status_code == 200


# --- tokens ------------------------------------------------------------------------------------------------------


def write_tokens(path: Path, **tokens: dict[str, Any]) -> None:
    path.write_text(json.dumps({hashlib.sha256(token.encode()).hexdigest(): who for token, who in tokens.items()}))


MEMBER = {"user": "u1", "project": "p1", "roles": ["member"]}


def test_tokens(make_service: MakeService, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    write_tokens(file, secret=MEMBER, boss={"user": "u2", "project": "p2", "roles": ["Admin"]})
    service = make_service(identity="tokens", tokens_file=str(file), worker=False)
    client = service.bare()
    for headers in ({}, {"X-Auth-Token": "wrong"}, {"Authorization": "Basic c2VjcmV0"}, {"Authorization": "Bearer"},
                    {"X-Project-Id": "p1", "X-Roles": "admin", "X-Identity-Status": "Confirmed", "X-User-Id": "u"},
                    {"X-Auth-Token": "secret", "Authorization": "Bearer boss"}):  # fmt: skip
        answer = client.post("/v3/tasks", json={"task": "quick"}, headers=headers)
        problem(answer, 401, "auth.required")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for headers in ({"X-Auth-Token": "secret"}, {"Authorization": "Bearer secret"}, {"Authorization": "bearer  secret"},
                    {"X-Auth-Token": "secret", "X-Project-Id": "p2", "X-Roles": "admin"}):  # fmt: skip
        answer = client.post("/v3/tasks", json={"task": "quick"}, headers=headers)
        assert (answer.status_code, answer.json()["task"]["project_id"]) == (202, "p1")
    assert client.get("/healthz").status_code == 200
    assert client.get("/v3").status_code == 200
    write_tokens(file, boss={"user": "u2", "project": "p2", "roles": ["admin"]}, new=MEMBER)
    problem(client.get("/v3/tasks", headers={"X-Auth-Token": "secret"}), 401, "auth.required")
    assert len(client.get("/v3/tasks", headers={"X-Auth-Token": "new"}).json()["tasks"]) == 4


def test_a_file_of_tokens_that_breaks_lets_nobody_in(
    make_service: MakeService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens.json"
    write_tokens(file, secret=MEMBER)
    client = make_service(identity="tokens", tokens_file=str(file), worker=False).bare()
    client.headers["X-Auth-Token"] = "secret"
    assert client.get("/v3/tasks").status_code == 200
    for broken in ('{"half of it', '{"abc": {}}', None):
        file.write_text(broken) if broken else file.unlink()
        for _ in range(3):
            answer = client.get("/v3/tasks")
            problem(answer, 503, "auth.tokens_unreadable")
            assert str(tmp_path) not in answer.text
            assert "retry-after" in answer.headers
    assert [str(file) in each.getMessage() for each in caplog.records if each.name == "holdfast.service"] == [True] * 3
    write_tokens(file, secret=MEMBER)
    assert client.get("/v3/tasks").status_code == 200


@pytest.mark.parametrize("text", ["", "[]", '{"abc": {}}', '{"%s": {"user": "a"}}' % ("0" * 64)])
def test_a_file_of_tokens_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(SettingInvalid, match="tokens_file"):
        identity.make(Settings(identity="tokens", tokens_file=str(tmp_path / "tokens")))


def test_what_a_way_needs_has_to_be_set(tmp_path: Path) -> None:
    for wanted, settings in (
        ("tokens_file", Settings(identity="tokens")),
        ("can't be read", Settings(identity="tokens", tokens_file=str(tmp_path / "none"))),
        ("trusted_proxies", Settings(identity="keystone-proxy", trusted_proxies="proxy.example.org")),
        ("oidc_issuer", Settings(identity="oidc")),
    ):
        with pytest.raises(SettingInvalid, match=wanted):
            identity.make(settings)


# --- keystone-proxy ----------------------------------------------------------------------------------------------

CONFIRMED = {"x-identity-status": "Confirmed", "x-user-id": "u", "x-project-id": "p", "x-roles": "member,Reader"}


def test_a_proxy_is_believed_by_its_address() -> None:
    way = identity.make(Settings(identity="keystone-proxy", trusted_proxies="10.1.0.0/16, 127.0.0.1, ::1"))
    for peer in ("10.1.2.3", "127.0.0.1", "::1", "::ffff:10.1.2.3"):
        assert caller(way, CONFIRMED, peer) == ("u", "p", frozenset({"member", "reader"}), "api", ())
    for peer in ("10.2.0.1", "", "192.168.0.1", "nonsense"):
        with pytest.raises(AuthRequired, match="ask through the proxy"):
            caller(way, CONFIRMED, peer)
    for name, value in (("x-identity-status", "Invalid"), ("x-project-id", ""), ("x-user-id", "")):
        with pytest.raises(AuthRequired):
            caller(way, {**CONFIRMED, name: value})


def test_behind_a_proxy_only_the_peer_counts(make_service: MakeService) -> None:
    trusted = make_service(identity="keystone-proxy", worker=False)
    headers = {"X-Identity-Status": "Confirmed"}
    assert trusted.client("p", **headers).post("/v3/tasks", json={"task": "quick"}).status_code == 202
    problem(trusted.client("p").get("/v3/tasks"), 401, "auth.required")
    other = make_service(identity="keystone-proxy", trusted_proxies="10.0.0.1", worker=False)
    forged = {**headers, "X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    answer = other.client("p", roles="admin", **forged).get("/v3/tasks")
    problem(answer, 401, "auth.required")
    assert answer.headers["www-authenticate"].startswith("Keystone")


# --- oidc --------------------------------------------------------------------------------------------------------


class Issuer:
    """Somebody who signs tokens, and publishes the keys to check them with."""

    def __init__(self) -> None:
        self.keys: list[Any] = [RSAKey.generate_key(2048, {"kid": "one"})]
        self.asked = 0
        self.up = True
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                data: Any = {"jwks_uri": f"{issuer.url}/keys"}
                if self.path == "/keys":
                    data = {"keys": [key.as_dict(private=False) for key in issuer.keys]}
                body = json.dumps(data).encode()
                self.send_response(200 if issuer.up else 500)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def token(self, key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        signer = key or self.keys[-1]
        said = {
            "iss": self.url, "aud": "holdfast", "exp": int(time.time()) + 300, "sub": "jo", "project_id": "p1",
            "roles": ["member"], **claims,
        }  # fmt: skip
        header = {"alg": algorithm, "kid": signer.kid}
        return jwt.encode(header, {name: value for name, value in said.items() if value is not None}, signer)

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def get(service: Service, token: str) -> httpx.Response:
    return service.bare().get("/v3/tasks", headers={"Authorization": f"Bearer {token}"})


def test_tokens_that_are_signed(make_service: MakeService, issuer: Issuer) -> None:
    service = make_service(identity="oidc", oidc_issuer=issuer.url, oidc_audience="holdfast", worker=False)
    client = service.bare()
    head = {"Authorization": f"Bearer {issuer.token()}"}
    task = client.post("/v3/tasks", json={"task": "quick"}, headers=head).json()["task"]
    assert (task["user_id"], task["project_id"]) == ("jo", "p1")
    assert get(service, issuer.token(aud=["other", "holdfast"])).status_code == 200
    for _ in range(3):
        assert get(service, issuer.token()).status_code == 200
    assert issuer.asked == 2  # the document and the keys, once
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    public = issuer.keys[0].as_pem(private=False)
    bad = {
        "another issuer": issuer.token(iss="https://other.example"),
        "another audience": issuer.token(aud="other"),
        "no audience": issuer.token(aud=None),
        "expired": issuer.token(exp=int(time.time()) - 3600),
        "endless": issuer.token(exp=None),
        "not yet": issuer.token(nbf=int(time.time()) + 3600),
        "another key": issuer.token(stranger),
        "no project": issuer.token(project_id=None),
        "no user": issuer.token(sub=None),
        "nonsense": "a.b.c",
        "unsigned": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqbyJ9.",
        "the public key as a secret": issuer.token(
            OctKey.import_key(hashlib.sha256(public).hexdigest(), {"kid": "one"}), "HS256"
        ),
    }
    for why, token in bad.items():
        answer = get(service, token)
        assert answer.status_code == 401, why
        assert answer.headers["www-authenticate"].startswith("Bearer"), why
    problem(get(service, issuer.token(roles=[])), 403, "policy.forbidden")


def test_headers_of_tokens_that_make_no_sense(make_service: MakeService, issuer: Issuer) -> None:
    """Nobody has signed them, so anybody can send them."""
    service = make_service(identity="oidc", oidc_issuer=issuer.url, oidc_audience="holdfast", worker=False)
    headers: tuple[Any, ...] = (
        {"alg": "EdDSA", "kid": "one"}, {"alg": "ES256", "kid": "one"}, {"alg": "RS256", "kid": {}}, {"alg": []}, [],
        {"alg": "RS256", "kid": "one", "crit": 5}, {"alg": "RS256", "kid": "one", "crit": [[]]}, None,
    )  # fmt: skip
    for header in headers:
        head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        assert problem(get(service, f"{head}.e30.AAAA"), 401, "auth.required")["detail"], header


def test_the_claims_that_count_are_settings(make_service: MakeService, issuer: Issuer) -> None:
    service = make_service(
        identity="oidc", oidc_issuer=issuer.url, oidc_audience="holdfast", oidc_jwks_url=f"{issuer.url}/keys",
        oidc_user_claim="email", oidc_project_claim="https://example.org/tenant",
        oidc_roles_claim="realm_access.roles", worker=False,
    )  # fmt: skip
    claims = {"email": "jo@example.org", "https://example.org/tenant": "t7", "realm_access": {"roles": ["member"]}}
    key = ECKey.generate_key("P-256", {"kid": "two"})
    issuer.keys.append(key)
    head = {"Authorization": f"Bearer {issuer.token(key, 'ES256', **claims)}"}
    task = service.bare().post("/v3/tasks", json={"task": "quick"}, headers=head).json()["task"]
    assert (task["user_id"], task["project_id"]) == ("jo@example.org", "t7")
    assert issuer.asked == 1


def test_an_issuer_changes_its_keys_and_goes_down(
    make_service: MakeService, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(identity="oidc", oidc_issuer=issuer.url, oidc_audience="holdfast", worker=False)
    issuer.up = False
    problem(get(service, issuer.token()), 503, "auth.issuer_unreachable")
    issuer.up = True
    assert get(service, issuer.token()).status_code == 200
    issuer.keys = [RSAKey.generate_key(2048, {"kid": "next"})]
    assert get(service, issuer.token()).status_code == 401  # it has just looked
    monkeypatch.setattr("holdfast.service.oidc.REFRESH_S", 0.0)
    assert get(service, issuer.token()).status_code == 200
    issuer.up = False
    asked = issuer.asked
    assert get(service, issuer.token()).status_code == 200  # what it knows goes on
    assert issuer.asked == asked


def test_keys_are_a_set(issuer: Issuer) -> None:
    assert KeySet(issuer.keys).keys[0].kid == "one"


# --- policy and rates --------------------------------------------------------------------------------------------


def test_a_policy_changes_single_rules(make_service: MakeService, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"tasks:log": ["auditor"], "tasks:create": [], "tasks:control": ["reader"]}))
    service = make_service(policy_file=str(file), worker=False)
    assert problem(service.client().post("/v3/tasks", json={"task": "quick"}), 403, "policy.forbidden")["rule"] == (
        "tasks:create"
    )
    assert service.client(roles="reader").post("/v3/tasks/none/cancel").status_code == 404
    assert service.client(roles="auditor").get("/v3/tasks/none/log").status_code == 404
    assert service.client(roles="admin").get("/v3/tasks/none/log").status_code == 403


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"tasks:raed": []}', "there is no rule tasks:raed; there are tasks:read"),
        ('{"tasks:read": "reader"}', "has to be a list of roles"),
        ("[]", "has to be an object"),
        ("{", "is no JSON"),
    ],
)
def test_a_policy_with_a_mistake_is_refused_at_once(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "policy.json"
    file.write_text(text)
    with pytest.raises(SettingInvalid, match=says):
        Policy.load(str(file))
    with pytest.raises(SettingInvalid, match="can't be read"):
        Policy.load(str(tmp_path / "none"))


def test_roles_include_those_beneath_them() -> None:
    policy = Policy()
    rows = {role: identity.Caller("u", "p", frozenset((role,))) for role in ("reader", "member", "agent", "admin")}
    assert {rule for rule in RULES if policy.allows(rows["admin"], rule)} == set(RULES)
    assert policy.allows(rows["member"], "tasks:read")
    assert policy.allows(rows["agent"], "tasks:read")
    assert not policy.allows(rows["agent"], "tasks:control")
    assert not policy.allows(rows["reader"], "tasks:create")
    assert not any(policy.allows(rows["member"], rule) for rule in ("tasks:force", "tasks:host", "tasks:all_projects"))


def test_an_agent_is_known_by_its_role() -> None:
    made = identity.caller_of("host1", "p", ["agent:hv1", "agent:hv2"])
    assert (made.origin, made.roles, made.pools) == ("agent:host1", frozenset({"agent"}), ("hv1", "hv2"))


@pytest.mark.requirement("TF-13")
def test_rates_are_each_projects_own(make_service: MakeService) -> None:
    service = make_service(rate_limit="5/minute", worker=False)
    one, other = service.client("a"), service.client("b")
    answers = [one.get("/v3/tasks") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    problem(answers[-1], 429, "rate")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert other.get("/v3/tasks").status_code == 200
    assert one.get("/healthz").status_code == 200
    with pytest.raises(SettingInvalid, match="rate_limit"):
        make_service(rate_limit="many")


def test_guessing_tokens_takes_long(make_service: MakeService, tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens", known=MEMBER, right=MEMBER)
    service = make_service(identity="tokens", tokens_file=str(tmp_path / "tokens"), worker=False)
    client = service.bare()

    def tried(token: str) -> httpx.Response:
        return client.get("/v3/tasks", headers={"X-Auth-Token": token})

    assert tried("known").status_code == 200
    guesses = [tried(f"guess {place}") for place in range(60)]
    assert {answer.status_code for answer in guesses} == {401, 429}
    while (refused := tried("one more")).status_code != 429:  # it was slow, and the bar is gone again
        pass
    problem(refused, 429, "rate")
    assert int(refused.headers["retry-after"]) >= 1
    problem(tried("right"), 429, "rate")  # a guess that is right is limited too
    assert tried("known").status_code == 200, "who was here before is not shut out by a neighbour"


def test_who_guesses_is_barred_for_a_while() -> None:
    clock = FakeClock()
    strangers = Strangers(clock=clock)

    def token(text: str) -> dict[str, str]:
        return {"x-auth-token": text}

    def guess() -> None:
        while True:
            strangers.bad("10.0.0.1", token("guess"))

    strangers.good("10.0.0.1", token("known"))
    with pytest.raises(RateLimited):
        guess()
    with pytest.raises(RateLimited):
        strangers.check("10.0.0.1", token("right"))
    with pytest.raises(RateLimited):
        strangers.check("10.0.0.1", {"authorization": "Bearer right"})
    strangers.check("10.0.0.1", token("known"))
    strangers.check("10.0.0.2", token("right"))
    with pytest.raises(RateLimited):
        strangers.check("10.0.0.1", {"authorization": "known"})
    clock.advance(1.0)
    strangers.check("10.0.0.1", token("right"))


def test_what_is_kept_of_strangers_is_bounded() -> None:
    clock = FakeClock()
    strangers = Strangers(clock=clock)
    for place in range(limits.TOKENS_MAX + 10):
        strangers.good("10.0.0.1", {"x-auth-token": str(place)})
    assert len(strangers._good) == limits.TOKENS_MAX
    strangers.bad("10.0.0.1", {"x-auth-token": str(limits.TOKENS_MAX)})
    assert len(strangers._good) == limits.TOKENS_MAX - 1, "one that was taken back is good no more"


@pytest.mark.requirement("TF-13")
def test_quotas_are_refused_with_a_time_to_come_back(make_service: MakeService) -> None:
    service = make_service(quota_live_tasks=2, worker=False)
    client = service.client()
    for _ in range(2):
        service.submit("waiting", client=client)
    answer = client.post("/v3/tasks", json={"task": "waiting"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert service.client("other").post("/v3/tasks", json={"task": "waiting"}).status_code == 202


@pytest.mark.requirement("TF-13")
def test_a_retry_counts_as_any_other_task(make_service: MakeService) -> None:
    service = make_service(quota_live_tasks=2, worker=False)
    client = service.client()
    ended = [service.submit("waiting", client=client)["uuid"] for _ in range(2)]
    for uuid in ended:
        assert client.post(f"/v3/tasks/{uuid}/cancel").json()["task"]["state"] == "CANCELLED"
    live = [service.submit("waiting", client=client)["uuid"] for _ in range(2)]
    again: dict[str, Any] = {"headers": {"Task-tag": "again"}}
    problem(client.post(f"/v3/tasks/{ended[0]}/retry", **again), 429, "quota")
    client.post(f"/v3/tasks/{live[0]}/cancel")
    assert client.post(f"/v3/tasks/{ended[0]}/retry", **again).status_code == 202
    assert client.post(f"/v3/tasks/{ended[0]}/retry").status_code == 202  # the one there is, which makes no new one
