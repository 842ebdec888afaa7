"""Who may do what: one table, rule -> roles, of which a file may change single rows.

A role includes those beneath it, as Keystone's defaults do: an admin is a member, a member a reader. Whose tasks
somebody sees is not a rule: a project's own, unless `tasks:all_projects` lets him see more. Who has which role:
identity.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from holdfast.errors import PolicyForbidden, SettingInvalid
from holdfast.service.identity import Caller

READER, MEMBER, SERVICE, ADMIN = "reader", "member", "service", "admin"
#: Who has the one has the others too.
IMPLIED: Final = {ADMIN: (MEMBER, READER, SERVICE), MEMBER: (READER,), "agent": (SERVICE,), SERVICE: (READER,)}

RULES: Final[Mapping[str, tuple[str, ...]]] = {
    "tasks:read": (READER,),
    "tasks:create": (MEMBER, "agent"),
    "tasks:control": (MEMBER,),
    "tasks:deliver": (MEMBER, SERVICE),
    "tasks:all_projects": (ADMIN,),
    "tasks:log": (ADMIN,),
    "tasks:traceback": (ADMIN,),
    "tasks:host": (ADMIN,),
    "tasks:force": (ADMIN,),
    "resources:read": (READER,),
    "resources:write": (MEMBER,),
    "resources:reconcile": (MEMBER,),
    "schedules:read": (READER,),
    "schedules:write": (MEMBER,),
    "events:read": (READER,),
    "webhooks:read": (MEMBER,),
    "webhooks:write": (MEMBER,),
    "leases:hold": (SERVICE,),
    "workers:read": (ADMIN,),
    "workers:control": (ADMIN,),
    "metrics:read": (READER,),
    "schemas:read": (READER,),
}


class Policy:
    """Which roles satisfy which rule."""

    def __init__(self, changes: Mapping[str, object] | None = None, *, source: str = "the policy") -> None:
        table: dict[str, tuple[str, ...]] = dict(RULES)
        for rule, roles in (changes or {}).items():
            if rule not in RULES:
                raise SettingInvalid(f"{source}: there is no rule {rule}; there are {', '.join(RULES)}")
            if not isinstance(roles, list) or not all(isinstance(role, str) and role for role in roles):
                raise SettingInvalid(f"{source}: {rule} has to be a list of roles, [] for nobody")
            table[rule] = tuple(role.lower() for role in roles)
        self.table: Final = table
        self._satisfied = {rule: _with_those_above(roles) for rule, roles in table.items()}

    @classmethod
    def load(cls, path: str | None) -> Policy:
        """Raises: SettingInvalid: the file can't be read, or names a rule that there is not."""
        if path is None:
            return cls()
        try:
            with open(path, encoding="utf-8") as file:
                changes = json.load(file)
        except OSError as error:
            raise SettingInvalid(f"policy_file {path} can't be read: {error.strerror}") from None
        except ValueError as error:
            raise SettingInvalid(f"policy_file {path} is no JSON: {error}") from None
        if not isinstance(changes, dict):
            raise SettingInvalid(f"policy_file {path} has to be an object: rule -> list of roles")
        return cls(changes, source=f"policy_file {path}")

    def allows(self, caller: Caller, rule: str) -> bool:
        return not caller.roles.isdisjoint(self._satisfied[rule])

    def check(self, caller: Caller, rule: str) -> None:
        """Raises: PolicyForbidden."""
        if not self.allows(caller, rule):
            roles = self.table[rule]
            needed = " or ".join(roles) if roles else "a role that nobody has"
            raise PolicyForbidden(f"{rule} needs the role {needed}", rule=rule)


def may_only_as_agent(caller: Caller) -> bool:
    """Whether it is an agent's role alone by which he may ask for tasks: then only for what agents may ask for."""
    return "agent" in caller.roles and caller.roles.isdisjoint((MEMBER, ADMIN))


def _with_those_above(roles: tuple[str, ...]) -> frozenset[str]:
    """The roles that satisfy any of these: themselves, and those that imply them."""
    found = set(roles)
    while more := {role for role, implied in IMPLIED.items() if found & set(implied)} - found:
        found |= more
    return frozenset(found)
