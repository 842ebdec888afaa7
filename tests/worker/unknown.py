"""Commits of which nobody knows what became."""

from __future__ import annotations

import threading

from holdfast.errors import StoreUnknown
from holdfast.local import Holdfast


class Unknown:
    """The next append of `hold` is stored, and nobody is told."""

    def __init__(self, hold: Holdfast) -> None:
        self._store, self._append = hold.store, hold.store.append
        self.happened = threading.Event()
        hold.store.append = self  # type: ignore[assignment,method-assign]

    def __call__(self, batch: object, *_: object) -> object:
        answers = self._append(batch)  # type: ignore[arg-type]
        self._store.append = self._append  # type: ignore[method-assign]
        self.happened.set()
        raise StoreUnknown(str(answers))
