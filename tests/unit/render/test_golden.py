"""The rendered bytes are kept: a change of any of them is seen by whoever makes it."""

import re

import pytest

from tests.unit.render.samples import GOLDEN, samples, text

SAMPLES = dict(samples())


@pytest.mark.parametrize("name", SAMPLES)
def test_the_bytes_are_those_that_are_kept(name):
    kept = (GOLDEN / f"{name}.txt").read_text()
    assert text(SAMPLES[name]) == kept, "python -m tests.unit.render.samples writes them anew"


def test_every_kept_file_is_made_by_a_sample():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_key_of_the_secret_is_one_that_every_kubelet_takes(name):
    keys = re.findall(r"^## (.+)$", text(SAMPLES[name]), re.MULTILINE)
    for key in keys:
        assert re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", key), key


@pytest.mark.parametrize("name", SAMPLES)
def test_every_variable_that_the_config_needs_is_in_the_secret(name):
    config, _, rest = text(SAMPLES[name]).partition("# Secret")
    needed = set(re.findall(r"\$\{env\.([A-Z0-9_]+)\}", config)) - {"MODEL_URL"}
    assert needed <= set(re.findall(r"^## (.+)$", rest, re.MULTILINE))
