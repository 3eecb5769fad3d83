"""What a user may do with a row, told plainly: one row, one rule, one condition after the other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

KINDS = ("roles", "teams", "projects", "namespaces")
DEFAULT = [
    *(
        {
            "permit": {"actions": ["create", "read", "update", "delete"]},
            "when": f"user in owners {kind}",
        }
        for kind in KINDS
    ),
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": ["create", "read", "update", "delete"]}, "when": "resource is unowned"},
]


@dataclass(frozen=True)
class Person:
    """A user or the writer of a row; principal None: nobody."""

    principal: str | None
    attributes: Any
    tenant: str | None = None


def permitted(
    rules: Any, settings: Any, user: Person, *, action: str, table: str, row_id: str, owner: Person
) -> bool:
    """Whether it is, under {auth, mode, default_tenant, unowned}."""
    tenant = user.tenant if settings["mode"] == "multi" else settings["default_tenant"]
    whose = owner.tenant if owner.tenant is not None else settings["default_tenant"]
    if whose != tenant:
        return False
    if not settings["auth"]:
        return True
    if owner.principal is None and settings["unowned"] == "deny":
        return False
    if rules == "strict":
        return strict(user, owner)
    name = f"sql_record::{table}::{row_id}"
    for rule in rules or DEFAULT:
        scope = rule.get("permit") or rule.get("forbid")
        actions = scope["actions"] if isinstance(scope["actions"], list) else [scope["actions"]]
        if action not in actions or scope.get("principal", user.principal) != user.principal:
            continue
        if "resource" in scope and not matches(scope["resource"], name):
            continue
        if rule.get("when") and not all(holds(word, user, owner) for word in listed(rule["when"])):
            continue
        if rule.get("unless") and all(holds(word, user, owner) for word in listed(rule["unless"])):
            continue
        return "permit" in rule
    return False


def strict(user: Person, owner: Person) -> bool:
    if owner.principal is None or owner.principal == user.principal:
        return True
    kinds = [kind for kind in KINDS if owner.attributes.get(kind)]
    return bool(kinds) and all(shared(kind, user, owner) for kind in kinds)


def listed(words):
    return words if isinstance(words, list) else [words]


def matches(pattern: str, name: str) -> bool:
    if pattern.startswith("regex:"):
        return re.fullmatch(pattern[6:], name, re.DOTALL) is not None
    if pattern.endswith("::*"):
        return name.startswith(pattern[:-1])
    return pattern == name


def shared(kind: str, user: Person, owner: Person) -> bool:
    return any(value in user.attributes.get(kind, []) for value in owner.attributes.get(kind, []))


def holds(words: str, user: Person, owner: Person) -> bool:
    match words.split():
        case ["user", "is", "owner"]:
            return owner.principal == user.principal
        case ["user", "is", "not", "owner"]:
            return owner.principal != user.principal
        case ["user", "with", value, "in", kind]:
            return value in user.attributes.get(kind, [])
        case ["user", "with", value, "not", "in", kind]:
            return value not in user.attributes.get(kind, [])
        case ["user", "in", "owners", kind]:
            return owner.principal is not None and shared(kind, user, owner)
        case ["user", "not", "in", "owners", kind]:
            return owner.principal is None or not shared(kind, user, owner)
        case ["resource", "is", "unowned"]:
            return owner.principal is None
    raise AssertionError(words)
