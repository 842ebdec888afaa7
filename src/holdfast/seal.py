"""Sealing of secrets: authenticated encryption with keys that can be changed.

`cryptography` (the extra `holdfast[secrets]`) is imported when the first Secret is met and not before. The newest key
comes first and seals; every key unseals, so a key is changed by putting a new one in front of the old ones. A file of
keys is read each time, so whoever runs already has a new key at once.

What a Secret is, and that it is never shown: core/values.py. Where the keys come from: settings.py. How what is stored
gets the newest key: store/sealed.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from holdfast.errors import SecretKeyMissing, UsageError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet, MultiFernet


class _Keys(NamedTuple):
    text: str
    box: MultiFernet
    newest: Fernet


class Sealer:
    """Seals and unseals text. `read_keys` gives the keys, separated by white space or commas, newest first. Keys that
    could be used once are used on while what it gives can't be: a file may be looked at while it is written. Safe to
    use from several threads."""

    __slots__ = ("_keys", "_read_keys")

    def __init__(self, read_keys: Callable[[], str | None]) -> None:
        self._read_keys = read_keys
        self._keys: _Keys | None = None

    def seal(self, text: str) -> str:
        """Encrypt. The same text gives another token each time. Raises: SecretKeyMissing."""
        return self._now().box.encrypt(text.encode()).decode()

    def unseal(self, token: str) -> str:
        """Decrypt. Raises: SecretKeyMissing: there is no key, or not the one it was sealed with."""
        from cryptography.fernet import InvalidToken

        try:
            return self._now().box.decrypt(token).decode()
        except InvalidToken:
            raise SecretKeyMissing(
                "a secret was sealed with a key that isn't here: put that key behind the new one in HOLDFAST_SECRET_KEY"
            ) from None

    def is_newest(self, token: str) -> bool:
        """Whether the newest key opens it. Raises: SecretKeyMissing."""
        from cryptography.fernet import InvalidToken

        try:
            self._now().newest.decrypt(token)
        except InvalidToken:
            return False
        return True

    def _now(self) -> _Keys:
        known = self._keys
        try:
            text = self._read_keys()
            if known is None or text != known.text:
                self._keys = known = _keys_of(text or "")
        except UsageError:
            if known is None:
                raise
        return known


def _keys_of(text: str) -> _Keys:
    """Raises: SecretKeyMissing."""
    keys = text.replace(",", " ").split()
    if not keys:
        raise SecretKeyMissing
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        raise SecretKeyMissing(
            "secrets are sealed with `cryptography`, which isn't installed: pip install 'holdfast[secrets]'"
        ) from None
    try:
        boxes = [Fernet(key) for key in keys]
    except ValueError:
        raise SecretKeyMissing(
            "HOLDFAST_SECRET_KEY isn't a key (32 bytes in URL-safe base64): `holdfast key new` prints one"
        ) from None
    return _Keys(text, MultiFernet(boxes), boxes[0])


def new_key() -> str:
    """A new random key, as HOLDFAST_SECRET_KEY takes it."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
