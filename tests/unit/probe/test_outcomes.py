"""What a backend's owner is told of each fault."""

from __future__ import annotations

import pytest

from stackstore.pools.faults import Fault
from stackstore_operator.api.conditions import Reason
from stackstore_operator.probe import outcomes

WHERE = "pg.db.svc:5432"
# The database answered and said no; of everything else nobody knows what it says of the login.
REFUSED = {
    Fault.LOGIN: Reason.LOGIN_REFUSED,
    Fault.ENTRY: Reason.ACCESS_DENIED,
    Fault.PLAIN: Reason.TLS_REQUIRED,
    Fault.DATABASE: Reason.DATABASE_NOT_FOUND,
    Fault.NO_TLS: Reason.TLS_NOT_OFFERED,
    Fault.CERTIFICATE: Reason.CERTIFICATE_NOT_TRUSTED,
    Fault.CA: Reason.CA_INVALID,
    Fault.POOLER: Reason.POOLER_UNDECLARED,
    Fault.TOO_OLD: Reason.SERVER_TOO_OLD,
}
UNKNOWN = {
    Fault.FULL: Reason.TOO_MANY_CONNECTIONS,
    Fault.STARTING: Reason.SERVER_STARTING,
    Fault.NAME: Reason.HOST_NOT_FOUND,
    Fault.SILENCE: Reason.DATABASE_SILENT,
    Fault.CLOSED: Reason.CONNECTION_REFUSED,
    Fault.HANDSHAKE: Reason.TLS_FAILED,
    Fault.OTHER: Reason.UNREACHABLE,
}


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_has_a_reason_and_words_that_say_where(fault: Fault) -> None:
    told = outcomes.failed(WHERE, fault, f"{WHERE}: the driver's word {{detail}}")
    assert told.status == ("False" if fault in REFUSED else "Unknown")
    assert told.reason == {**REFUSED, **UNKNOWN}[fault]
    assert told.message.startswith(f"{WHERE} ")
    assert told.message.count(WHERE) == 1
    assert told.message.count("{detail}") == told.message.count("the driver's word")


def test_a_server_that_takes_no_writes_is_told() -> None:
    told = outcomes.connected(WHERE, "16.4", read_only=True)
    assert (told.status, told.reason) == ("True", Reason.CONNECTED)
    assert "PostgreSQL 16.4" in told.message
    assert "read-only" in told.message
    assert "read-only" not in outcomes.connected(WHERE, "16.4", read_only=False).message
