"""The `${env.…}` grammar, row by row as the server reads it."""

from __future__ import annotations

import math
import os

import pytest

from stackstore.config.env import (
    Substituted,
    UnsetVariableError,
    coerce,
    expand_user,
    has_placeholder,
    substitute,
)

ENVIRON = {
    "A": "alpha",
    "B2_": "beta",
    "EMPTY": "",
    "DIGITS": "0123",
    "TWELVE": "12",
    "THIRTY": "34",
    "HOMEY": "~/x",
    "RESCAN": "${env.A}",
    "BRACE": "a}b",
    "BACK": r"\1\g<0>",
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${env.A}", "alpha"),
        ("${env.B2_}", "beta"),
        ("x${env.A}y${env.B2_}z", "xalphaybetaz"),
        ("${env.TWELVE}${env.THIRTY}", "1234"),
        # defaults
        ("${env.A:=d}", "alpha"),
        ("${env.NOPE:=d}", "d"),
        ("${env.EMPTY:=d}", "d"),
        ("${env.NOPE:=}", ""),
        ("${env.NOPE:=a:b=c+d $x}", "a:b=c+d $x"),
        ("${env.NOPE:==x}", "=x"),
        # value if set
        ("${env.A:+on}", "on"),
        ("${env.NOPE:+on}", ""),
        ("${env.EMPTY:+on}", ""),
        ("${env.A:+}", ""),
        # no rescan, no nesting, no escape
        ("${env.RESCAN}", "${env.A}"),
        ("${env.NOPE:=${env.A:=x}}", "${env.A:=x}"),
        ("${env.A:=${env.B2_:=x}}", "alpha}"),
        ("$${env.A}", "$alpha"),
        (r"\${env.A}", r"\alpha"),
        ("${env.BRACE}", "a}b"),
        ("${env.BACK}", r"\1\g<0>"),
        # text around stays text
        ("~/${env.A}", "~/alpha"),
        ("${env.HOMEY}", "~/x"),
    ],
)
def test_substituted(text: str, result: str) -> None:
    made = substitute(text, ENVIRON)
    assert made == result
    assert isinstance(made, Substituted)
    assert has_placeholder(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "${A}",
        "$A",
        "${env.a}",
        "${env.A-B}",
        "${env.}",
        "${env.A:-d}",
        "${env.A:?d}",
        "${env.A:__disabled__}",
        "${ env.A}",
        "${env.A ",
        "${ENV.A}",
        "0123",
        "~/x",
        "true",
    ],
)
def test_left_alone(text: str) -> None:
    made = substitute(text, ENVIRON)
    assert made == text
    assert not isinstance(made, Substituted)
    assert not has_placeholder(text)


@pytest.mark.parametrize("text", ["${env.NOPE}", "${env.EMPTY}", "x${env.A}${env.NOPE}"])
def test_bare_and_unset_or_empty(text: str) -> None:
    with pytest.raises(UnsetVariableError) as caught:
        substitute(text, ENVIRON)
    assert caught.value.name in {"NOPE", "EMPTY"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", None),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("0123", 123),
        ("1_000", 1000),
        (" 7 ", 7),
        ("-5", -5),
        ("1234", 1234),
        ("12345678901234567890", 12345678901234567890),
        ("1e5", 100000.0),
        ("1.5", 1.5),
        ("inf", math.inf),
        ("0x10", "0x10"),
        ("null", "null"),
        ("yes", "yes"),
        ("abc", "abc"),
    ],
)
def test_coerced(text: str, result: object) -> None:
    made = coerce(text)
    assert made == result
    assert type(made) is type(result)


def test_nan_is_a_number() -> None:
    made = coerce("nan")
    assert isinstance(made, float)
    assert math.isnan(made)


def test_home_is_expanded_in_substituted_values_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for text, expanded in [
        ("${env.HOMEY}", "/home/someone/x"),
        ("${env.HOMEY}/y", "/home/someone/x/y"),
        ("a:${env.HOMEY}", "a:/home/someone/x"),
        ("${env.NOPE:=~/d}", "/home/someone/d"),
        ("~/${env.A}", "~/alpha"),
    ]:
        made = substitute(text, ENVIRON)
        assert isinstance(made, Substituted)
        assert made.expanded == expanded
    assert expand_user("~nosuchuserhere/x") == "~nosuchuserhere/x"
    assert os.environ["HOME"] == "/home/someone"
