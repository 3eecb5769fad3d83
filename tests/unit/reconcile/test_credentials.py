"""Secrets of other people's operators, good, strange and broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackstore.credentials.snapshot import Login
from stackstore_operator.api.backend import Credentials, Postgres
from stackstore_operator.reconcile import provisioned
from stackstore_operator.reconcile.credentials import CredentialsProblem, Resolved, resolve

PEM = (Path(__file__).parent / "ca.crt").read_text()


def resolved(
    secret: dict[str, str | bytes],
    postgres: dict[str, Any] | None = None,
    ca: str | None = None,
    /,
    **keys: str,
) -> Resolved:
    data = {key: v if isinstance(v, bytes) else v.encode() for key, v in secret.items()}
    credentials = Credentials.model_validate({"secretRef": {"name": "pg-app"}, "keys": keys})
    return resolve("db", Postgres.model_validate(postgres or {}), credentials, data, ca)


def login(*arguments: Any, **keys: str) -> tuple[str, str, str, int, str]:
    return parts(resolved(*arguments, **keys).login)


def parts(found: Login) -> tuple[str, str, str, int, str]:
    password = found.password.get_secret_value() if found.password else ""
    return found.username, password, found.host, found.port, found.database


def problem(*arguments: Any, **keys: str) -> CredentialsProblem:
    with pytest.raises(CredentialsProblem) as caught:
        resolved(*arguments, **keys)
    return caught.value


FULL = {"username": "u", "password": "p", "host": "h.db", "port": "1", "database": "d"}


def test_an_endpoint_may_hold_the_port() -> None:
    secret = {"endpoint": "rds.example:6432", "username": "u", "password": "s", "database": "d"}
    assert login(secret) == ("u", "s", "rds.example", 6432, "d")
    assert login({**secret, "port": "5432"})[3] == 5432


def test_a_uri_without_a_port_says_5432() -> None:
    assert login({"url": "postgresql://u:p@h/d"}) == ("u", "p", "h.db.svc", 5432, "d")


@pytest.mark.parametrize(
    ("keys", "index"),
    [
        (("username", "user", "master_username"), 0),
        (("password", "attribute.password", "attribute.master_password"), 1),
        (("database", "dbname"), 4),
    ],
)
def test_of_several_well_known_keys_the_first_wins(keys: tuple[str, ...], index: int) -> None:
    rest = {key: value for key, value in FULL.items() if key not in keys}
    for number, key in enumerate(keys):
        later = {other: f"v{other}" for other in keys[number:]}
        assert login({**rest, **dict(reversed(later.items()))})[index] == f"v{key}"


def test_hosts_and_uris_are_taken_in_order_too() -> None:
    rest = {key: value for key, value in FULL.items() if key != "host"}
    assert login({**rest, "endpoint": "c.x", "address": "b.x", "host": "a.x"})[2] == "a.x"
    assert login({**rest, "endpoint": "c.x", "address": "b.x"})[2] == "b.x"
    link = "postgresql://u:p@{}/d"
    uris = {"connection-string": link.format("c.x"), "url": link.format("b.x")}
    assert login({**uris, "uri": link.format("a.x")})[2] == "a.x"
    assert login(uris)[2] == "b.x"


def test_parts_beat_a_well_known_uri_one_by_one() -> None:
    uri = "postgresql://ux:px@hx:99/dx"
    assert login({**FULL, "uri": uri}) == ("u", "p", "h.db", 1, "d")
    for missing, expected in {
        "username": ("ux", "p", "h.db", 1, "d"),
        "password": ("u", "px", "h.db", 1, "d"),
        "host": ("u", "p", "hx.db.svc", 1, "d"),
        "port": ("u", "p", "h.db", 99, "d"),
        "database": ("u", "p", "h.db", 1, "dx"),
    }.items():
        less = {key: value for key, value in FULL.items() if key != missing}
        assert login({**less, "uri": uri}) == expected


def test_the_objects_own_fields_beat_the_secret() -> None:
    assert login(FULL, {"host": "mine", "port": 7, "database": "x"}) == (
        "u",
        "p",
        "mine.db.svc",
        7,
        "x",
    )
    assert login(FULL, {"host": "mine"}) == ("u", "p", "mine.db.svc", 1, "d")


def test_explicit_keys_beat_well_known_ones() -> None:
    secret = {**FULL, "u2": "U", "p2": "P", "h2": "H.x", "o2": "2", "d2": "D"}
    named = {"username": "u2", "password": "p2", "host": "h2", "port": "o2", "database": "d2"}
    assert login(secret, **named) == ("U", "P", "H.x", 2, "D")
    for what, expected in zip(named, ("U", "P", "H.x", 2, "D"), strict=True):
        assert expected in login(secret, **{what: named[what]})


def test_an_explicit_uri_beats_well_known_parts_and_loses_to_explicit_keys() -> None:
    secret = {**FULL, "mine": "postgresql://ux:px@hx/dx", "p2": "P"}
    # No port in it means 5432, not the port of another host.
    assert login(secret, uri="mine") == ("ux", "px", "hx.db.svc", 5432, "dx")
    assert login(secret, uri="mine", password="p2") == ("ux", "P", "hx.db.svc", 5432, "dx")
    assert login(secret, {"port": 9, "database": "z"}, uri="mine") == (
        "ux",
        "px",
        "hx.db.svc",
        9,
        "z",
    )
    assert login(secret, uri="mine", username="p2", host="host", database="port") == (
        "P",
        "px",
        "h.db",
        1,
        "1",
    )
    # What it leaves open is looked for as usual.
    assert login({**FULL, "mine": "postgresql://hx:8/"}, uri="mine") == (
        "u",
        "p",
        "hx.db.svc",
        8,
        "d",
    )


def test_the_port_goes_with_its_host() -> None:
    secret = {**FULL, "writer": "w.x:77"}
    assert login(secret, host="writer") == ("u", "p", "w.x", 77, "d")
    assert login(secret, host="writer", port="port") == ("u", "p", "w.x", 1, "d")
    assert login({**FULL, "host": "h.db:77"}, {}) == ("u", "p", "h.db", 1, "d")
    # That of a URI is not another host's.
    del secret["port"]
    secret = {**secret, "writer": "w.x", "uri": "postgresql://h.db:99"}
    assert login(secret, host="writer") == ("u", "p", "w.x", 5432, "d")


def test_postgres_password_is_for_postgres_only() -> None:
    secret = {"postgres-password": "super", "host": "h", "database": "d"}
    assert "a password" in str(problem({**secret, "username": "app"}))
    assert login({**secret, "username": "postgres", "password": "own"})[1] == "own"
    assert login({**secret, "username": "postgres"})[1] == "super"
    hint = {**secret, "uri": "postgresql://postgres:old@h/d"}
    assert login(hint)[:2] == ("postgres", "super")


def test_whose_secret_names_no_user_is_told_what_to_set() -> None:
    secret = {"postgres-password": "super", "password": "p", "host": "h", "database": "d"}
    assert str(problem(secret)).endswith(
        "`serviceBindings.enabled: true` the chart makes one that does"
    )
    assert "Bitnami" not in str(problem({**secret, "username": "app", "password": ""}))
    assert "Bitnami" not in str(problem({"password": "p"}))


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("username", "a user (looked for username, user, master_username); it has"),
        ("password", "a password (looked for password, attribute.password, attribute.master_password); it has"),
        ("host", "a host (looked for host, address, endpoint, `spec.postgres.host`); it has"),
        ("database", "a database (looked for database, dbname, `spec.postgres.database`); it has"),
    ],
)  # fmt: skip
def test_each_part_that_is_missing_is_named(missing: str, words: str) -> None:
    found = problem({key: value for key, value in FULL.items() if key != missing})
    assert found.reason == "SecretKeyMissing"
    assert str(found).startswith(f"Secret 'pg-app' does not give {words}")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("pg", "pg.db.svc"),
        ("localhost", "localhost"),
        ("pg.other", "pg.other"),
        ("pg.", "pg."),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[2001:db8::1]:6432", "2001:db8::1"),
        ("/var/run/postgresql", "/var/run/postgresql"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("pg:6432", "pg.db.svc"),
        ("10.0.0.1:6432", "10.0.0.1"),
    ],
)
def test_a_bare_host_is_a_service_of_the_backends_namespace(host: str, expected: str) -> None:
    assert login({**FULL, "host": host})[2] == expected


def test_a_trailing_line_break_is_nobodys_intention() -> None:
    assert login({key: f"{value}\n" for key, value in FULL.items()}) == ("u", "p", "h.db", 1, "d")
    assert login({**FULL, "password": " p \r\n"})[1] == " p "
    assert "a password" in str(problem({**FULL, "password": "\n"}))
    named = str(problem({**FULL, "pw": "\n"}, password="pw"))
    assert named.startswith("the key 'pw' is empty in Secret 'pg-app'")


def test_an_empty_value_counts_as_none() -> None:
    assert login({**FULL, "username": "", "user": "second"})[0] == "second"


@pytest.mark.parametrize(
    "password", ["1234567890", "p@ss/w:rd#1?%", "%41", "ünïcode", " ", "true", "'\"\\$x"]
)
def test_passwords_of_any_characters(password: str) -> None:
    assert login({**FULL, "password": password})[1] == password


@pytest.mark.parametrize(
    ("change", "keys", "reason", "words"),
    [
        ({"password": b"\xff\xfe"}, {}, "SecretInvalid", "the key 'password' of Secret 'pg-app' is not UTF-8 text"),
        ({"password": "a\0b"}, {}, "SecretInvalid", "the key 'password' of Secret 'pg-app' holds a NUL"),
        ({"port": "54x2"}, {}, "SecretInvalid", "the key 'port' of Secret 'pg-app' must hold a port between 1 and 65535"),
        ({"port": "0"}, {}, "SecretInvalid", "between 1 and 65535"),
        ({"port": "65536"}, {}, "SecretInvalid", "between 1 and 65535"),
        ({"port": "٣"}, {}, "SecretInvalid", "between 1 and 65535"),
        ({"port": "9" * 5000}, {}, "SecretInvalid", "between 1 and 65535"),
        ({"host": "a b"}, {}, "SecretInvalid", "the key 'host' of Secret 'pg-app' must hold one host name or one address"),
        ({"host": "h:x"}, {}, "SecretInvalid", "must hold one host name"),
        ({"host": "h:"}, {}, "SecretInvalid", "must hold one host name"),
        ({"host": "[::1"}, {}, "SecretInvalid", "must hold one host name"),
        ({"host": "[::1]x"}, {}, "SecretInvalid", "must hold one host name"),
        ({"host": "[h]:1"}, {}, "SecretInvalid", "must hold one host name"),
        ({"host": "postgresql://h"}, {}, "SecretInvalid", "must hold one host name"),
        ({"host": "::zz"}, {}, "SecretInvalid", "must hold one host name"),
        ({"host": "a,b"}, {}, "SecretInvalid", "must hold one host name"),
        ({"host": "a:1,b:2"}, {}, "SecretInvalid", "must hold one host name"),
        ({}, {"password": "pw"}, "SecretKeyMissing", "the key 'pw' is not in Secret 'pg-app', which has 'database'"),
        ({}, {"uri": "nope"}, "SecretKeyMissing", "the key 'nope' is not in Secret 'pg-app'"),
        ({"u": "x"}, {"uri": "u"}, "SecretInvalid", "the key 'u' of Secret 'pg-app' must hold a postgresql:// URI"),
        ({"u": "mysql://u:p@h/d"}, {"uri": "u"}, "SecretInvalid", "must hold a postgresql:// URI"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_key(change: Any, keys: Any, reason: str, words: str) -> None:
    found = problem({**FULL, **change}, **keys)
    assert found.reason == reason
    assert words in str(found)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://u:p#x@h/d",
        "postgresql://u:1#x@h/d",
        "postgresql://u:p@h/d#",
        "postgresql://u:1/x@h/d",
        "postgresql://u:1?x@h/d",
        "postgresql://u:p%zz@h/d",
        "postgresql://u:p%FF@h/d",
        "postgresql://u:p%00@h/d",
        "postgresql://u:p q@h/d",
        "postgresql://u:p\t@h/d",
        "postgresql://u:p@h1,h2/d",
        "postgresql://u:p@h1:1,h2:2/d",
        "postgresql://u:p@[::1],[::2]/d",
        "postgresql://u:p[x]@h,/d",
        "postgresql://u:p@h:0/d",
        "postgresql://u:p@h:99999/d",
        "postgresql://u:p@h:x/d",
        "postgresql://u:p@[::1/d",
        "jdbc:postgresql://h/d?user=u&password=p",
        "postgresql+asyncpg://u:p@h/d",
        "host=h user=u",
    ],
)
def test_a_uri_that_is_badly_encoded_is_refused_not_guessed_at(uri: str) -> None:
    secret = {"mine": uri}
    assert problem(secret, uri="mine").reason == "SecretInvalid"
    # Where nobody asked for it, it only doesn't help; the message says so.
    found = problem({"uri": uri})
    assert found.reason == "SecretKeyMissing"
    assert str(found).endswith(
        "and what stands under 'uri' is not a postgresql:// URI of one host with every part percent-encoded"
    )
    assert login({**FULL, "uri": uri}) == ("u", "p", "h.db", 1, "d")


def test_what_the_backend_says_itself_is_not_looked_for() -> None:
    """Rubbish under a well-known key stops nobody who has named another."""
    for what in ("username", "password", "database"):
        rubbish = {**FULL, "mine": "M", what: b"\xff"}
        assert "M" in login(rubbish, **{what: "mine"})
        assert problem(rubbish).reason == "SecretInvalid"
    rubbish = {**FULL, "port": "none"}
    assert login(rubbish, {"port": 7})[2:4] == ("h.db", 7)
    assert login(rubbish, {"port": 7, "host": "mine.x"})[2:4] == ("mine.x", 7)


def test_what_is_too_long_is_refused_before_anybody_waits_for_it() -> None:
    long = "a" * 65_536
    for what in ("username", "password", "database"):
        assert long in login({**FULL, what: long})
        found = problem({**FULL, what: f"{long}a"})
        assert found.reason == "SecretInvalid"
        word = {"username": "user"}.get(what, what)
        assert str(found) == f"the {word} that Secret 'pg-app' gives has more than 65536 characters"
    assert login({**FULL, "host": "a." * 127 + "a"})[2] == "a." * 127 + "a"
    assert problem({**FULL, "host": "a." * 127 + "aa"}).reason == "SecretInvalid"
    uri = f"postgresql://u:{'a' * 16_367}@h/d"
    assert len(uri) == 16_384 + 2
    assert "'uri' is not a postgresql:// URI" in str(problem({"uri": uri}))
    assert login({"uri": uri.replace("aaa", "a", 1)})[0] == "u"


def test_a_uri_that_could_be_read_is_not_called_unreadable() -> None:
    assert "percent-encoded" not in str(problem({"uri": "postgresql://u:p@h"}))


def test_a_binary_uri_that_nobody_needs_does_no_harm() -> None:
    assert login({**FULL, "uri": b"\xff", "user": b"\xff", "endpoint": b"\xff"})[0] == "u"
    # And where it is needed it isn't guessed at.
    assert problem({"uri": b"postgresql://u:p\xff@h/d"}).reason == "SecretKeyMissing"


def test_everything_that_is_missing_is_named_at_once_with_what_there_is() -> None:
    found = problem({"foo": "x", "bar": "y"})
    assert found.reason == "SecretKeyMissing"
    assert str(found) == (
        "Secret 'pg-app' does not give a user (looked for username, user, master_username); a password (looked "
        "for password, attribute.password, attribute.master_password); a host (looked for host, address, endpoint, `spec.postgres.host`); a database (looked for "
        "database, dbname, `spec.postgres.database`); it has 'bar', 'foo'"
    )
    assert "a password (looked for password (empty), attribute.password" in str(
        problem({"password": "", "user": "u"})
    )
    superuser = str(problem({"user": "postgres", "postgres-password": "\n"}))
    assert "attribute.master_password, postgres-password (empty))" in superuser
    many = str(problem({f"k{number:02}": "x" for number in range(30)}))
    assert "'k19' and 10 more" in many
    assert "k20" not in many


def test_a_uri_may_leave_the_host_to_others() -> None:
    rest = {key: value for key, value in FULL.items() if key != "database"}
    assert login({**rest, "uri": "postgresql:///dx"}) == ("u", "p", "h.db", 1, "dx")


def test_a_directory_in_a_uri_keeps_its_letters() -> None:
    assert login({"uri": "postgresql://u:p@%2Fvar%2FRun/d"})[2] == "/var/Run"


# -- URIs that are out of date

URI = "postgresql://u:p@h.db:1/d"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (URI, ""),
        ("postgresql://u:p@h:1/d", ""),
        ("postgresql://u:p@H.db.svc.cluster.local.:1/d", ""),
        ("postgresql://h:1", ""),
        ("postgresql://u:old@h.db:1/d", "password"),
        ("postgresql://old:p@h.db:1/d", "username"),
        ("postgresql://u:p@h.db:1/old", "database"),
        ("postgresql://u:p@old.db:1/d", "host"),
        ("postgresql://u:p@h.other.svc:1/d", "host"),
        ("postgresql://u:p@h.db:2/d", "port"),
        ("postgresql://u:p@h.db/d", "port"),
        ("postgresql://old:old@old:2/old", "username, password, database, host"),
        ("postgresql://u:p#x@h/d", ""),
    ],
)
def test_a_uri_that_says_otherwise_is_told_by_the_names_of_its_parts(uri: str, words: str) -> None:
    found = resolved({**FULL, "uri": uri})
    assert parts(found.login) == ("u", "p", "h.db", 1, "d")
    expected = f"the URI under 'uri' is stale, it has another {words}: it is not used"
    assert found.stale == (expected if words else "")


def test_directories_are_compared_letter_by_letter() -> None:
    uri = "postgresql://u:p@%2Frun%2FPg:1/d"
    assert resolved({**FULL, "host": "/run/Pg", "uri": uri}).stale == ""
    assert "another host" in resolved({**FULL, "host": "/run/pg", "uri": uri}).stale
    assert "another host" in resolved({**FULL, "uri": uri}).stale


def test_what_the_backend_says_itself_makes_no_uri_stale() -> None:
    assert resolved({**FULL, "port": "5432", "uri": "postgresql://u:p@h.db/d"}).stale == ""
    no_port = {key: value for key, value in FULL.items() if key != "port"}
    assert resolved({**no_port, "uri": URI}).stale == ""
    secret = {**FULL, "p2": "P", "uri": URI}
    assert resolved(secret, password="p2").stale == ""
    assert resolved(secret, {"host": "mine", "port": 7, "database": "x"}).stale == ""
    assert resolved({**secret, "uri": URI.replace("u:p", "o:p")}, uri="uri").stale == ""
    other = {**secret, "mine": "postgresql://h.db", "uri": "postgresql://u:old@h.db:1/d"}
    assert "another password" in resolved(other, uri="mine").stale


# -- poolers


def test_through_a_pooler_means_the_one_that_the_secret_names() -> None:
    secret = {**FULL, "pgbouncer-host": "b.db", "pgbouncer-port": "6432", "uri": URI}
    for mode in ("Session", "Transaction"):
        found = resolved(secret, {"pooler": mode})
        assert (parts(found.login), found.stale) == (("u", "p", "b.db", 6432, "d"), "")
    assert login(secret)[2:4] == ("h.db", 1)
    assert login(secret, {"pooler": "Session", "host": "mine.x"})[2:4] == ("mine.x", 1)
    assert login(secret, {"pooler": "Session", "port": 9})[2:4] == ("b.db", 9)
    assert login(secret, {"pooler": "Session"}, host="host")[2:4] == ("h.db", 1)
    # Without a port of its own it is 5432, not the database's.
    del secret["pgbouncer-port"]
    assert login(secret, {"pooler": "Session"})[2:4] == ("b.db", 5432)
    secret["pgbouncer-host"] = "b.db:7"
    assert login(secret, {"pooler": "Session"})[2:4] == ("b.db", 7)
    assert login({**FULL, "pgbouncer-host": ""}, {"pooler": "Session"})[2:4] == ("h.db", 1)


# -- TLS


def test_a_ca_is_read_only_where_it_is_looked_at() -> None:
    for mode in ("Disable", "Require"):
        assert resolved({**FULL, "ca.crt": "rubbish"}, {"tls": {"mode": mode}}).tls.ca is None
    for key in ("ca.crt", "clusterCA", "certificates"):
        assert resolved({**FULL, key: PEM}, {"tls": {"mode": "VerifyFull"}}).tls.ca == PEM
    assert (
        problem({**FULL, "ca.crt": "rubbish"}, {"tls": {"mode": "VerifyCA"}}).reason == "CaInvalid"
    )
    assert resolved(FULL, {"tls": {"mode": "VerifyFull"}}).tls.ca is None


def test_a_ca_that_is_referred_to_or_named_wins() -> None:
    verify = {"tls": {"mode": "VerifyFull"}}
    assert resolved({**FULL, "ca.crt": "rubbish"}, verify, PEM).tls.ca == PEM
    assert resolved({**FULL, "ca.crt": "rubbish", "root": PEM}, verify, ca="root").tls.ca == PEM


def test_of_a_bundle_only_the_certificates_are_kept() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    bundle = f"# Főtanúsítvány\n{PEM}{key}{PEM}"
    assert resolved(FULL, {"tls": {"mode": "VerifyFull"}}, bundle).tls.ca == PEM + PEM
    broken = PEM.replace("MII", "AAA")
    assert problem(FULL, {"tls": {"mode": "VerifyFull"}}, broken).reason == "CaInvalid"


# -- never a value

CANARY = "cAnArY"
NAMES = (
    "username", "user", "password", "postgres-password", "host", "endpoint", "port", "database", "uri",
    "url", "ca.crt", "other", "type", "certificates", "private-key", "pgbouncer-host",
)  # fmt: skip
VALUES = st.one_of(
    st.binary(max_size=24).map(lambda raw: raw + CANARY.encode()),
    st.text(max_size=24).map(lambda text: f"{text}{CANARY}".encode()),
    st.sampled_from(
        [
            f"postgresql://u:{CANARY}@h:{CANARY}/d".encode(),
            f"postgresql://{CANARY}:{CANARY}@[{CANARY}]/d".encode(),
            f"postgresql://u:p%zz{CANARY}@h/d".encode(),
            f"[{CANARY}:1".encode(),
            f"h:{CANARY}".encode(),
            CANARY.encode() + b"\xff",
            b"",
            b"\n",
        ]
    ),
)


@settings(deadline=None)
@given(
    secret=st.dictionaries(st.sampled_from(NAMES), VALUES),
    keys=st.dictionaries(
        st.sampled_from(["username", "password", "host", "port", "database", "uri", "ca"]),
        st.sampled_from([*NAMES, "missing"]),
    ),
    mode=st.sampled_from(["Require", "VerifyFull"]),
)
def test_whatever_the_secret_holds_nothing_of_it_is_told(
    secret: dict[str, bytes], keys: dict[str, str], mode: str
) -> None:
    """Neither by the message nor by what hangs on the exception."""
    raised: CredentialsProblem | None = None
    try:
        found = resolved(secret, {"tls": {"mode": mode}}, **keys)
    except CredentialsProblem as error:
        raised = error
    if raised is not None:
        assert CANARY.lower() not in str(raised).lower()
        assert (raised.__cause__, raised.__context__) == (None, None)
    else:
        assert "password=SecretStr('**********')" in repr(found)
        assert CANARY.lower() not in found.stale.lower()
        assert CANARY.lower() not in provisioned.shortcoming(secret).lower()
