"""The base config: a user's YAML, read with the line of everything in it, and never trusted.

Its bounds are tighter than the runtime's: here one tenant's file takes everybody's time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from stackstore.config import legacy
from stackstore.config.document import Builder, Document
from stackstore.config.problems import Path, Problem
from stackstore.config.report import Reading
from stackstore_operator.api.conditions import Reason
from stackstore_operator.render.model import RenderError

SOURCE = "the base config"
MAX_BYTES = 128 * 1024
MAX_VALUES = 5_000
MAX_DEPTH = 64
"""A run config has some hundred values, some ten deep; each costs time in the operator's loop."""
_MAX_PROBLEMS = 10

_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
)


def parse(text: str) -> Document:
    """Read a base config.

    Returns:
        Its data and lines, without the `storage` section, which is replaced anyway.

    Raises:
        RenderError: it isn't a run config, or one of an earlier release; with every problem found,
            its line, and none of the values.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise failure("is not text that UTF-8 can hold") from None
    if size > MAX_BYTES:
        raise failure(f"is larger than {MAX_BYTES} bytes")
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        _check_events(loader)
        loader = yaml.SafeLoader(text)
        builder = Builder(loader, strict=True)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise failure("must be a mapping, with keys such as `providers:`")
        data = builder.mapping(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise failure(
            "is not YAML, or more than one document", mark.line + 1 if mark else 0
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise failure("holds a character that YAML does not allow", line) from None
    except (ValueError, OverflowError):
        # PyYAML's scanner stumbles over a few escapes (\U with too high a number) like this.
        raise failure("is not YAML: a broken escape", loader.line + 1) from None
    finally:
        loader.dispose()
    data.pop("storage", None)
    reading = Reading(Document(SOURCE, data, builder.lines), {}, builder.problems)
    legacy.report(reading)
    _check_shape(reading)
    raise_all(reading.problems)
    return reading.document


def failure(message: str, line: int = 0) -> RenderError:
    """The base config as a whole is at fault."""
    return invalid([Problem("", line, message)])


def invalid(problems: Iterable[Problem]) -> RenderError:
    """The problems as one error, the first ones in full."""
    found = sorted(problems, key=lambda problem: problem.line)
    texts = [problem.text(SOURCE) for problem in found[:_MAX_PROBLEMS]]
    if len(found) > _MAX_PROBLEMS:
        texts.append(f"and {len(found) - _MAX_PROBLEMS} more")
    return RenderError(Reason.BASE_CONFIG_INVALID, "\n".join(texts))


def raise_all(problems: list[Problem]) -> None:
    """Raise if there are any."""
    if problems:
        raise invalid(problems)


def _check_events(loader: yaml.SafeLoader) -> None:
    # Before anything is built, and only as far as the bounds go: deep nesting and aliases cost far
    # more to build than to see.
    depth = count = 0
    while loader.check_event():
        event = loader.get_event()  # type: ignore[no-untyped-call]
        count += 1
        line = event.start_mark.line + 1 if event.start_mark else 0
        if count > MAX_VALUES:
            raise failure(f"has more than {MAX_VALUES} values", line)
        if isinstance(event, yaml.AliasEvent):
            raise failure("uses a YAML alias (`*name`); write the values out", line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise failure(f"is nested deeper than {MAX_DEPTH} levels", line)
        tag = getattr(event, "tag", None)
        if tag not in {None, "!", *_TAGS}:
            raise failure("uses a YAML tag (`!…`) that is not one of plain data", line)


def _check_shape(reading: Reading) -> None:
    # Without these the server does not boot, and says little about why.
    data = reading.document.data
    if data.get("distro_name") is None and not isinstance(data.get("image_name"), str):
        reading.report(("distro_name",), "must be there", hint="give the stack a name")
    if "server" in data and not isinstance(data["server"], dict):
        reading.report(("server",), "must be a mapping", hint="remove it, or give it a port")
    providers = data.get("providers")
    if not isinstance(providers, dict):
        hint = "write `providers: {}` when there are none"
        reading.report(("providers",), "must be there, and a mapping", hint=hint)
        return
    for api, listed in providers.items():
        if not isinstance(listed, list):
            reading.report(("providers", api), "must be a list of providers")
            continue
        for index, entry in enumerate(listed):
            _check_provider(reading, ("providers", api, index), entry)


def _check_provider(reading: Reading, path: Path, entry: Any) -> None:
    if not isinstance(entry, dict):
        reading.report(path, "must be a mapping with `provider_id` and `provider_type`")
        return
    if not isinstance(entry.get("provider_id", False), str | None):
        reading.report((*path, "provider_id"), "must be there, and text")
    if not isinstance(entry.get("provider_type"), str):
        reading.report((*path, "provider_type"), "must be there, and text")
    if not isinstance(entry.get("config"), dict | None):
        reading.report((*path, "config"), "must be a mapping")
