"""Tags: a name of the caller's for its request, so that asking twice makes one task.

Theory: the key is (project, tag); the fingerprint says what was asked for. The same request again is answered with
the task it made, whatever became of it; another request under the same tag is refused. When the task is purged its
tag stays as a tombstone for a while, so that a late repetition is told "gone" and does not run everything again.
Which situation gets which answer is a table in docs/how-to/find-tasks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, null, select, update

from holdfast.core.canonical import canonical
from holdfast.errors import TagInvalid, TagReused, TaskGone
from holdfast.seal import Sealer, new_key
from holdfast.store.base import Tx
from holdfast.store.schema import store_info, tags, tasks
from holdfast.tasks.claims import Claim

TAG_CHARS_MAX: Final = 255

_KEY = (tags.c.project_id == bindparam("_project")) & (tags.c.tag == bindparam("_tag"))
_FIND: Final = select(tags).where(_KEY).with_for_update()
_DROP: Final = delete(tags).where(_KEY)
_ADD: Final = insert(tags)
_NAMED: Final = select(tasks.c.uuid).where(tasks.c.id == bindparam("_id"))
_PEPPER: Final = select(store_info.c.pepper)
_SET_PEPPER: Final = update(store_info).where(store_info.c.pepper.is_(null())).values(pepper=bindparam("_pepper"))


def check(tag: str) -> str:
    """The tag itself. Raises: TagInvalid."""
    if not 0 < len(tag) <= TAG_CHARS_MAX or not all("!" <= letter <= "~" for letter in tag):
        raise TagInvalid(f"a tag is 1 to {TAG_CHARS_MAX} visible ASCII characters: {tag[:40]!r} is not", tag=tag[:40])
    return tag


def fingerprint(flow: str, inputs: str, claims: Sequence[Claim]) -> str:
    """What a request asks for, as a hash. `inputs` is JSON text, of which neither the order of keys, nor blanks, nor
    1 against 1.0 make a difference."""
    from json import loads

    return hashed([flow, loads(inputs), [list(claim) for claim in claims]])


def hashed(data: Any) -> str:
    """JSON data as a hash that is equal where the data is: of a request of HTTP, [method, path and query, body]."""
    from hashlib import sha256

    return sha256(canonical(data).encode("utf-8", "surrogatepass")).hexdigest()


def marked(tx: Tx, sealer: Sealer, text: str) -> str:
    """A hash of what holds a secret: equal where the text is, but nobody who has only the database can try out what it
    was made of. It is the same whatever becomes of the keys that seal. Raises: SecretKeyMissing."""
    import hmac

    sealed = tx.execute(_PEPPER).scalar()
    if sealed is None:
        sealed = sealer.seal(new_key())
        if tx.execute(_SET_PEPPER, {"_pepper": sealed}).rowcount != 1:  # another process was quicker
            sealed = tx.execute(_PEPPER).scalar()
    return hmac.new(sealer.unseal(sealed).encode(), text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def find(tx: Tx, project_id: str, tag: str, asked: str, now: float, *, request: str = "") -> int | None:
    """The id of the task that this request made before, or None: the tag is free. `asked` is its fingerprint,
    `request` its name for people, as `POST /v3/servers`.

    Raises: TagReused: the tag names another request. TaskGone: the task it named has been purged. Their details tell
    what the tag named first: `task` (its uuid), `first_seen` (seconds), `request`.
    """
    where = {"_project": project_id, "_tag": tag}
    known = tx.execute(_FIND, where).first()
    if known is None:
        return None
    if known.expires_at is not None and known.expires_at <= now:
        tx.execute(_DROP, where)
        return None
    first = {"tag": tag, "first_seen": known.first_seen_at, "request": known.request}
    if known.task is None:
        raise TaskGone(f"the task tagged {tag} has been purged; its tag is free again later", **first)
    if known.fingerprint != asked:
        named = tx.execute(_NAMED, {"_id": known.task}).scalar()
        raise TagReused(_reused(tag, known.request, request, named), task=named, **first)
    return int(known.task)


def _reused(tag: str, first: str, now: str, task: str) -> str:
    if not first:
        return f"tag {tag} already names another request, that of task {task}: choose another tag"
    what = f"{first} with different parameters" if first == now else f"another request, {first}"
    return f"Task-tag {tag} already names {what} (task {task}): choose another tag"


def take(tx: Tx, project_id: str, tag: str, asked: str, task: int, now: float, *, request: str = "") -> None:
    """Let the tag, which `find` called free, name the task."""
    row = {"project_id": project_id, "tag": tag, "fingerprint": asked, "task": task, "expires_at": None}
    tx.execute(_ADD, {**row, "request": request, "first_seen_at": now})
