"""One reading of one document: its places, its placeholders, and the problems found so far."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stackstore.config.document import Document
from stackstore.config.env import UnsetVariableError, has_placeholder, substitute
from stackstore.config.problems import Path, Problem, dotted, nearest, shown
from stackstore.config.schema import Section

S = TypeVar("S", bound=Section)


@dataclass
class Reading:
    """The document, the environment, and what is wrong so far."""

    document: Document
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)

    def report(self, path: Path, message: str, *, allowed: str = "", hint: str = "") -> None:
        """Note a problem at a path."""
        line = self.document.line(path)
        self.problems.append(Problem(dotted(path), line, message, allowed, hint))

    def knows(self, path: Path) -> bool:
        """Whether a problem at or below the path is noted."""
        text = dotted(path)
        return any(
            problem.path == text or problem.path.startswith((f"{text}.", f"{text}["))
            for problem in self.problems
        )

    def resolve(self, value: Any, path: Path) -> Any:
        """A scalar with its placeholders replaced; None, and a problem, where one can't be."""
        if not isinstance(value, str):
            return value
        try:
            # Like the server: what ends up empty is no value at all.
            return substitute(value, self.environ) or (None if has_placeholder(value) else value)
        except UnsetVariableError as error:
            self.report(
                path,
                f"the environment variable {error.name} is unset or empty",
                hint=f"set it, or give a default: ${{env.{error.name}:=…}}",
            )
            return None

    def mapping(self, value: Any, path: Path, hint: str = "") -> dict[str, Any] | None:
        """The value if it is a mapping, else None and a problem."""
        if isinstance(value, dict):
            return value
        what = "is empty" if value is None else "must be a mapping"
        self.report(path, what, hint=hint)
        return None

    def unknown(self, path: Path, known: Collection[str]) -> None:
        """Note a key that isn't one of those known."""
        self.report(
            path,
            "unknown key",
            allowed=", ".join(sorted(known)),
            hint=nearest(path[-1], known),
        )

    def section(self, model: type[S], data: Mapping[str, Any], path: Path) -> S | None:
        """Check one flat mapping against its model, placeholders resolved.

        Returns:
            None where anything is wrong in it; all of it is noted then.
        """
        before = len(self.problems)
        resolved: dict[str, Any] = {}
        unresolved: set[str] = set()
        for key, value in data.items():
            count = len(self.problems)
            resolved[key] = self.resolve(value, (*path, key))
            if len(self.problems) > count:
                unresolved.add(key)
                del resolved[key]
        try:
            made = model.model_validate(resolved)
        except ValidationError as error:
            for details in error.errors(include_url=False, include_input=False):
                if details["type"] == "missing" and details["loc"][0] in unresolved:
                    continue
                self._translate(model, details, path, data)
            return None
        return made if len(self.problems) == before else None

    def _translate(
        self, model: type[Section], details: ErrorDetails, path: Path, data: Mapping[str, Any]
    ) -> None:
        # Pydantic's own texts are used where they speak to people; none of them quotes the input.
        context = details.get("ctx", {})
        key = str(details["loc"][0])
        here = (*path, key)
        match details["type"]:
            case "extra_forbidden":
                self.unknown(here, model.model_fields)
            case "missing":
                self.report(here, "is missing")
            case "string_type":
                self.report(here, "must be text", hint="a number, a date or yes/no needs quotes")
            case "string_unicode":
                self.report(here, "is not text that UTF-8 can hold")
            case "string_too_short":
                self.report(here, "must not be empty")
            case "none_required":
                self.report(here, "has no meaning here", hint="a reference names its namespace")
            case "literal_error":
                expected = re.findall(r"'([^']+)'", str(context["expected"]))
                self.report(
                    here,
                    f"unknown value{shown(data[key])}",
                    allowed=", ".join(expected),
                    hint=nearest(data[key], expected) if shown(data[key]) else "",
                )
            case _:
                message = details["msg"].removeprefix("Input ")
                self.report(here, message, allowed=str(context.get("allowed", "")))
