"""Whatever a base config holds: it is read, or refused with a reason, a line and no value of it."""

from __future__ import annotations

import string

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackstore_operator.api.conditions import Reason
from stackstore_operator.render import base, runconfig
from stackstore_operator.render.model import RenderError
from tests.compat.cases import stack

HEAD = "distro_name: x\n"
GOOD = HEAD + "providers: {}\n"
PROVIDER = HEAD + "providers:\n  files:\n  - {provider_id: a, provider_type: t, config: %s}\n"


def refusal(text: str) -> RenderError:
    with pytest.raises(RenderError) as caught:
        runconfig.config_yaml(stack(base_config=text))
    return caught.value


REFUSED = {
    # What is said, in which line it stands.
    "": ("must be a mapping", 0),
    "# nothing": ("must be a mapping", 0),
    "[]": ("must be a mapping", 0),
    "just text": ("must be a mapping", 0),
    "null": ("must be a mapping", 0),
    "42": ("must be a mapping", 0),
    GOOD + "---\na: 1\n": ("more than one document", 3),
    GOOD + "a: [1, 2\n": ("is not YAML", 4),
    GOOD + "a:\n\tb: 1\n": ("is not YAML", 4),
    GOOD + "a: @x\n": ("is not YAML", 3),
    GOOD + "a: %x\n": ("is not YAML", 3),
    GOOD + 'a: "\\U99999999"\n': ("is not YAML", 3),
    GOOD + "a: \x00\n": ("a character that YAML does not allow", 3),
    GOOD + "a: \x07\n": ("a character that YAML does not allow", 3),
    GOOD + "a: \ud800\n": ("is not text that UTF-8 can hold", 0),
    GOOD + 'a: "\\ud800"\n': ("is not text that UTF-8 can hold", 3),
    GOOD + "a: 1\nb: 2\na: 3\n": ("a: the key is there twice, first in line 3", 5),
    GOOD + "a: {b: 1, b: 1}\n": ("a.b: the key is there twice, first in line 3", 3),
    GOOD + "providers: {}\n": ("providers: the key is there twice", 3),
    GOOD + "storage: {a: 1, a: 2}\n": ("storage.a: the key is there twice", 3),
    GOOD + "a: &x [1]\nb: *x\n": ("uses a YAML alias", 4),
    GOOD + "a: &a [*a]\n": ("uses a YAML alias", 3),
    GOOD + "b: {<<: {a: 1}}\n": ("uses the merge key", 3),
    GOOD + "a: !!python/object/apply:os.system [x]\n": ("uses a YAML tag", 3),
    GOOD + "a: !!binary aGk=\n": ("uses a YAML tag", 3),
    GOOD + "a: !!set {b}\n": ("uses a YAML tag", 3),
    GOOD + "a: !mine b\n": ("uses a YAML tag", 3),
    GOOD + "a: !!int x\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: !!float x\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: !!bool x\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: !!timestamp x\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: !!map [x]\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: !!str [x]\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: !!str {x: 1}\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: !!seq {x: 1}\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: 2026-13-45\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "a: 0b_\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + f"a: {'9' * 5000}\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + f"a: 0x{'f' * 100_000}\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + f"a: 1{':1' * 60_000}\n": ("is tagged, or looks, like what it is not", 3),
    GOOD + "1: a\n": ("a key here is not text", 3),
    GOOD + "on: a\n": ("a key here is not text", 3),
    GOOD + "a: {null: b}\n": ("a: a key here is not text", 3),
    GOOD + "? [a, b]\n: c\n": ("a key here is not text", 3),
    GOOD + "a: " + "[" * 100: ("nested deeper than 64 levels", 3),
    GOOD + "a: " + "[" * 100_000: ("nested deeper than 64 levels", 3),
    GOOD + "a: [" + "1, " * 30_000 + "]": ("has more than 5000 values", 3),
    GOOD + "a: " + "x" * base.MAX_BYTES: ("is larger than 131072 bytes", 0),
    "providers: {}\n": ("distro_name: must be there", 1),
    "distro_name:\nproviders: {}\n": ("distro_name: must be there", 1),
    "image_name: 7\nproviders: {}\n": ("distro_name: must be there", 1),
    HEAD: ("providers: must be there, and a mapping", 1),
    HEAD + "providers:\n": ("providers: must be there, and a mapping", 2),
    HEAD + "providers: []\n": ("providers: must be there, and a mapping", 2),
    HEAD + "providers: text\n": ("providers: must be there, and a mapping", 2),
    HEAD + "providers: {files: }\n": ("providers.files: must be a list of providers", 2),
    HEAD + "providers: {files: {}}\n": ("providers.files: must be a list of providers", 2),
    HEAD + "providers: {files: text}\n": ("providers.files: must be a list of providers", 2),
    HEAD + "providers:\n  files:\n  - text\n": ("providers.files[0]: must be a mapping", 4),
    HEAD + "providers:\n  files:\n  - [a]\n": ("providers.files[0]: must be a mapping", 4),
    HEAD + "providers: {files: [{}]}\n": ("provider_id: must be there, and text", 2),
    HEAD + "providers: {files: [{provider_id: 7, provider_type: t}]}\n": ("provider_id: must be", 2),
    HEAD + "providers: {files: [{provider_id: a}]}\n": ("provider_type: must be there, and text", 2),
    HEAD + "providers: {files: [{provider_id: a, provider_type: }]}\n": ("provider_type: must be", 2),
    PROVIDER % "[]": ("providers.files[0].config: must be a mapping", 4),
    PROVIDER % "text": ("providers.files[0].config: must be a mapping", 4),
    GOOD + "server:\n": ("server: must be a mapping", 3),
    GOOD + "server: 8321\n": ("server: must be a mapping", 3),
    GOOD + "metadata_store: {type: sqlite}\n": ("metadata_store: is the shape of llama-stack", 3),
    GOOD + "inference_store: {type: sqlite}\n": ("inference_store: is the shape of llama-stack", 3),
    GOOD + "conversations_store: {}\n": ("conversations_store: is the shape of llama-stack", 3),
    GOOD + "routing_table: {}\n": ("routing_table: is the shape of llama-stack of 2024", 3),
    GOOD + "server: {quota: {kvstore: {}}}\n": ("server.quota.kvstore: is gone since OGX 1.5", 3),
    HEAD + "providers: {batches: [{provider_id: a, provider_type: t, config: {kvstore: {}}}]}\n": (
        "providers.batches[0].config.kvstore: is a shape of earlier releases",
        2,
    ),
    HEAD + "providers: {vector_io: [{provider_id: a, provider_type: t, config: {kvstore: {}}}]}\n": (
        "providers.vector_io[0].config.kvstore: is a shape of earlier releases",
        2,
    ),
    HEAD + "providers: {agents: [{provider_id: a, provider_type: t, config: {persistence: {}}}]}\n": (
        "providers.agents[0].config.persistence: is a shape of earlier releases",
        2,
    ),
    PROVIDER % "{metadata_store: {type: sqlite, db_path: /x}}": (
        "providers.files[0].config.metadata_store: declares its own database",
        4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text)[:70])
def test_it_is_refused_with_the_reason_and_the_line(text):
    message, line = REFUSED[text]
    refused = refusal(text)
    assert refused.reason == Reason.BASE_CONFIG_INVALID
    place = f"the base config:{line}:" if line else "the base config:"
    (said,) = [one for one in str(refused).splitlines() if message in one]
    assert said.startswith(place), str(refused)
    assert len(str(refused)) < 2000


def test_all_problems_are_named_at_once_in_the_order_of_the_lines():
    text = "providers: []\nserver: 1\nmetadata_store: {}\na: 1\na: 2\n"
    lines = str(refusal(text)).splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "1", "2", "3", "5"]


def test_of_very_many_problems_the_first_are_named():
    said = str(refusal(GOOD + "a: 1\n" * 500)).splitlines()
    assert len(said) == 11
    assert said[-1] == "and 489 more"


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "api_key: s3cret\n\tx",
        GOOD + "password: *s3cret\n",
        GOOD + "password: !s3cret x\n",
        GOOD + "password: &s3cret\n  [\n",
        GOOD + "s3cret key: 1\ns3cret key: 2\n",
        GOOD + "a: !!int s3cret\n",
        GOOD + "s3cret",
        PROVIDER.replace("provider_type: t", "provider_type: inline::localfs")
        % "{metadata_store: s3cret}",
        PROVIDER % "{metadata_store: {type: sqlite, password: s3cret}}",
    ],
)
def test_no_value_is_in_the_error_nor_in_what_caused_it(text):
    error: BaseException | None = None
    try:
        runconfig.config_yaml(stack(base_config=text))
    except RenderError as caught:
        error = caught
    assert error is not None
    assert error.__cause__ is None
    assert "s3cret" not in repr(error)


def test_what_is_not_ours_is_left_as_it_is():
    text = GOOD + "version: 2\nkept: [1, 1.5, true, null, 2026-01-01, '1', 'yes']\n"
    found = yaml.safe_load(runconfig.config_yaml(stack(base_config=text)))
    found.pop("storage")
    assert found == yaml.safe_load(text)
    assert list(found) == ["distro_name", "providers", "version", "kept"]


def test_many_things_beside_one_another_are_not_deep():
    text = GOOD + "".join(f"a{n}: {{b: [1]}}\n" for n in range(200))
    assert yaml.safe_load(runconfig.config_yaml(stack(base_config=text)))["a199"] == {"b": [1]}


def test_texts_are_quoted_for_other_readers_and_never_folded():
    long = "word " * 60 + "end"
    lines = runconfig.dump({"a": "1e5", "b": "0o17", "c": "y", "d": long, "e": "plain"}).split("\n")
    assert lines[:3] == ['a: "1e5"', 'b: "0o17"', 'c: "y"']
    assert lines[3:5] == [f"d: {long}", "e: plain"]


def test_the_old_storage_section_goes_with_whatever_is_in_it():
    text = GOOD + "storage:\n  stores: {prompts: {backend: a, namespace: b}}\n  references: {}\n"
    found = yaml.safe_load(runconfig.config_yaml(stack(base_config=text)))
    assert found["storage"]["stores"]["prompts"] == {
        "backend": "sql_default",
        "table_name": "prompts",
    }
    assert "references" not in found["storage"]


def test_without_a_base_config_the_least_is_rendered_that_a_server_boots_on():
    found = yaml.safe_load(runconfig.config_yaml(stack()))
    assert found.keys() == {"distro_name", "providers", "storage"}


TRICKY = st.sampled_from(
    ["", " ", "yes", "No", "on", "y", "N", "null", "~", "Null", "true", "0", "0123", "1_000", "1e5",
     "1.5", ".5", "-.inf", ".nan", "0x1F", "0o17", "0b1", "1:30", "2026-01-01", "2026-01-01 10:00:00",
     "=", "<<", "*x", "&x", "!x", "%x", "@x", "`x", "- x", "? x", ": x", "a: b", "a #b", "#", "|", ">",
     "{", "}", "[", "]", ",", "'", '"', "\\", "\n", "\t", "a\n", "\na", "a\n\nb", " a", "a ", "---",
     "...", "--- a", "\x85", "\u2028", "\ufeff", "\x7f", "\x1b", "🔑", "${env.X}", "${env.X:=a: b}",
     "${env.X:+1}", "x" * 300, "word " * 60]
)  # fmt: skip
TEXTS = st.one_of(TRICKY, st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
SCALARS = st.one_of(
    TEXTS, st.none(), st.booleans(), st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False), st.dates(), st.datetimes(),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def same(one: object, other: object) -> bool:
    """Equal, and of one type all the way down: 1, 1.0 and True are not the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(VALUES)
@example("\x85")
@example("\u2028 a")
@example(["1e5", "0o17", "y"])
def test_data_survives_the_way_through_our_yaml(value):
    assert same(yaml.safe_load(runconfig.dump({"kept": value})), {"kept": value})


@given(VALUES)
@example({"": [], " ": {}, "\x85": []})
@settings(deadline=None)
def test_a_base_config_means_the_same_after_rendering(value):
    # Escaped: written as they are, a few line breaks of other scripts would be folded.
    text = yaml.safe_dump({"distro_name": "x", "providers": {}, "kept": value}, allow_unicode=False)
    found = yaml.safe_load(runconfig.config_yaml(stack(base_config=text)))
    assert same(found["kept"], yaml.safe_load(text)["kept"])


PIECES = st.sampled_from(
    ["distro_name: x\n", "providers: {}\n", "providers:\n", "  files:\n", "  - provider_id: a\n",
     "    provider_type: t\n", "    config: {}\n", "storage: {}\n", "&a ", "*a", "!x ", "<<: ", "? ", "- ",
     ": ", "\t", "[", "]", "{", "}", "'", '"', "|\n", ">\n", "#", "---\n", "...\n", "%YAML 9.9\n", "\\", "\x00",
     "\ud800", "a", "1", "\n", "  ", "!!int ", "!!binary ", "0x", "2026-99-99", ","]
)  # fmt: skip


@given(
    st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(string.printable, max_size=60))
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_rendered_or_refused(text):
    try:
        found = runconfig.config_yaml(stack(base_config=text))
    except RenderError:
        refused = refusal(text)
        assert refused.reason == Reason.BASE_CONFIG_INVALID
        assert str(refused).startswith(base.SOURCE)
    else:
        assert yaml.safe_load(found)["storage"]["stores"]["metadata"]["backend"] == "kv_default"
