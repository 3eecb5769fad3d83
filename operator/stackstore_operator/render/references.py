"""Providers' own references to backends: the bound ones written into the base config, all checked.

The server looks at them only when it makes the provider, which is in the middle of its start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stackstore.config.document import Document
from stackstore.config.env import has_placeholder
from stackstore.config.problems import Path, Problem, dotted, nearest, shown
from stackstore_operator.api.conditions import Reason
from stackstore_operator.render.base import raise_all
from stackstore_operator.render.model import PlacedProvider, RenderError, ResolvedStack
from stackstore_operator.render.releases import Family, ProviderRule, Release

DISABLED = "__disabled__"
"""The server passes over a provider of this id."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A provider's use of a backend, as the finished config has it.

    Attributes:
        backend: None where only the server's environment tells.
        place: kv namespace or table; None likewise.
    """

    label: str
    rule: ProviderRule
    backend: str | None
    place: str | None


def reference(family: Family, backend: str, place: str) -> dict[str, Any]:
    """As the server writes one."""
    return {"backend": backend, "namespace" if family == "kv" else "table_name": place}


def fill(document: Document, stack: ResolvedStack) -> None:
    """Write the bound references into the providers they are bound to.

    Raises:
        RenderError: there is no such provider or field, or it takes another family.
    """
    for placed in stack.providers:
        rule = _rule(placed, stack.release)
        path, entry = _entry(document, placed)
        kind = entry["provider_type"]
        if kind not in rule.types and not _external(document, entry):
            raise RenderError(
                Reason.FIELD_UNKNOWN,
                f"{_where(placed)} is of type {_type(kind)}, which has no field '{placed.field}' in "
                f"{stack.release.name}; {', '.join(rule.types)} have",
            )
        if entry.get("config") is None:
            entry["config"] = {}
        _put(document, (*path, "config"), placed)


def found(document: Document, stack: ResolvedStack) -> list[Reference]:
    """Every reference of the finished config.

    Raises:
        RenderError: one does not name a backend of this stack, or one that the server needs to
            start is missing; with all of them.
    """
    problems: list[Problem] = []
    references: list[Reference] = []
    for (api, field), rule in stack.release.providers.items():
        for path, entry in _entries(document, api):
            if entry["provider_id"] in {None, DISABLED} or entry["provider_type"] not in rule.types:
                continue
            here = (*path, "config", *field.split("."))
            value = _at(entry.get("config"), field)
            problem = None
            if value is None:
                if rule.assumed and rule.assumed not in stack.backends:
                    problem = f"is missing, and the server would assume a backend '{rule.assumed}'"
                elif entry["provider_type"] in rule.required:
                    problem = "is missing, and the server does not start without it"
                if problem is None and not rule.assumed:
                    continue
                value = {"backend": rule.assumed}
            elif not isinstance(value, dict):
                problem = "must be a mapping with `backend` and " + _leaf(rule.family)
            if problem is None:
                problem = _misplaced(value, rule, stack)
            if problem is not None:
                hint = f"bind it: `spec.providers` with api '{api}' and field '{field}'"
                problems.append(Problem(dotted(here), document.line(here), problem, hint=hint))
            else:
                label = f"{api} provider{shown(entry['provider_id'])} field '{field}'"
                references.append(_reference(label, rule, value))
    raise_all(problems)
    return references


def _rule(placed: PlacedProvider, release: Release) -> ProviderRule:
    rule = release.providers.get((placed.api, placed.field))
    if rule is None:
        known = sorted(field for api, field in release.providers if api == placed.api)
        raise RenderError(
            Reason.FIELD_UNKNOWN,
            f"{_where(placed)}: {release.name} has no field '{placed.field}' there; "
            f"it has {', '.join(known) or 'none'}",
        )
    if rule.family != placed.family:
        raise RenderError(
            Reason.FAMILY_MISMATCH,
            f"{_where(placed)}: field '{placed.field}' is a {rule.family} reference; "
            f"give it {_leaf(rule.family)}",
        )
    return rule


def _where(placed: PlacedProvider) -> str:
    return f"provider '{placed.provider_id}' of `{placed.api}`"


def _type(kind: str) -> str:
    return f"'{kind}'" if re.fullmatch(r"[a-z0-9_:.-]{1,63}", kind) else "another kind"


def _leaf(family: Family) -> str:
    return "`namespace`" if family == "kv" else "`table_name`"


def _entries(document: Document, api: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for index, entry in enumerate(document.data["providers"].get(api, ())):
        yield ("providers", api, index), entry


def _entry(document: Document, placed: PlacedProvider) -> tuple[Path, dict[str, Any]]:
    entries = list(_entries(document, placed.api))
    matching = [found for found in entries if _is(found[1]["provider_id"], placed.provider_id)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        lines = ", ".join(str(document.line(path)) for path, _ in matching)
        raise RenderError(
            Reason.BASE_CONFIG_INVALID,
            f"the base config has {_where(placed)} more than once, in lines {lines}; keep one",
        )
    have = ", ".join(
        sorted(shown(entry["provider_id"]).strip() or "one with another id" for _, entry in entries)
    )
    raise RenderError(
        Reason.PROVIDER_NOT_FOUND,
        f"the base config has no {_where(placed)}; it has {have or 'none'} there",
    )


def _is(written: object, provider_id: str) -> bool:
    """Whether an id is this one, if only when a variable is set: `${env.MILVUS_URL:+milvus}`."""
    if written == provider_id:
        return True
    return isinstance(written, str) and bool(
        re.fullmatch(rf"\$\{{env\.[A-Z0-9_]+:[=+]{re.escape(provider_id)}\}}", written)
    )


def _external(document: Document, entry: Mapping[str, Any]) -> bool:
    """Whether the type may be one that does not come with the server."""
    return bool(entry.get("module") or document.data.get("external_providers_dir"))


def _put(document: Document, path: Path, placed: PlacedProvider) -> None:
    config = document.at(path)
    *above, last = placed.field.split(".")
    for level in above:
        path = (*path, level)
        if config.get(level) is None:
            config[level] = {}
        config = config[level]
        if not isinstance(config, dict):
            raise_all([Problem(dotted(path), document.line(path), "must be a mapping")])
    config[last] = reference(placed.family, placed.backend, placed.place)


def _at(config: Any, field: str) -> Any:
    for key in field.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _misplaced(value: Mapping[str, Any], rule: ProviderRule, stack: ResolvedStack) -> str | None:
    backend = value.get("backend")
    place = value.get("namespace" if rule.family == "kv" else "table_name", rule.place)
    if not isinstance(place, str) or not place:
        return f"has no {_leaf(rule.family)}"
    if not isinstance(backend, str):
        return "has no `backend`"
    if has_placeholder(backend):
        return None
    fitting = [name for name, b in stack.backends.items() if b.type.startswith(rule.family)]
    if backend in fitting:
        return None
    have = ", ".join(sorted(fitting)) or "none"
    return "; ".join(
        part
        for part in (
            f"refers to a backend{shown(backend)} that is no {rule.family} backend of this stack, "
            f"which has {have}",
            nearest(backend, fitting) if shown(backend) else "",
        )
        if part
    )


def _reference(label: str, rule: ProviderRule, value: Mapping[str, Any]) -> Reference:
    def known(text: Any) -> str | None:
        return None if has_placeholder(text) else text

    place = value.get("namespace" if rule.family == "kv" else "table_name", rule.place)
    return Reference(label, rule, known(value["backend"]), known(place))
