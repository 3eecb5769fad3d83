"""A YAML file as plain data, with the line of everything in it.

The file is composed by PyYAML and turned into data here, because a loader alone forgets where things
stood, lets a repeated key win silently, and expands aliases without a bound. Only the safe tags
exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stackstore.config.problems import InvalidConfigError, Problem, dotted
from stackstore.config.problems import Path as NodePath

MAX_BYTES = 1024 * 1024
"""A ConfigMap ends there too."""
MAX_NODES = 100_000
"""After aliases are expanded; a run config has some hundred."""

QUOTES = (
    "a value that begins with one of * & ! % @ `, or holds ': ' or ' #', needs quotes, "
    "and within {…} so does ${env.…}"
)
_HARMLESS = re.compile(r"[^'\"]*(?:'(?:<[a-z ]+>|\\?.|---)'[^'\"]*)*")
"""PyYAML's texts that quote one character, or what the grammar calls a token."""
_MAX_NUMBER = 400
"""Characters of a number or date; longer ones take Python long to read, and can't be written."""
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Document:
    """The file's data; `lines` counts from 1 and knows every path below the top."""

    source: str
    data: dict[str, Any]
    lines: dict[NodePath, int]

    def line(self, path: NodePath) -> int:
        """The line of the node, or of the nearest one above it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def at(self, path: NodePath) -> Any:
        """What stands there, as it is written; None where nothing does."""
        node: Any = self.data
        for part in path:
            try:
                node = node[part]
            except (LookupError, TypeError):
                return None
        return node


def read(path: Path) -> Document:
    """Read and take apart one file.

    Raises:
        InvalidConfigError: it isn't there, or isn't a YAML mapping; with every repeated key and
            unreadable value found.
    """
    source = str(path)
    text = _text(path, source)
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            raise _failure(source, "the file is empty", hint="a run config is a YAML mapping")
        if not isinstance(root, yaml.MappingNode):
            raise _failure(
                source,
                "the top of the file is not a mapping",
                line=root.start_mark.line + 1,
                hint="a run config begins with keys such as `storage:` and `providers:`",
            )
        builder = Builder(loader)
        builder.check_size(root)
        data = builder.mapping(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _failure(
            source,
            f"not valid YAML: {_safe(error)}",
            line=mark.line + 1 if mark else 0,
            hint=QUOTES,
        ) from None
    except yaml.reader.ReaderError as error:
        raise _failure(
            source,
            "holds a character that YAML does not allow (a control character or a NUL)",
            line=text.count("\n", 0, error.position) + 1,
        ) from None
    except RecursionError:
        raise _failure(source, "is nested too deeply to be a run config") from None
    except TooLargeError as error:
        raise _failure(source, str(error)) from None
    except (ValueError, OverflowError):
        # PyYAML's own scanner stumbles over a few escapes (\U with too high a number) like this.
        line = loader.line + 1
        raise _failure(source, "not valid YAML: a broken escape", line, QUOTES) from None
    finally:
        loader.dispose()
    if builder.problems:
        raise InvalidConfigError(source, builder.problems)
    return Document(source, data, builder.lines)


def _text(path: Path, source: str) -> str:
    try:
        if path.is_dir():
            raise _failure(source, "is a directory", hint="name the config file in it")
        if path.exists() and not path.is_file():
            # Reading a pipe or a device would hang or never end.
            raise _failure(source, "is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _failure(source, "there is no such file") from None
    except OSError as error:
        raise _failure(source, f"can't be read: {error.strerror}") from None
    except ValueError:
        raise _failure(source.replace("\0", "\\0"), "is not a file name") from None
    if len(content) > MAX_BYTES:
        raise _failure(source, f"is larger than {MAX_BYTES} bytes; a run config is not")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _failure(source, "is not text in UTF-8", line=line) from None


def _failure(source: str, message: str, line: int = 0, hint: str = "") -> InvalidConfigError:
    return InvalidConfigError(source, [Problem("", line, message, hint=hint)])


def _safe(error: yaml.MarkedYAMLError) -> str:
    # PyYAML quotes anchors, aliases and tags; an unquoted password that begins with * & or ! is
    # taken for one.
    text = error.problem or "it can't be parsed"
    return text if _HARMLESS.fullmatch(text) else re.split(r"['\"]", text)[0].rstrip() + " …"


class TooLargeError(Exception):
    """The document is out of bounds once its aliases are expanded."""


@dataclass
class Builder:
    """Turns nodes of YAML into plain data, and notes where everything stands.

    Attributes:
        loader: composed the nodes.
        strict: neither merge keys, nor keys that are no texts, which are their texts otherwise.
        problems: what could not be turned; the data lacks it.
        lines: from 1, by path.
    """

    loader: yaml.SafeLoader
    strict: bool = False
    problems: list[Problem] = field(default_factory=list)
    lines: dict[NodePath, int] = field(default_factory=dict)

    def check_size(self, root: yaml.Node) -> None:
        """See to it that its aliases don't expand beyond all bounds.

        Raises:
            TooLargeError: they do.
        """
        # Each node counts once for every way that leads to it, so that a bomb is seen before it
        # goes off.
        sizes: dict[int, int] = {}
        open_nodes: set[int] = set()

        def size(node: yaml.Node) -> int:
            key = id(node)
            if key in open_nodes:
                raise TooLargeError("holds an alias of something that contains the alias itself")
            if key not in sizes:
                open_nodes.add(key)
                sizes[key] = 1 + sum(size(child) for child in _children(node))
                open_nodes.remove(key)
            return sizes[key]

        if size(root) > MAX_NODES:
            raise TooLargeError(f"holds more than {MAX_NODES} values once aliases are expanded")

    def mapping(self, node: yaml.MappingNode, path: NodePath = ()) -> dict[str, Any]:
        """A mapping's data; path: where it stands."""
        pairs = list(node.value)
        if not self.strict:
            self._refuse_repeated_keys(node, path)
            # A copy, because merging changes the node, and an alias may show it again.
            merged = yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark)
            self.loader.flatten_mapping(merged)
            pairs = merged.value
        data: dict[str, Any] = {}
        for key_node, value_node in pairs:
            key = self._key(key_node, path)
            if key is None:
                continue
            below = (*path, key)
            if self.strict and below in self.lines:
                self._twice(key_node, below, self.lines[below])
                continue
            self.lines[below] = key_node.start_mark.line + 1
            data[key] = self._value(value_node, below)
        return data

    def _value(self, node: yaml.Node, path: NodePath) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == _PLAIN[0]:
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _PLAIN[1]:
            items = []
            for index, item in enumerate(node.value):
                self.lines[*path, index] = item.start_mark.line + 1
                items.append(self._value(item, (*path, index)))
            return items
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: NodePath) -> Any:
        try:
            wrong = not isinstance(node, yaml.ScalarNode)
            if wrong or (node.tag != _TEXT and len(node.value) > _MAX_NUMBER):
                raise ValueError  # noqa: TRY301 - one answer to every way of being wrong
            value = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
            # The constructors of numbers and dates raise whatever their conversion raises.
            self._report(node, path, "is tagged, or looks, like what it is not", QUOTES)
            return None
        if isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
            self._report(
                node, path, "is not text that UTF-8 can hold", "half a surrogate pair is no letter"
            )
            return None
        return value

    def _key(self, node: yaml.Node, path: NodePath) -> str | None:
        if self.strict and node.tag == _MERGE:
            self._report(node, path, "uses the merge key `<<`", "write the values out")
            return None
        key = self._scalar(node, path) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(key, str):
            return key
        if isinstance(key, (int, float)) and not self.strict:
            # `1:`, `on:`; the sections we own will say that they don't know it.
            return str(node.value)
        self._report(node, path, "a key here is not text", "write it in quotes")
        return None

    def _refuse_repeated_keys(self, node: yaml.MappingNode, path: NodePath) -> None:
        # By what is written: after merging, a repeated key is what an override looks like.
        seen: dict[tuple[str, str], int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _MERGE:
                continue
            identity = (key_node.tag, key_node.value)
            if identity in seen:
                self._twice(key_node, (*path, key_node.value), seen[identity])
            else:
                seen[identity] = key_node.start_mark.line + 1

    def _twice(self, node: yaml.Node, path: NodePath, line: int) -> None:
        self._report(
            node,
            path,
            f"the key is there twice, first in line {line}",
            "keep one; the server would take the last without a word",
        )

    def _report(self, node: yaml.Node, path: NodePath, message: str, hint: str) -> None:
        self.problems.append(Problem(dotted(path), node.start_mark.line + 1, message, hint=hint))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
