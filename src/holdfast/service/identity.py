"""Who asks: one of four ways to know, by the setting `identity`.

`none` believes what it is told, and so is for loopback only. `tokens` knows the hashes of tokens. `keystone-proxy`
believes the headers of a proxy that has asked Keystone, if they come from one of the trusted addresses, and nobody
else's. `oidc` checks signed tokens: oidc.py. What a caller may do: policy.py.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from holdfast.errors import AuthRequired, SettingInvalid
from holdfast.service.problems import TokensUnreadable, log
from holdfast.settings import Settings

WAYS: Final = ("none", "tokens", "keystone-proxy", "oidc")
GUESSABLE: Final = ("tokens", "oidc")  # what else may be said is not secret, or a proxy's to check
ADMIN: Final = "admin"
AGENT: Final = "agent"
NAME_CHARS_MAX: Final = 255


class Caller(NamedTuple):
    """`origin`: as tasks say where they come from, `api` or `agent:<name>`. `pools`: that an agent serves; it may act
    in no other."""

    user_id: str
    project_id: str
    roles: frozenset[str]
    origin: str = "api"
    pools: tuple[str, ...] = ()


Headers = Mapping[str, str]
#: The headers of a request and the address of its peer ("" if it has none) -> who asks. Raises: AuthRequired.
Identify = Callable[[Headers, str], Awaitable[Caller]]


def make(settings: Settings) -> Identify:
    """The way that the settings name. Raises: SettingInvalid."""
    way = settings.identity
    if way not in WAYS:
        raise SettingInvalid(f"identity is {way!r}, but has to be one of {', '.join(WAYS)}")
    if way == "none":
        if not is_loopback(settings.host):
            raise SettingInvalid(
                f"identity is none, which believes everybody, and host is {settings.host}, which others can reach: "
                "listen on 127.0.0.1, or set identity to tokens, keystone-proxy or oidc"
            )
        return believe
    if way == "tokens":
        return Tokens(_needed(settings.tokens_file, "tokens_file", way)).identify
    if way == "keystone-proxy":
        return Proxy(settings.trusted_proxies).identify
    from holdfast.service.oidc import Oidc

    return Oidc(settings).identify


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=64)  # it is the same with nearly every request
def _is_here(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _needed(value: str | None, name: str, way: str) -> str:
    if value is None:
        raise SettingInvalid(f"identity is {way}: set {name} too")
    return value


async def believe(headers: Headers, peer: str) -> Caller:
    """`none`. Who does not say is the administrator of the project `default`, on his own machine.

    Every page in his browser reaches this machine too. What one of another site asks for has that site as its origin;
    and a site whose name was made to lead here (DNS rebinding) is the host that is asked.
    """
    for name, prefix in (("host", "//"), ("origin", "")):
        given = headers.get(name)
        if given is not None and not _is_here(prefix + given):
            raise AuthRequired(
                f"identity is none, which believes this machine only, and the {name} is {given[:80]!r}: ask for"
                " localhost or 127.0.0.1, or set identity to tokens, keystone-proxy or oidc",
                headers={"WWW-Authenticate": CHALLENGE},
            )
    roles = headers.get("x-roles")
    return caller_of(
        headers.get("x-user-id", ""),
        headers.get("x-project-id") or "default",
        (ADMIN,) if roles is None else roles.split(","),
    )


class Tokens:
    """A file of JSON: {sha256 of a token in hex: {"user": …, "project": …, "roles": […]}}. It is read again when it has
    changed, so that a token can be taken back without a restart."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._known: dict[str, Caller] = {}
        self._told = ""  # what was wrong with the file last
        self._look()

    async def identify(self, headers: Headers, peer: str) -> Caller:
        token = token_of(headers)
        try:
            self._look()
        except SettingInvalid as error:  # nobody, then: it may be there to take a token back
            if self._told != str(error):
                self._told = str(error)
                log.error("%s", error)
            raise TokensUnreadable from None
        found = self._known.get(hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest())
        if found is None:
            raise AuthRequired("the token is not known here", headers={"WWW-Authenticate": CHALLENGE})
        return found

    def _look(self) -> None:
        try:
            now = os.stat(self._path)
            if (now.st_mtime_ns, now.st_size) == self._seen:
                return
            with open(self._path, encoding="utf-8") as file:
                data = json.load(file)
            self._known = {_hash(key): _known(value) for key, value in data.items()}
            self._seen = (now.st_mtime_ns, now.st_size)
        except OSError as error:
            raise SettingInvalid(f"tokens_file {self._path} can't be read: {error.strerror}") from None
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise SettingInvalid(
                f'tokens_file {self._path} has to be JSON: {{sha256: {{"user", "project", "roles"}}}}: {error}'
            ) from None


def _hash(text: str) -> str:
    if len(text) != 64 or set(text.lower()) - set("0123456789abcdef"):
        raise ValueError(f"{text[:8]}… is no sha256 in hex")
    return text.lower()


def _known(value: Any) -> Caller:
    roles = value["roles"]
    if not isinstance(roles, list):
        raise ValueError("roles is a list")
    return caller_of(str(value["user"]), str(value["project"]), roles)


class Proxy:
    """Peers are named by address or network, as `10.0.0.0/8`; `unix` is a socket file."""

    def __init__(self, trusted: str) -> None:
        words = [word.strip() for word in trusted.split(",") if word.strip()]
        self._unix = "unix" in words
        try:
            self._networks = [ipaddress.ip_network(word, strict=False) for word in words if word != "unix"]
        except ValueError as error:
            raise SettingInvalid(f"trusted_proxies: {error}") from None

    def trusts(self, peer: str) -> bool:
        if not peer:
            return self._unix
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)

    async def identify(self, headers: Headers, peer: str) -> Caller:
        if not self.trusts(peer):
            raise AuthRequired("ask through the proxy that knows you", headers={"WWW-Authenticate": KEYSTONE})
        if headers.get("x-identity-status") != "Confirmed":
            raise AuthRequired("the token was not confirmed", headers={"WWW-Authenticate": KEYSTONE})
        project, user = headers.get("x-project-id", ""), headers.get("x-user-id", "")
        if not project or not user:
            raise AuthRequired("the token is for no project", headers={"WWW-Authenticate": KEYSTONE})
        return caller_of(user, project, headers.get("x-roles", "").split(","))


CHALLENGE: Final = 'Bearer realm="holdfast"'
KEYSTONE: Final = 'Keystone uri="/"'


def token_of(headers: Headers) -> str:
    """Of `X-Auth-Token` or `Authorization: Bearer`. Raises: AuthRequired."""
    token = headers.get("x-auth-token", "")
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        if token and not hmac.compare_digest(token.encode(), bearer.strip().encode()):
            raise AuthRequired(
                "X-Auth-Token and Authorization have different tokens", headers={"WWW-Authenticate": CHALLENGE}
            )
        token = bearer.strip()
    if not token:
        raise AuthRequired(
            "say who you are: X-Auth-Token, or Authorization: Bearer", headers={"WWW-Authenticate": CHALLENGE}
        )
    return token


def caller_of(user: str, project: str, roles: Iterable[object]) -> Caller:
    """Who asks, as his way of identity tells. The role `agent:hv1` is that of an agent that serves the pool hv1.

    Raises: AuthRequired: no names that could be kept.
    """
    return _caller(user, project, tuple(map(str, roles)))


@lru_cache(maxsize=256)  # most requests are of somebody who has just asked for something else
def _caller(user: str, project: str, roles: tuple[str, ...]) -> Caller:
    for name in (user, project):
        if len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise AuthRequired(f"a user or a project is named by {NAME_CHARS_MAX} printable letters at most")
    known: set[str] = set()
    pools = []
    for each in roles:
        role, _, pool = each.strip().partition(":")
        if role.lower() == AGENT and pool:
            pools.append(pool)
        known.add(role.lower() if role.lower() == AGENT else each.strip().lower())
    known.discard("")
    return Caller(user, project, frozenset(known), f"{AGENT}:{user}" if AGENT in known else "api", tuple(pools))
