"""Bearer tokens of OpenID Connect: their signature, who issued them, for whom, and until when.

The issuer's keys are fetched when they are first needed, and again when a token names one that is not among them, but
not more often than `REFRESH_S`, so that forged tokens make no traffic. Which claim is the user, the project and the
roles is a matter of settings, because every issuer has its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import AuthRequired, SettingInvalid
from holdfast.service.identity import CHALLENGE, Caller, Headers, caller_of, token_of
from holdfast.service.problems import IssuerUnreachable

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

    from holdfast.settings import Settings

#: Signatures by a key pair. A shared secret would let whoever checks a token make one.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REFRESH_S: Final = 30.0  # between two looks at the issuer's keys for one that is not known
KEEP_S: Final = 3600.0  # after which they are looked at again anyway
LEEWAY_S: Final = 30  # clocks differ
FETCH_S: Final = 5.0
BYTES_MAX: Final = 1 << 20


class Oidc:
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        for name in ("oidc_issuer", "oidc_audience"):
            if getattr(settings, name) is None:
                raise SettingInvalid(f"identity is oidc: set {name} too")
        self._settings = settings
        self._keys: KeySet | None = None
        self._fetched_at = self._failed_at = float("-inf")
        self._lock = asyncio.Lock()

    async def identify(self, headers: Headers, peer: str) -> Caller:
        token = token_of(headers)
        claims = await self._claims(token)
        settings = self._settings
        user = _text(claims, settings.oidc_user_claim)
        project = _text(claims, settings.oidc_project_claim)
        roles = _at(claims, settings.oidc_roles_claim)
        if isinstance(roles, str):
            roles = roles.replace(",", " ").split()
        if not isinstance(roles, list):
            roles = []
        return caller_of(user, project, roles)

    async def _claims(self, token: str) -> Mapping[str, Any]:
        """What the token says, once it is proven. Raises: AuthRequired, IssuerUnreachable."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        keys = await self._known_keys()
        try:
            decoded = self._decoded(token, keys)
        except (JoseError, ValueError) as error:
            fresh = await self._known_keys(after=error)
            if fresh is keys:
                raise _refused(error) from None
            try:
                decoded = self._decoded(token, fresh)
            except (JoseError, ValueError) as again:
                raise _refused(again) from None
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": str(self._settings.oidc_issuer)},
            aud={"essential": True, "value": str(self._settings.oidc_audience)},
            exp={"essential": True},
        )
        try:
            registry.validate(decoded)
        except JoseError as error:
            raise _refused(error) from None
        return decoded

    def _decoded(self, token: str, keys: KeySet) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        try:
            return jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
        except JoseError:
            raise
        except Exception as error:  # a header that nobody signs, over which the library stumbles
            raise ValueError("it can't be read") from error

    async def _known_keys(self, after: Exception | None = None) -> KeySet:
        """The issuer's keys. `after`: those that are known did not do; others may be there by now."""
        now = asyncio.get_running_loop().time()
        age = now - self._fetched_at
        if self._keys is not None and age < (KEEP_S if after is None else REFRESH_S):
            return self._keys
        async with self._lock:
            if self._keys is not None and self._fetched_at >= now:  # while we waited
                return self._keys
            if self._keys is None and self._failed_at >= now:  # so did who asked before: don't ask one after the other
                raise IssuerUnreachable("the issuer's keys can't be had")
            try:
                self._keys = await self._fetch()
            except IssuerUnreachable:
                if self._keys is None:
                    self._failed_at = asyncio.get_running_loop().time()
                    raise
            self._fetched_at = asyncio.get_running_loop().time()
            return self._keys

    async def _fetch(self) -> KeySet:
        import httpx
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        url = self._settings.oidc_jwks_url
        try:
            async with httpx.AsyncClient(timeout=FETCH_S, follow_redirects=False) as client:
                if url is None:
                    issuer = str(self._settings.oidc_issuer).rstrip("/")
                    found = await _json(client, f"{issuer}/.well-known/openid-configuration")
                    url = str(found["jwks_uri"])
                return KeySet.import_key_set(await _json(client, url))
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
            raise IssuerUnreachable(f"the issuer's keys can't be had: {type(error).__name__}") from error


async def _json(client: Any, url: str) -> Any:
    answer = await client.get(url)
    answer.raise_for_status()
    if len(answer.content) > BYTES_MAX:
        raise ValueError("too much for a set of keys")
    return answer.json()


def _refused(error: Exception) -> AuthRequired:
    why = getattr(error, "error", "") or type(error).__name__
    return AuthRequired(
        f"the token is no good: {why}", headers={"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
    )


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim; a dot leads into an object, unless the whole is the name of a claim."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _text(claims: Mapping[str, Any], path: str) -> str:
    found = _at(claims, path)
    if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
        raise AuthRequired(f"the token has no {path}", headers={"WWW-Authenticate": CHALLENGE})
    return str(found)
