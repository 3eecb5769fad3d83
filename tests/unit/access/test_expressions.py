"""Expressions of the portable subset: what Python's engine says, without its surprises."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackstore.access.expressions import MAX_SIZE, UnsupportedError, parsed

CHARACTERS = "ab-]^\\é\U0001f600.\n%"

literals = st.sampled_from(
    ["a", "b", "é", "\U0001f600", r"\.", r"\\", r"\-", "-", "%", "\n", ",", " "]
)
sets = st.builds(
    "[{}{}]".format,
    st.sampled_from(["", "^"]),
    st.lists(st.sampled_from(["a", "b", "a-b", "é", r"\]", r"\^", r"\-", r"\\", ".", "$", "\n", "a-é"]), min_size=1, max_size=3).map("".join),
)  # fmt: skip
atoms = st.one_of(literals, literals, sets, st.just("."))
signs = st.sampled_from(["", "", "*", "+", "?", "{0}", "{2}", "{1,}", "{0,2}", "{1,3}"])


def grown(inner):
    groups = st.builds("{}{})".format, st.sampled_from(["(", "(?:"]), inner)
    repeated = st.builds("{}{}".format, atoms | groups, signs)
    sequences = st.lists(repeated, max_size=3).map("".join)
    return st.lists(sequences, min_size=1, max_size=2).map("|".join)


expressions = st.recursive(st.builds("{}{}".format, atoms, signs), grown, max_leaves=6)
texts = st.text(st.sampled_from(CHARACTERS), max_size=6)


@settings(max_examples=400, deadline=None)
@given(
    expressions,
    st.lists(texts, min_size=1, max_size=5),
    st.sampled_from(["", "^"]),
    st.sampled_from(["", "$"]),
)
def test_it_matches_what_pythons_engine_matches(text, samples, begin, end):
    found = parsed(begin + text + end if "|" not in text else text)
    theirs = re.compile(text, re.DOTALL)
    for sample in samples:
        assert found.automaton.matches(sample) == (theirs.fullmatch(sample) is not None), (
            text,
            sample,
        )


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        (r"\d", r"'\d'; write [0-9]"), (r"[\w]", r"'\w'; write [A-Za-z0-9_]"), (r"\s", r"'\s'"), (r"\b", r"'\b'"),
        (r"\n", r"'\n'"), (r"\x41", r"'\x'"), (r"\A", r"'\A'"), (r"(a)\1", "back reference"), ("a\\", "backslash at the end"),
        ("(?=a)", "look-ahead"), ("(?!a)", "negative look-ahead"), ("(?<=a)", "look-behind"), ("(?<!a)", "negative look-behind"),
        ("(?P<n>a)", "named group"), ("(?P=n)", "back reference"), ("(?i)a", "flags"), ("(?i:a)", "flags"), ("(?#a)", "comment"),
        ("(?>a)", "atomic"), ("(?(1)a)", "conditional"), ("a*?", "lazy"), ("a+?", "lazy"), ("a{2}?", "lazy"), ("a*+", "possessive"),
        ("a**", "repetition of a repetition"), ("a{1}{2}", "repetition of a repetition"), ("*a", "repeats nothing"), ("a|*", "repeats nothing"),
        ("(+)", "repeats nothing"), ("{2}", "repeats nothing"), ("a{", "none of {n}"), ("a{x}", "none of {n}"), ("a{,2}", "none of {n}"),
        ("a{2,1}", "none of {n}"), ("a{256}", "up to 255"), ("a{1,999}", "up to 255"), ("a{٣}", "none of {n}"), ("a^", "'^' in the middle"),
        ("a$b", "'$' in the middle"), ("(^a)", "'^' in the middle"), ("(a$)", "'$' in the middle"), ("[a", "never closed"), ("[", "never closed"),
        ("[]", "an empty set"), ("[^]", "an empty set"), ("[]a]", "an empty set"), ("[b-a]", "ends before it begins"), ("[[:alpha:]]", "bare '['"),
        ("[a&&b]", "'&&'"), ("[a||b]", "'||'"), ("(a", "never closed"), ("a)", "closes nothing"), ("a]", "bare ']'"), ("a}", "bare '}'"),
        ("a\0", "NUL"), ("\ud800", "surrogate"), ("(" * 60 + ")" * 60, "50 deep"), ("(a{255}){255}", f"more than {MAX_SIZE}"),
        ("((a*){100}){100}", f"more than {MAX_SIZE}"), ("a" * (MAX_SIZE + 1), f"more than {MAX_SIZE}"),
    ],
)  # fmt: skip
def test_what_is_outside_the_subset_is_named(text, construct):
    with pytest.raises(UnsupportedError) as error:
        parsed(text)
    assert construct in str(error.value)


def test_where_it_is():
    with pytest.raises(UnsupportedError, match="character 4"):
        parsed("abc(?i)")


@pytest.mark.parametrize(
    "text", ["(a*)*$", "(a|a)*b$", "(a+)+b", ".*.*.*.*.*x$", "(.*a){20}", "(a?){200}a{200}"]
)
def test_no_text_takes_long(text):
    """A backtracking engine would not come back from these."""
    begun = time.process_time()
    parsed(text).automaton.matches("a" * 2000 + "é")
    assert time.process_time() - begun < 3


def test_it_does_not_remember_without_end():
    automaton = parsed("([^x]|y)*").automaton
    for n in range(30_000):
        assert automaton.matches(chr(0x4E00 + n % 20_000) + chr(0x1F600 + n % 50))
    assert len(automaton._steps) <= 10_000


def test_what_begins_so():
    automaton = parsed("sql_record::(t|u)::[0-9]+").automaton
    assert automaton.begun("sql_record::t::")
    assert not automaton.begun("sql_record::v::")
    assert automaton.begun("")
