"""Why a connection could not be opened, in one word each; errors carry it beside their text."""

from __future__ import annotations

import enum


class Fault(enum.StrEnum):
    """What was wrong.

    Up to `TOO_OLD` the database answered and said no; from `FULL` on nothing is said about the login.
    """

    LOGIN = "login"
    """The user or the password."""
    ENTRY = "entry"
    """The user may not log in, or not into this database, or not from here."""
    PLAIN = "plain"
    """No line of pg_hba.conf is for this connection, which had no TLS."""
    DATABASE = "database"
    """The server has no database of that name."""
    NO_TLS = "no-tls"
    """TLS is asked for, and the server offers none."""
    CERTIFICATE = "certificate"
    """The server's certificate was checked and not accepted."""
    CA = "ca"
    """The authority to check it by is no certificate."""
    POOLER = "pooler"
    """A pooler stands between that nobody told of."""
    TOO_OLD = "too-old"
    """The server is older than the oldest that is served."""
    FULL = "full"
    """It has no connection left."""
    STARTING = "starting"
    """It starts, recovers or shuts down."""
    NAME = "name"
    """The host's name leads to no address."""
    SILENCE = "silence"
    """Nothing was answered in time."""
    CLOSED = "closed"
    """Nobody listens on that port."""
    HANDSHAKE = "handshake"
    """The TLS handshake broke off."""
    OTHER = "other"
    """Anything else: no route, cut off in the middle."""
