"""What the API server itself says to manifests: refusals by their text, defaults as filled in."""

from __future__ import annotations

import copy
import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from stackstore_operator.api import StorageBackend, StoreBinding
from tests.support.controlplane import ControlPlane

PLURALS = {"StorageBackend": "storagebackends", "StoreBinding": "storebindings"}
PATH = "/apis/stackstore.dev/v1alpha1/namespaces"

MODELS = {"StorageBackend": StorageBackend, "StoreBinding": StoreBinding}

LOGIN = {"secretRef": {"name": "pg-app"}}
REF = {"name": "kv-default"}


class Api:
    """One HTTP client as admin; every manifest is a single request."""

    def __init__(self, plane: ControlPlane) -> None:
        token = yaml.safe_load(plane.kubeconfig().read_text())["users"][0]["user"]["token"]
        self.client = httpx.Client(
            base_url=plane.url,
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=str(plane.directory / "tls.crt")),
            timeout=20,
        )

    def create(
        self,
        namespace: str,
        kind: str,
        spec: Any,
        *,
        name: str = "it",
        dry: bool = True,
        **more: Any,
    ) -> httpx.Response:
        return self.client.post(
            f"{PATH}/{namespace}/{PLURALS[kind]}",
            params={"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry else {}),
            json={
                "apiVersion": "stackstore.dev/v1alpha1",
                "kind": kind,
                "metadata": {"name": name},
                "spec": spec,
                **more,
            },
        )

    def patch(
        self, namespace: str, kind: str, patch: Any, *, name: str = "it", sub: str = ""
    ) -> httpx.Response:
        return self.client.patch(
            f"{PATH}/{namespace}/{PLURALS[kind]}/{name}{sub}",
            content=json.dumps(patch),
            headers={"Content-Type": "application/merge-patch+json"},
        )


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    made = Api(control_plane)
    yield made
    made.client.close()


def required(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def selector(*expressions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A backend that takes namespaces by label."""
    chosen = {**more, **({"matchExpressions": list(expressions)} if expressions else {})}
    return pg(allowedNamespaces={"from": "Selector", "selector": chosen})


def pg(postgres: dict[str, Any] | None = None, /, **spec: Any) -> dict[str, Any]:
    return {"type": "sql_postgres", "postgres": postgres or {}, "credentials": LOGIN, **spec}


def tls(**fields: Any) -> dict[str, Any]:
    return pg({"tls": fields})


def keys(postgres: dict[str, Any] | None = None, /, **named: str) -> dict[str, Any]:
    return pg(postgres, credentials={**LOGIN, "keys": named})


def lite(path: str = "/data/kv.db", **spec: Any) -> dict[str, Any]:
    return {"type": "kv_sqlite", "sqlite": {"path": path}, **spec}


def bound(*stores: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"stack": "chat", "stores": list(stores), **spec}


def kv(name: str = "metadata", namespace: str = "registry", **more: Any) -> dict[str, Any]:
    return {"name": name, "backendRef": REF, "namespace": namespace, **more}


def sql(name: str = "inference", table: str = "inference_store", **more: Any) -> dict[str, Any]:
    return {"name": name, "backendRef": REF, "tableName": table, **more}


def own(**changes: Any) -> dict[str, Any]:
    provider = {
        "api": "files",
        "providerId": "localfs",
        "field": "metadata_store",
        "backendRef": REF,
    }
    place = {} if "namespace" in changes else {"tableName": "files_metadata"}
    return {"stack": "chat", "providers": [{**provider, **place, **changes}]}


BACKEND, BINDING = "StorageBackend", "StoreBinding"

# What is good: the manifest's spec, and what part of it the API server gives back.
GOOD: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("postgres with all defaults", BACKEND, pg(), {
        "postgres": {
            "tls": {"mode": "Require"},
            "pooler": "None",
            "pool": {"size": 10, "maxOverflow": 20, "recycleSeconds": 3600, "acquireTimeoutSeconds": 30},
        },
        "credentials": {"keys": {}},
        "rotation": {"graceSeconds": 300},
        "allowedNamespaces": {"from": "Same"},
        "verification": {"mode": "Connect", "periodSeconds": 300},
    }),
    ("kv_postgres", BACKEND, pg(type="kv_postgres"), {}),
    ("kv_sqlite", BACKEND, lite(), {"rotation": {"graceSeconds": 300}}),
    ("sql_sqlite with a space in its path", BACKEND, lite("/my data/s.db", type="sql_sqlite"), {}),
    ("a path beyond ASCII", BACKEND, lite("/données/é.db"), {}),
    ("a host name", BACKEND, pg({"host": "pg-rw.db.svc", "port": 5432, "database": "stack"}), {}),
    ("a bare host", BACKEND, pg({"host": "pg_rw"}), {}),
    ("an absolute host name", BACKEND, pg({"host": "pg.example."}), {}),
    ("an IPv4 address", BACKEND, pg({"host": "10.0.0.1"}), {}),
    ("an IPv6 address", BACKEND, pg({"host": "2001:db8::1"}), {}),
    ("a socket's directory", BACKEND, pg({"host": "/var/run/postgresql"}), {}),
    ("a CA of the default kind", BACKEND, tls(mode="VerifyFull", caRef={"name": "pg-ca"}),
     {"postgres": {"tls": {"caRef": {"kind": "ConfigMap", "key": "ca.crt"}}}}),
    ("VerifyCA without a CA of its own", BACKEND, tls(mode="VerifyCA"), {}),
    ("no TLS", BACKEND, tls(mode="Disable"), {}),
    ("keys of the Secret", BACKEND, keys(username="u", password="p.w", uri="fqdn-uri"), {}),
    ("a CA's key", BACKEND,
     pg({"tls": {"mode": "VerifyFull"}}, credentials={**LOGIN, "keys": {"ca": "root"}}), {}),
    ("pools from end to end", BACKEND, pg({"pool": {"size": 10_000, "maxOverflow": 0, "recycleSeconds": -1}}),
     {"postgres": {"pool": {"acquireTimeoutSeconds": 30}}}),
    ("no grace", BACKEND, pg(rotation={"graceSeconds": 0}), {}),
    ("every namespace", BACKEND, pg(allowedNamespaces={"from": "All"}), {}),
    ("namespaces by label", BACKEND,
     pg(allowedNamespaces={"from": "Selector", "selector": {"matchLabels": {"stacks": "yes"}}}), {}),
    ("namespaces by every kind of label", BACKEND, selector(
        required("a", "In", "b", ""), required("a.example/b_c", "NotIn", "1"), required("a", "Exists"),
        required("b", "DoesNotExist"), matchLabels={"kubernetes.io/metadata.name": "x" * 63, "A_b.c-d": ""}), {}),
    ("as many labels as may be", BACKEND, selector(
        *(required(f"{n}.{'p' * 240}/{'k' * 63}", "In", *(f"{n}{'v' * 60}" for n in range(10, 74))) for n in range(10, 42)),
        matchLabels={f"{n}.{'p' * 240}/{'k' * 63}": "v" * 63 for n in range(10, 42)}), {}),
    ("a selector of every namespace", BACKEND, selector(), {}),
    ("likewise, in other words", BACKEND, selector(matchLabels={}), {}),
    ("a backend out of reach", BACKEND, pg(verification={"mode": "None"}), {"verification": {"periodSeconds": 300}}),
    ("a binding of nothing yet", BINDING, {"stack": "chat"}, {}),
    ("every store", BINDING,
     bound(kv(), sql(), sql("responses"), sql("conversations"), sql("vector_stores"), sql("prompts"), kv("connectors")), {}),
    ("a kv namespace with colons", BINDING, bound(kv(namespace="vector_io::chroma_remote")), {}),
    ("queue settings", BINDING,
     bound(sql(maxWriteQueueSize=10_000, numWriters=4, retentionSeconds=2_592_000, durability={})),
     {"stores": [{**sql(maxWriteQueueSize=10_000, numWriters=4, retentionSeconds=2_592_000),
                  "durability": {"mode": "Memory"}}]}),
    ("a journal", BINDING, bound(sql(durability={"mode": "Journal", "path": "/journal"})), {}),
    ("rows that go", BINDING,
     bound(*(sql(name, retentionSeconds=1) for name in ("inference", "responses", "conversations"))), {}),
    ("a provider's rows that go", BINDING,
     own(api="responses", field="persistence.responses", tableName="r", retentionSeconds=1), {}),
    ("a backend elsewhere under an alias", BINDING,
     bound(kv(backendRef={"name": "kv.x", "namespace": "platform", "alias": "kv_x"})), {}),
    ("a table name of 63", BINDING, bound(sql(table="t" * 63)), {}),
    ("a sql field of a provider", BINDING, own(), {}),
    ("a kv field of a provider, levels deep", BINDING, own(field="persistence.responses", namespace="a::b/c"), {}),
    ("two fields of one provider", BINDING,
     {"stack": "chat", "providers": [*own()["providers"], *own(field="persistence")["providers"]]}, {}),
    ("defaults of one family", BINDING, bound(defaults={"sql": REF}), {}),
    ("a base config", BINDING, bound(baseConfigRef={"name": "base"}), {"baseConfigRef": {"key": "config.yaml"}}),
    ("a release", BINDING, bound(serverRelease="ogx-1.5"), {}),
    ("a consumer", BINDING, bound(consumers=[{"name": "chat"}]),
     {"consumers": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat", "workers": 1}]}),
    ("a rollout", BINDING, bound(rollout={}), {"rollout": {"strategy": "HotReload"}}),
    ("a stack of 52 letters", BINDING, {"stack": "s" * 52}, {}),
]  # fmt: skip

# What is bad: the manifest's spec, the field, and what is allowed, both in the refusal.
BAD: list[tuple[str, str, Any, str, str]] = [
    ("no spec", BACKEND, None, "spec", "Required value"),
    ("no type", BACKEND, {"sqlite": {"path": "/x"}}, "spec.type", "Required value"),
    ("a type of no server", BACKEND, lite(type="kv_redis"), "spec.type", '"kv_postgres", "sql_postgres"'),
    ("a member of the other engine", BACKEND, {"type": "kv_postgres", "sqlite": {"path": "/x"}, "credentials": LOGIN},
     "spec", "`postgres` must be given when `type` is 'kv_postgres' or 'sql_postgres', and only then"),
    ("both members", BACKEND, pg(sqlite={"path": "/x"}), "spec", "`sqlite` must be given when `type` is 'kv_sqlite'"),
    ("neither member", BACKEND, {"type": "kv_sqlite"}, "spec", "`sqlite` must be given"),
    ("postgres without a login", BACKEND, {"type": "sql_postgres", "postgres": {}}, "spec",
     "`credentials` must be given for a Postgres backend, and must not be for SQLite"),
    ("sqlite with a login", BACKEND, lite(credentials=LOGIN), "spec", "must not be for SQLite"),
    ("a login without a Secret", BACKEND, pg(credentials={}), "spec.credentials.secretRef", "Required value"),
    ("a Secret's name in capitals", BACKEND, pg(credentials={"secretRef": {"name": "PG"}}),
     "spec.credentials.secretRef.name", "should match"),
    ("a host with a scheme", BACKEND, pg({"host": "postgresql://pg"}), "spec.postgres",
     "`host` must be a host name or an address, without a scheme"),
    ("a host with its port", BACKEND, pg({"host": "db:5432"}), "spec.postgres", "`host` must not hold the port; write it in `port`"),
    ("a host with its database", BACKEND, pg({"host": "db/stack"}), "spec.postgres", "write the database in `database`"),
    ("a host with a user", BACKEND, pg({"host": "me@db"}), "spec.postgres.host", "should match"),
    ("a host in brackets", BACKEND, pg({"host": "[::1]"}), "spec.postgres.host", "should match"),
    ("two hosts", BACKEND, pg({"host": "a,b"}), "spec.postgres", "must be one host name, one IPv4 or IPv6 address"),
    ("a host with a dash first", BACKEND, pg({"host": "-db"}), "spec.postgres", "must be one host name"),
    ("an empty host", BACKEND, pg({"host": ""}), "spec.postgres.host", "at least 1 chars"),
    ("port 0", BACKEND, pg({"port": 0}), "spec.postgres.port", "greater than or equal to 1"),
    ("port 65536", BACKEND, pg({"port": 65536}), "spec.postgres.port", "less than or equal to 65535"),
    ("a port as text", BACKEND, pg({"port": "5432"}), "spec.postgres.port", "must be of type integer"),
    ("a database's name of 64", BACKEND, pg({"database": "d" * 64}), "spec.postgres.database", "63"),
    ("a line break in a database's name", BACKEND, pg({"database": "a\nb"}), "spec.postgres.database", "should match"),
    ("libpq's spelling of a TLS mode", BACKEND, tls(mode="verify-full"), "spec.postgres.tls.mode", '"VerifyCA", "VerifyFull"'),
    ("a CA that nobody would look at", BACKEND, tls(mode="Require", caRef={"name": "x"}), "spec.postgres.tls",
     "`caRef` may only be given when `mode` is 'VerifyCA' or 'VerifyFull'"),
    ("a CA's key that nobody would look at", BACKEND, keys(ca="root"), "spec",
     "`credentials.keys.ca` may only be given when `postgres.tls.mode` is 'VerifyCA'"),
    ("a CA in a Pod", BACKEND, tls(mode="VerifyCA", caRef={"kind": "Pod", "name": "x"}),
     "spec.postgres.tls.caRef.kind", '"ConfigMap", "Secret"'),
    ("a host and its key", BACKEND, keys({"host": "db"}, host="host"), "spec",
     "`postgres.host` and `credentials.keys.host` must not both be given"),
    ("a port and its key", BACKEND, keys({"port": 1}, port="port"), "spec", "`postgres.port` and `credentials.keys.port`"),
    ("a database and its key", BACKEND, keys({"database": "d"}, database="d"), "spec", "`credentials.keys.database` must not"),
    ("a key with a slash", BACKEND, keys(password="a/b"), "spec.credentials.keys.password", "should match"),
    ("a pool of none", BACKEND, pg({"pool": {"size": 0}}), "spec.postgres.pool.size", "greater than or equal to 1"),
    ("half a connection", BACKEND, pg({"pool": {"size": 1.5}}), "spec.postgres.pool.size", "must be of type integer"),
    ("age -2", BACKEND, pg({"pool": {"recycleSeconds": -2}}), "spec.postgres.pool.recycleSeconds", "greater than or equal to -1"),
    ("waiting for a week", BACKEND, pg({"pool": {"acquireTimeoutSeconds": 604_800}}),
     "spec.postgres.pool.acquireTimeoutSeconds", "less than or equal to 86400"),
    ("a pooler of no kind", BACKEND, pg({"pooler": "Statement"}), "spec.postgres.pooler", '"None", "Session", "Transaction"'),
    ("a statement without time", BACKEND, pg({"statementTimeoutSeconds": 0}), "spec.postgres.statementTimeoutSeconds", "equal to 1"),
    ("a relative path", BACKEND, lite("data/kv.db"), "spec.sqlite.path", "should match"),
    ("a path of a directory", BACKEND, lite("/data/"), "spec.sqlite.path", "should match"),
    ("a placeholder in a path", BACKEND, lite("/data/${env.X}"), "spec.sqlite.path", "should match"),
    ("a line separator in a path", BACKEND, lite("/a\u2028b"), "spec.sqlite.path", "should match"),
    ("a URI as path", BACKEND, lite("/x://y"), "spec.sqlite", "must be the plain path of a file"),
    ("an option in a path", BACKEND, lite("/x?mode=ro"), "spec.sqlite", "must be the plain path of a file"),
    ("a path of no file", BACKEND, lite("/mode=memory"), "spec.sqlite", "'mode=memory' must not be in it"),
    ("a negative grace", BACKEND, pg(rotation={"graceSeconds": -1}), "spec.rotation.graceSeconds", "greater than or equal to 0"),
    ("a budget of none", BACKEND, pg(maxConnections=0), "spec.maxConnections", "greater than or equal to 1"),
    ("a selector that nobody asks", BACKEND,
     pg(allowedNamespaces={"from": "All", "selector": {"matchLabels": {"a": "b"}}}), "spec.allowedNamespaces",
     "`selector` must be given when `from` is 'Selector', and only then"),
    ("by label, without a selector", BACKEND, pg(allowedNamespaces={"from": "Selector"}), "spec.allowedNamespaces",
     "`selector` must be given when `from` is 'Selector', and only then"),
    *((f"a label's name {name[:20]!r}", BACKEND, selector(matchLabels={name: "x"}), "spec.allowedNamespaces.selector.matchLabels",
       "must be names of labels") for name in ("", "a b", "/a", "a/", "A.b/c", "a/b/c", "-a", "a" * 64, "p" * 254 + "/a")),
    ("a label's value with a space", BACKEND, selector(matchLabels={"a": "b c"}), "selector.matchLabels.a", "should match"),
    ("a label's value of 64", BACKEND, selector(matchLabels={"a": "b" * 64}), "selector.matchLabels.a", "63"),
    *((f"{operator} without values", BACKEND, selector(required("a", operator)), "selector.matchExpressions[0]",
       "`values` must be given when `operator` is 'In' or 'NotIn', and only then") for operator in ("In", "NotIn")),
    *((f"{operator} with values", BACKEND, selector(required("a", operator, "b")), "selector.matchExpressions[0]",
       "`values` must be given when") for operator in ("Exists", "DoesNotExist")),
    ("an operator of no kind", BACKEND, selector(required("a", "Gt", "1")), "matchExpressions[0].operator", '"In", "NotIn"'),
    ("a required label of no name", BACKEND, selector(required("a b", "Exists")), "matchExpressions[0].key", "should match"),
    ("a required label of a long prefix", BACKEND, selector(required("p" * 254 + "/a", "Exists")), "matchExpressions[0]",
     "`key` must be the name of a label"),
    ("a required value that is none", BACKEND, selector(required("a", "In", "b c")), "matchExpressions[0].values[0]", "should match"),
    ("a field of no meaning", BACKEND, pg({"hots": "db"}), "spec.postgres.hots", "unknown field"),
    ("a password in the manifest", BACKEND, pg({"password": "x"}), "spec.postgres.password", "unknown field"),
    ("no stack", BINDING, {}, "spec.stack", "Required value"),
    ("a stack in capitals", BINDING, {"stack": "Chat"}, "spec.stack", "should match"),
    ("a stack of 53", BINDING, {"stack": "s" * 53}, "spec.stack", "52"),
    ("a store of no server", BINDING, bound(sql("models")), "spec.stores[0].name", '"metadata", "inference"'),
    ("a store twice", BINDING, bound(sql(), sql()), "spec.stores[1]", "Duplicate value"),
    ("a store without a backend", BINDING, bound({"name": "metadata", "namespace": "n"}),
     "spec.stores[0].backendRef", "Required value"),
    ("both places", BINDING, bound(kv("prompts", tableName="t")), "spec.stores[0]",
     "exactly one of `namespace` (kv) and `tableName` (sql) must be given"),
    ("no place", BINDING, bound({"name": "prompts", "backendRef": REF}), "spec.stores[0]", "exactly one of `namespace`"),
    ("metadata in a table", BINDING, bound(sql("metadata")), "spec.stores[0]", "'metadata' is a kv store: `namespace` must be given"),
    *((f"{name} in a kv namespace", BINDING, bound(kv(name)), "spec.stores[0]", "are sql stores: `tableName` must be given")
      for name in ("inference", "responses", "conversations", "vector_stores")),
    ("a table name with a quote", BINDING, bound(sql(table='x"; drop table y')), "spec.stores[0].tableName", "should match"),
    ("a table name with a schema", BINDING, bound(sql(table="public.t")), "spec.stores[0].tableName", "should match"),
    ("a table name of 64", BINDING, bound(sql(table="t" * 64)), "spec.stores[0].tableName", "63"),
    ("a table name with a digit first", BINDING, bound(sql(table="1t")), "spec.stores[0].tableName", "should match"),
    ("a placeholder as kv namespace", BINDING, bound(kv(namespace="${env.X}")), "spec.stores[0].namespace", "should match"),
    ("an empty kv namespace", BINDING, bound(kv(namespace="")), "spec.stores[0].namespace", "at least 1 chars"),
    ("writers of metadata", BINDING, bound(kv(numWriters=2)), "spec.stores[0]",
     "`maxWriteQueueSize`, `numWriters` and `durability` may only be given for 'inference', 'responses'"),
    ("a queue of prompts", BINDING, bound(sql("prompts", maxWriteQueueSize=1)), "spec.stores[0]", "may only be given for"),
    ("a journal of conversations", BINDING, bound(sql("conversations", durability={})), "spec.stores[0]", "may only be given for"),
    ("a journal of responses", BINDING, bound(sql("responses", durability={"mode": "Journal", "path": "/j"})),
     "spec.stores[0]", "a journal may only be given for 'inference'"),
    *((f"{name} that go", BINDING, bound(kind(name, retentionSeconds=1)), "spec.stores[0]",
       "`retentionSeconds` may only be given for 'inference', 'responses', 'conversations'")
      for name, kind in (("metadata", kv), ("prompts", sql), ("connectors", kv), ("vector_stores", sql))),
    ("files that go", BINDING, own(retentionSeconds=1), "spec.providers[0]",
     "`retentionSeconds` may only be given for 'persistence.responses' of 'responses'"),
    ("a queue of none", BINDING, bound(sql(maxWriteQueueSize=0)), "spec.stores[0].maxWriteQueueSize", "greater than or equal to 1"),
    ("1001 writers", BINDING, bound(sql(numWriters=1001)), "spec.stores[0].numWriters", "less than or equal to 1000"),
    ("a journal nowhere", BINDING, bound(sql(durability={"mode": "Journal"})), "spec.stores[0].durability",
     "`path` must be given when `mode` is 'Journal', and only then"),
    ("memory on a path", BINDING, bound(sql(durability={"path": "/j"})), "spec.stores[0].durability", "`path` must be given when"),
    ("an alias with a dash", BINDING, bound(kv(backendRef={**REF, "alias": "kv-x"})), "spec.stores[0].backendRef.alias", "should match"),
    ("a backend without a name", BINDING, bound(kv(backendRef={})), "spec.stores[0].backendRef.name", "Required value"),
    ("a provider's field twice", BINDING, {"stack": "chat", "providers": own()["providers"] * 2}, "spec.providers[1]", "Duplicate value"),
    ("a provider's field in both", BINDING, own(namespace="n", tableName="t"), "spec.providers[0]", "exactly one of `namespace`"),
    ("a provider's field with a path's syntax", BINDING, own(field="a[0]"), "spec.providers[0].field", "should match"),
    ("17 stores", BINDING, bound(*[sql()] * 17), "spec.stores", "at most 16 items"),
    ("defaults of nothing", BINDING, bound(defaults={}), "spec.defaults", "at least one of `kv` and `sql` must be given"),
    ("a release of nobody", BINDING, bound(serverRelease="ogx-9"), "spec.serverRelease", '"ogx-1.5"'),
    ("a rollout of no kind", BINDING, bound(rollout={"strategy": "Recreate"}), "spec.rollout.strategy",
     '"HotReload", "Restart", "None"'),
    ("a consumer of no worker", BINDING, bound(consumers=[{"name": "x", "workers": 0}]), "spec.consumers[0].workers", "equal to 1"),
    ("stores as a mapping", BINDING, {"stack": "chat", "stores": {}}, "spec.stores", "must be of type array"),
    ("a misspelt field", BINDING, bound(defualts={}), "spec.defualts", "unknown field"),
]  # fmt: skip


def part_of(whole: Any, part: Any) -> Any:
    """Of `whole` what `part` speaks of."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return {key: part_of(whole.get(key), value) for key, value in part.items()}
    return whole


def test_the_tables_are_long() -> None:
    assert len(GOOD) >= 30
    assert len(BAD) >= 60


@pytest.mark.parametrize(
    ("kind", "spec", "filled"), [row[1:] for row in GOOD], ids=[r[0] for r in GOOD]
)
def test_good(api: Api, namespace_for_all: str, kind: str, spec: Any, filled: Any) -> None:
    answer = api.create(namespace_for_all, kind, spec)
    assert answer.status_code == 201, answer.text
    made = answer.json()["spec"]
    assert part_of(made, filled) == filled
    # The models read it as the server means it: no field differs, no default differs.
    read = MODELS[kind].from_object(answer.json()).spec.model_dump(by_alias=True, exclude_none=True)
    assert {key: value for key, value in read.items() if value or key in made} == made
    assert part_of(
        made, {key: value for key, value in spec.items() if not isinstance(value, dict | list)}
    ) == {key: value for key, value in spec.items() if not isinstance(value, dict | list)}


@pytest.mark.parametrize("row", BAD, ids=[row[0] for row in BAD])
def test_bad(api: Api, namespace_for_all: str, row: tuple[str, str, Any, str, str]) -> None:
    _, kind, spec, field, allowed = row
    answer = api.create(namespace_for_all, kind, spec)
    assert answer.status_code in (400, 422), answer.text
    refusal = answer.json()["message"]
    assert field in refusal
    assert allowed in refusal


@pytest.fixture(scope="session")
def namespace_for_all(control_plane: ControlPlane) -> str:
    """Nothing is kept by a dry run: one namespace will do."""
    control_plane.kubectl("create", "namespace", "manifests")
    return "manifests"


@pytest.mark.parametrize("name", ["1db", "d" * 64])
def test_a_backend_whose_name_makes_no_variable_is_refused(
    api: Api, namespace_for_all: str, name: str
) -> None:
    answer = api.create(namespace_for_all, BACKEND, lite(), name=name)
    assert answer.status_code == 422
    assert (
        "`metadata.name` must begin with a letter and have at most 63 characters"
        in answer.json()["message"]
    )


@pytest.mark.parametrize(
    ("kind", "spec", "patch"),
    [
        (BACKEND, lite(), {"type": "sql_sqlite"}),
        (BINDING, {"stack": "chat"}, {"stack": "other"}),
    ],
)
def test_what_must_not_change(api: Api, namespace: str, kind: str, spec: Any, patch: Any) -> None:
    assert api.create(namespace, kind, spec, dry=False).status_code == 201
    answer = api.patch(namespace, kind, {"spec": patch})
    assert answer.status_code == 422
    assert f"`{next(iter(patch))}` must not change; make a new" in answer.json()["message"]


@pytest.mark.parametrize(
    ("kind", "spec", "patch"),
    [
        (
            BACKEND,
            pg(),
            {"postgres": {"host": "other", "pool": {"size": 1}}, "rotation": {"graceSeconds": 1}},
        ),
        (BINDING, bound(sql()), {"stores": [sql(table="other"), kv()], "defaults": {"kv": REF}}),
    ],
)
def test_what_may_change(api: Api, namespace: str, kind: str, spec: Any, patch: Any) -> None:
    made = api.create(namespace, kind, spec, dry=False).json()
    answer = api.patch(namespace, kind, {"spec": patch})
    assert answer.status_code == 200, answer.text
    assert answer.json()["metadata"]["generation"] == made["metadata"]["generation"] + 1


CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Ready",
    "message": "",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize(("kind", "spec"), [(BACKEND, lite()), (BINDING, {"stack": "chat"})])
def test_status_and_spec_are_written_apart(api: Api, namespace: str, kind: str, spec: Any) -> None:
    status = {"conditions": [CONDITION], "observedGeneration": 1}
    made = api.create(namespace, kind, spec, dry=False, status=status).json()
    assert "status" not in made
    api.patch(namespace, kind, {"status": status})
    written = api.patch(
        namespace, kind, {"status": status, "spec": {"rollout": {}}}, sub="/status"
    ).json()
    assert written["status"] == status
    assert written["spec"] == made["spec"]
    assert written["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"status": "Maybe"}, '"True", "False", "Unknown"'),
        ({"reason": "not a word"}, "should match"),
        ({"lastTransitionTime": "yesterday"}, "must be of type date-time"),
        ({"message": "m" * 4097}, "may not be more than 4096"),
    ],
)
def test_conditions_have_the_usual_shape(
    api: Api, namespace: str, change: Any, allowed: str
) -> None:
    api.create(namespace, BACKEND, lite(), dry=False)
    status = {"conditions": [{**CONDITION, **change}]}
    answer = api.patch(namespace, BACKEND, {"status": status}, sub="/status")
    assert answer.status_code == 422
    assert allowed in answer.json()["message"]


def test_conditions_are_merged_by_type(api: Api, namespace: str) -> None:
    """Two appliers of different conditions do not overwrite one another."""
    api.create(namespace, BACKEND, lite(), dry=False)
    for manager, type_ in (("one", "Ready"), ("two", "Adopted")):
        answer = api.client.patch(
            f"{PATH}/{namespace}/storagebackends/it/status",
            params={"fieldManager": manager},
            content=json.dumps(
                {
                    "apiVersion": "stackstore.dev/v1alpha1",
                    "kind": BACKEND,
                    "metadata": {"name": "it"},
                    "status": {"conditions": [{**CONDITION, "type": type_}]},
                }
            ),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert answer.status_code == 200, answer.text
    assert [c["type"] for c in answer.json()["status"]["conditions"]] == ["Ready", "Adopted"]


def test_get_answers_is_it_fine_and_if_not_why(
    api: Api, control_plane: ControlPlane, namespace: str
) -> None:
    api.create(namespace, BACKEND, pg(), name="sql-default", dry=False)
    api.create(namespace, BINDING, {"stack": "chat"}, name="chat", dry=False)
    condition = {
        **CONDITION,
        "status": "Unknown",
        "reason": "SecretNotFound",
        "message": "there is none",
    }
    verified = {**condition, "type": "Verified", "status": "True"}
    adopted = {**condition, "type": "Adopted", "status": "False"}
    told = {"conditions": [condition, verified, adopted], "revision": "3f9c2a1b"}
    of_backend = {**told, "bindings": 2, "serverVersion": "16.4"}
    api.patch(namespace, BACKEND, {"status": of_backend}, name="sql-default", sub="/status")
    outputs = {"configMapName": "chat-run-config", "secretName": "chat-storage"}
    api.patch(namespace, BINDING, {"status": {**told, **outputs}}, name="chat", sub="/status")

    def shown(*arguments: str) -> list[list[str]]:
        text = control_plane.kubectl("get", *arguments, "-n", namespace)
        return [line.split() for line in text.splitlines() if line]

    backend, row, binding, other = shown("sbe,sbn")
    assert backend == [
        "NAME",
        "TYPE",
        "READY",
        "VERIFIED",
        "ADOPTED",
        "REVISION",
        "BINDINGS",
        "REASON",
        "AGE",
    ]
    assert row[:8] == [
        "storagebackend.stackstore.dev/sql-default",
        "sql_postgres",
        "Unknown",
        "True",
        "False",
        "3f9c2a1b",
        "2",
        "SecretNotFound",
    ]
    assert binding == ["NAME", "STACK", "READY", "ADOPTED", "REASON", "CONFIGMAP", "SECRET", "AGE"]
    assert other[1:4] == ["chat", "Unknown", "False"]
    assert other[4:7] == ["SecretNotFound", "chat-run-config", "chat-storage"]
    wide = shown("sbe", "-o", "wide")
    assert wide[0][8:] == ["SERVER", "MESSAGE", "AGE"]
    assert wide[1][8:12] == ["16.4", "there", "is", "none"]
    assert len(shown("stackstore")) == 4


def test_kubectl_explains_and_refuses_what_it_does_not_know(
    control_plane: ControlPlane, namespace: str
) -> None:
    explained = control_plane.kubectl("explain", "sbn.spec.stores.tableName")
    assert "For a sql backend: its table." in explained
    manifest = {
        "apiVersion": "stackstore.dev/v1alpha1",
        "kind": BACKEND,
        "metadata": {"name": "it"},
        "spec": lite(pth="/x"),
    }
    arguments = ("apply", "-n", namespace, "--dry-run=server", "-f", "-")
    refused = control_plane.kubectl(*arguments, stdin=yaml.safe_dump(manifest), check=False)
    assert 'unknown field "spec.pth"' in refused
    good = copy.deepcopy(manifest)
    del good["spec"]["pth"]
    assert "created" in control_plane.kubectl(*arguments, stdin=yaml.safe_dump(good))
