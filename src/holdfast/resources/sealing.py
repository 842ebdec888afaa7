"""Secrets in documents: what a kind names as such (`Kind(secrets=…)`) is sealed wherever it is kept, and never shown.

Theory: a document comes in with the secret in the clear, and leaves the admission with an `hf.Secret` in its place; all
that is stored, steps' values too, is text of the codec, which seals those. So the flow of an operation is given a
document with Secrets in it, and opens them where it needs them: in the call of a driver. Whoever sends back a document
as it was shown to him means the secret that there is.

The key, and what becomes of it: seal.py. What can't be opened, and how keys are changed: store/sealed.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.core.values import Secret, decode
from holdfast.errors import DocumentInvalid
from holdfast.tasks.show import HIDDEN

if TYPE_CHECKING:
    from holdfast.resources.kind import Kind
    from holdfast.seal import Sealer


def opened(document: Any) -> Any:
    """A document, or a part of one, with its secrets in the clear, for a call of a driver: keep it nowhere.

    Raises: SecretKeyMissing.
    """
    if isinstance(document, Secret):
        return document.reveal()
    if isinstance(document, Mapping):
        return {name: opened(value) for name, value in document.items()}
    return [opened(value) for value in document] if isinstance(document, list) else document


def guarded(kind: Kind, given: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a document that somebody has given. `current`: what is desired by now.

    A secret that is not said again stays with what stands beside it, which says where it is sent: who could change that
    alone would have it sent to himself.

    Raises: DocumentInvalid.
    """
    secret = set(kind.secrets_of(given)) | set(kind.secrets_of(current))

    def guard(path: str, value: Any) -> Any:
        if value == HIDDEN:
            kept = _at(current, path)
            if kept is None:
                raise DocumentInvalid(
                    f"{path}: {HIDDEN} stands for the one that is stored, and there is none", field=path
                )
            changed = _beside(given, current, path, secret)
            if changed:
                raise DocumentInvalid(
                    f"{path}: say it again, because {', '.join(changed)} changes: {HIDDEN} goes where it went before",
                    field=path,
                )
            return kept
        if not isinstance(value, str):
            raise DocumentInvalid(f"{path}: a secret is text", field=path)
        return Secret(value)

    return _changed(kind, given, guard)


def _beside(given: Mapping[str, Any], current: Mapping[str, Any], path: str, secret: set[str]) -> list[str]:
    """What stands beside the secret, in the object that it is in, and differs."""
    at = path.rpartition(".")[0]
    if not at:
        return []
    now, then = _at(given, at) or {}, _at(current, at) or {}
    paths = {f"{at}.{name}": name for name in [*now, *then]}
    return sorted(where for where, name in paths.items() if where not in secret and now.get(name) != then.get(name))


def read(sealer: Sealer, text: str) -> dict[str, Any]:
    """A stored document, with its Secrets."""
    found: dict[str, Any] = decode(text, sealer.unseal)
    return found


def _changed(kind: Kind, document: Mapping[str, Any], change: Callable[[str, Any], Any]) -> dict[str, Any]:
    """A copy in which each secret that is there is what `change` makes of it."""
    made = dict(document)
    for path in kind.secrets_of(document):
        made = _changed_at(made, path.split("."), lambda value, path=path: change(path, value))  # type: ignore[misc]
    return made


def _changed_at(at: dict[str, Any], names: list[str], change: Callable[[Any], Any]) -> dict[str, Any]:
    name, *below = names
    value = at.get(name)
    if not below:
        return at if value is None else {**at, name: change(value)}
    return {**at, name: _changed_at(value, below, change)} if isinstance(value, dict) else at


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document
