"""The documents name tests, files and reasons: all of them exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_test_that_a_document_names_exists():
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in [file.name, *re.findall(r"def (test_\w+)", file.read_text())]
    }
    named = {
        (document.name, name)
        for document in DOCUMENTS
        for name in re.findall(r"\btest_\w+(?:\.py)?", document.read_text())
    }
    assert len(named) > 50
    assert {(document, name) for document, name in named if name not in there} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path):
    # Not what stands in code: a pattern looks like a link.
    text = re.sub(r"`[^`\n]+`", "", document.read_text())
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (document.parent / target).exists(), target


def test_every_page_is_in_the_readme():
    """In the table of its section Documentation."""
    index = (ROOT / "README.md").read_text()
    pages = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if f"](docs/{name})" not in index] == []
