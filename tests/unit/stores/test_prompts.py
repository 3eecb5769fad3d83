"""What a template may say."""

from __future__ import annotations

import time

import pytest

from stackstore.errors import InvalidArgumentError
from stackstore.stores.prompts.rows import template


@pytest.mark.parametrize(
    "prompt",
    [
        "{{" * 200_000,
        "{{" + " " * 400_000,
        "{{" + "a" * 400_000,
        "{{ a" + " " * 400_000 + "}",
        "".join(f"{{{{ v{n} }}}} " for n in range(40_000)),
    ],
)
def test_a_long_template_is_looked_at_quickly(prompt):
    begin = time.process_time()
    assert template(prompt, [f"v{n}" for n in range(40_000)])["prompt"] == prompt
    assert time.process_time() - begin < 2


def test_what_is_declared_is_a_copy():
    names = ["a"]
    found = template("{{a}}", names)
    names.append("b")
    assert found == {"prompt": "{{a}}", "variables": ["a"]}


def test_the_error_says_where_and_not_what():
    with pytest.raises(InvalidArgumentError) as caught:
        template("x {{ secret }} {{ secret }} {{other}}", ["another"])
    assert "2 variable(s)" in str(caught.value) and "at character 2;" in str(caught.value)
    assert "secret" not in str(caught.value)
