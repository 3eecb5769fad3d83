"""Every reason has its meaning in docs/reasons.md, which is generated."""

from pathlib import Path

from stackstore_operator.api import reasons

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_what_the_code_says():
    assert (ROOT / "docs" / "reasons.md").read_text() == reasons.markdown()


def test_every_reason_is_used_and_no_other_word():
    used = "".join(
        path.read_text()
        for path in (ROOT / "operator" / "stackstore_operator").rglob("*.py")
        if path.name not in ("conditions.py", "reasons.py") or path.parent.name != "api"
    )
    assert [reason.name for reason in reasons.Reason if f"Reason.{reason.name}" not in used] == []
