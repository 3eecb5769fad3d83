"""What the Dockerfile promises, and when an image is built anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hack.e2e import images

ROOT = Path(__file__).resolve().parents[3]


def stages() -> dict[str, str]:
    """The Dockerfile's stages by name."""
    text = (ROOT / "Dockerfile").read_text()
    parts = re.split(r"^FROM (\S+) AS (\S+)$", text, flags=re.MULTILINE)[1:]
    return {
        name: f"FROM {base}\n{body}"
        for base, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


@pytest.mark.parametrize("name", images.TARGETS)
def test_an_image_is_its_base_and_one_environment_and_runs_as_a_number(name):
    stage = stages()[name]
    assert stage.startswith("FROM ${BASE}\n")
    assert "\nRUN " not in stage
    assert "\nUSER 65532:65532\n" in stage
    assert f"COPY --from={name}-env /opt/stackstore /opt/stackstore\n" in stage
    for label in ("title", "description", "version", "revision", "base.name"):
        assert f"org.opencontainers.image.{label}=" in stage


def test_all_that_is_installed_is_locked_with_hashes():
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip (?:--python \S+ )?install [^&\n]*", text)
    assert len(installs) == 5
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-index /wheels/" in install, install


def test_every_file_that_the_dockerfile_copies_counts_for_the_tag():
    text = (ROOT / "Dockerfile").read_text()
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, flags=re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert copied
    for path in copied:
        assert any(path == known or path.startswith(f"{known}/") for known in images.INPUTS), path


def test_pips_configuration_is_weighed_as_pip_does():
    listed = """\
:env:.cert='/env.crt'
global.cert='/file.crt'
global.index-url='https://index.example/simple'
install.find-links='\\n/wheels\\n/more'
global.user='true'
"""
    assert images.pip_options(listed) == {
        "cert": "/env.crt",
        "index-url": "https://index.example/simple",
        "find-links": "/wheels /more",
    }


def test_an_image_knows_its_repository_and_tag():
    image = images.Image("localhost/stackstore-operator:abc", Path("x"), built=False)
    assert (image.repository, image.tag) == ("localhost/stackstore-operator", "abc")
