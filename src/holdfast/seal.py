"""Sealing of secrets: authenticated encryption with keys that can be changed.

`cryptography` (the extra `holdfast[secrets]`) is imported when the first Secret is met and not before. The newest key
comes first and seals; every key unseals, so a key is changed by putting a new one in front of the old ones.

What a Secret is, and that it is never shown: core/values.py. Where the keys come from: settings.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.errors import SecretKeyMissing

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class Sealer:
    """Seals and unseals text. `read_keys` gives the keys, separated by white space or commas, newest first; it is
    called once, when the first secret is met. Safe to use from several threads."""

    __slots__ = ("_box", "_keys", "_read_keys")

    def __init__(self, read_keys: Callable[[], str | None]) -> None:
        self._read_keys = read_keys
        self._keys: list[str] | None = None
        self._box: MultiFernet | None = None

    def seal(self, text: str) -> str:
        """Encrypt. The same text gives another token each time. Raises: SecretKeyMissing."""
        return self._fernet().encrypt(text.encode()).decode()

    def unseal(self, token: str) -> str:
        """Decrypt. Raises: SecretKeyMissing: there is no key, or not the one it was sealed with."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet().decrypt(token).decode()
        except InvalidToken:
            raise SecretKeyMissing(
                "a secret was sealed with a key that isn't here: put that key behind the new one in HOLDFAST_SECRET_KEY"
            ) from None

    def mark(self, text: str) -> str:
        """A word that is the same for the same text and tells nothing about it: for comparing requests that hold
        secrets. It changes with the oldest key, not with new ones."""
        import hashlib
        import hmac

        self._fernet()
        assert self._keys is not None
        return hmac.new(self._keys[-1].encode(), text.encode(), hashlib.sha256).hexdigest()

    def _fernet(self) -> MultiFernet:
        if self._box is None:
            keys = (self._read_keys() or "").replace(",", " ").split()
            if not keys:
                raise SecretKeyMissing
            try:
                from cryptography.fernet import Fernet, MultiFernet
            except ImportError:
                raise SecretKeyMissing(
                    "secrets are sealed with `cryptography`, which isn't installed: pip install 'holdfast[secrets]'"
                ) from None
            try:
                self._box = MultiFernet([Fernet(key) for key in keys])
            except ValueError:
                raise SecretKeyMissing(
                    "HOLDFAST_SECRET_KEY isn't a key (32 bytes in URL-safe base64): "
                    "`holdfast doctor --new-key` prints one"
                ) from None
            self._keys = keys
        return self._box


def new_key() -> str:
    """A new random key, as HOLDFAST_SECRET_KEY takes it."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
