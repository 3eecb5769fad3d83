"""From what a visit found to Verified, to Ready, and to who may ask."""

from __future__ import annotations

from typing import Any

import pytest

from stackstore_operator.api.backend import StorageBackend
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe.finding import Finding, Outcome
from stackstore_operator.probe.pace import LONGEST_PAUSE
from stackstore_operator.probe.prober import Subject
from stackstore_operator.reconcile.backends import look, status
from stackstore_operator.reconcile.following import follow
from stackstore_operator.reconcile.inputs import BackendInputs
from stackstore_operator.reconcile.tally import Use
from stackstore_operator.reconcile.verification import is_verifiable, verified
from tests.unit.reconcile.samples import KEY, LOGIN, NOW, postgres, sqlite

OUTCOMES = {
    "True": Outcome("True", Reason.CONNECTED, "logged in"),
    "False": Outcome("False", Reason.LOGIN_REFUSED, "refused"),
    "Unknown": Outcome("Unknown", Reason.DATABASE_SILENT, "silent"),
}
APP = ("chat", "pg-app")
USE = Use("aaaaaaaaaaaa", frozenset({"sql_default"}))


def inputs(backend: StorageBackend, found: str | None = None, **login: bytes) -> BackendInputs:
    secrets = {APP: {**LOGIN, **login}}
    revision = look(backend, secrets, {}, KEY).revision
    version = "16.4" if found == "True" else ""
    finding = None if found is None else Finding(revision, OUTCOMES[found], version, rows="missing")
    return BackendInputs(backend, secrets, {}, 1, KEY, finding, (USE,))


def looked_at(
    backend: StorageBackend, found: str | None = None, now: int = NOW, **login: bytes
) -> StorageBackend:
    """The backend with the status after a look."""
    made = status(inputs(backend, found, **login), now)
    return backend.model_copy(update={"status": made})


def condition(backend: StorageBackend, type_: str = "Verified") -> tuple[str, str]:
    (found,) = [c for c in backend.status.conditions if c.type == type_]
    return found.status, found.reason


@pytest.mark.parametrize(
    ("found", "ready", "answer"),
    [
        ("True", ("True", "Ready"), True),
        ("False", ("False", "LoginRefused"), False),
        ("Unknown", ("True", "Ready"), None),
        (None, ("True", "Ready"), None),
    ],
)
def test_only_a_refusal_lowers_ready(
    found: str | None, ready: tuple[str, str], answer: bool | None
) -> None:
    backend = looked_at(postgres(), found)
    assert condition(backend, "Ready") == ready
    assert verified(backend, backend.status.revision) is answer
    assert verified(backend, "ffffffff") is None
    assert verified(postgres(), "") is None


def test_what_stands_there_stays_until_something_is_found() -> None:
    for found in ("True", "False", "Unknown"):
        before = looked_at(postgres(), found)
        after = looked_at(before, None, NOW + 60)
        assert after.status == before.status


def test_another_login_was_not_tried_yet() -> None:
    backend = looked_at(looked_at(postgres(), "True"), None, password=b"second")
    assert condition(backend) == ("Unknown", "Verifying")
    assert condition(backend, "Ready") == ("True", "Ready")
    assert verified(backend, backend.status.revision) is None
    assert backend.status.server_version == ""


def test_what_was_found_with_another_login_is_nothing() -> None:
    late = inputs(postgres(), "False").finding
    now = inputs(postgres(), None, password=b"second")
    made = status(BackendInputs(now.backend, now.secrets, {}, 1, KEY, late), NOW)
    assert [c.reason for c in made.conditions if c.type == "Verified"] == ["Verifying"]
    assert made.server_version == ""


def test_the_servers_version_outlives_an_outage() -> None:
    backend = looked_at(postgres(), "True")
    assert backend.status.server_version == "16.4"
    assert looked_at(backend).status.server_version == "16.4"


SOCKET = {"host": "/run/postgresql"}


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (postgres(verification={"mode": "None"}), "VerificationDisabled"),
        (postgres(postgres=SOCKET), "NotApplicable"),
        (sqlite(), "NotApplicable"),
    ],
    ids=["None", "socket", "file"],
)
def test_what_is_never_verified(backend: StorageBackend, reason: str) -> None:
    assert not is_verifiable(backend)
    made = looked_at(looked_at(backend))
    assert condition(made) == ("Unknown", reason)
    assert condition(made, "Ready") == ("True", "Ready")
    assert condition(made, "Adopted")[0] == "Unknown"
    assert followed(made) is None


def test_a_socket_that_the_secret_names_is_not_visited_either() -> None:
    backend = looked_at(postgres(), None, host=b"/run/postgresql")
    assert condition(backend) == ("Unknown", "NotApplicable")
    assert condition(backend, "Adopted") == ("Unknown", "VerificationDisabled")
    assert followed(backend, host=b"/run/postgresql") is None


def test_a_login_that_is_not_resolved_is_not_tried() -> None:
    backend = looked_at(looked_at(postgres(), "True"), None, password=b"")
    assert condition(backend) == ("Unknown", "Waiting")
    assert condition(backend, "Adopted") == ("Unknown", "Waiting")
    assert followed(backend, password=b"") is None


# -- who is visited, and when


class Prober:
    def __init__(self) -> None:
        self.asked: dict[str, Any] | None = None

    def follow(self, key: tuple[str, str], subject: Subject, **how: Any) -> None:
        assert key == ("chat", "sql-default")
        self.asked = {"subject": subject, **how}

    def forget(self, key: tuple[str, str]) -> None:
        self.asked = None


def followed(
    backend: StorageBackend,
    found: str | None = None,
    uses: tuple[Use, ...] = (USE,),
    **login: bytes,
) -> dict[str, Any] | None:
    """What the prober is told by a look at a backend in this state."""
    read = inputs(backend, found, **login)
    state = look(backend, read.secrets, {}, KEY)
    prober = Prober()
    follow(prober, backend, state, status(read, NOW), uses)  # type: ignore[arg-type]
    return prober.asked


def test_how_soon_after_a_restart() -> None:
    fresh = followed(postgres())
    assert fresh is not None
    assert (fresh["first_within"], fresh["hangs"]) == (0, False)
    assert fresh["subject"].period == 300
    assert fresh["subject"].stacks == {USE.stack_id}
    every_minute = followed(postgres(verification={"periodSeconds": 60}))
    assert every_minute is not None
    assert every_minute["subject"].period == 60
    for found, within, hangs in (
        ("True", 5, False), ("False", LONGEST_PAUSE, False), ("Unknown", LONGEST_PAUSE, True),
    ):  # fmt: skip
        again = followed(looked_at(postgres(), found))
        assert again is not None
        assert (again["first_within"], again["hangs"]) == (within, hangs)
    settled = looked_at(postgres(), "True")
    conditions = [
        c.model_copy(update={"status": "True", "reason": "Adopted"}) if c.type == "Adopted" else c
        for c in settled.status.conditions
    ]
    settled.status.conditions[:] = conditions
    again = followed(settled)
    assert again is not None
    assert again["first_within"] == 300
    # Another login than the one that was verified is tried at once.
    rotated = followed(settled, password=b"second")
    assert rotated is not None
    assert rotated["first_within"] == 0


def test_it_looks_more_often_only_while_somebody_may_come() -> None:
    for found, uses, restless in (
        ("True", (USE,), True),  # nobody was seen yet
        ("True", (), False),
        ("Unknown", (USE,), False),  # that has a pace of its own
    ):
        asked = followed(postgres(), found, uses)
        assert asked is not None
        assert asked["restless"] is restless
