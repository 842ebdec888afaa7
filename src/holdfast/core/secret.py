"""A value that is never shown. How it is written and read back: core/values.py. How it is sealed: seal.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.errors import SecretKeyMissing

Seal = Callable[[str], str]


class Secret:
    """A value that is encrypted at rest and never shown: only `reveal()` gives it back.

    One that was read back is unsealed when it is revealed, so lists and traces need no key.
    """

    __slots__ = ("_sealed", "_unseal", "_value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any) -> None:
        self._value = value
        self._sealed: str | None = None
        self._unseal: Seal | None = None

    @classmethod
    def _of_sealed(cls, sealed: str, unseal: Seal | None) -> Secret:
        secret = cls(None)
        secret._sealed = sealed
        secret._unseal = unseal
        return secret

    def reveal(self) -> Any:
        """The value. Raises: SecretKeyMissing: it was stored, and there is no key in this process."""
        if self._sealed is not None:
            if self._unseal is None:
                raise SecretKeyMissing
            from holdfast.core.values import decode

            self._value = decode(self._unseal(self._sealed), self._unseal)
            self._sealed = None
        return self._value

    def _as_sealed(self, seal: Seal) -> str | None:
        """As it was read back, if that was sealed by who would seal it now; None: it has to be."""
        owner = getattr(self._unseal, "__self__", None)
        return self._sealed if owner is not None and owner is getattr(seal, "__self__", None) else None

    def __eq__(self, other: object) -> bool:
        return bool(self.reveal() == other.reveal()) if isinstance(other, Secret) else NotImplemented

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("a Secret isn't pickled: that would write it in the clear")
