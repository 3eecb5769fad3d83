"""References to backends: bound ones are written, all are checked, and no two share a place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from stackstore_operator.api.conditions import Reason
from stackstore_operator.render import runconfig
from stackstore_operator.render.model import PlacedProvider, PlacedStore, RenderError
from stackstore_operator.render.releases import NEWEST
from tests.compat.cases import backend, login, postgres, stack
from tests.unit.render.samples import base


def bound(api="files", field="metadata_store", family="sql", place="mine", **more):
    name = more.pop("backend", f"{family}_default")
    return PlacedProvider(api, more.pop("provider_id", "it"), field, family, name, place)


def refusal(**changes) -> RenderError:
    with pytest.raises(RenderError) as caught:
        runconfig.config_yaml(stack(**changes))
    return caught.value


def rendered(**changes):
    return yaml.safe_load(runconfig.config_yaml(stack(**changes)))


FILES = base("files", "inline::localfs", "{storage_dir: /f}")
MINE = {"backend": "sql_default", "table_name": "mine"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("{storage_dir: /f}", {"storage_dir": "/f", "metadata_store": MINE}),
        ("", {"metadata_store": MINE}),
        ("{metadata_store: }", {"metadata_store": MINE}),
        ("{metadata_store: {backend: old, table_name: old, x: y}}", {"metadata_store": MINE}),
    ],
)
def test_a_bound_reference_replaces_what_is_there_and_nothing_else(config, expected):
    made = rendered(
        base_config=base("files", "inline::localfs", config or " "), providers=(bound(),)
    )
    assert made["providers"]["files"][0]["config"] == expected


def test_a_config_that_is_left_out_is_made():
    text = "distro_name: x\nproviders: {files: [{provider_id: it, provider_type: 'remote::s3'}]}\n"
    made = rendered(base_config=text, providers=(bound(),))
    assert made["providers"]["files"][0]["config"] == {"metadata_store": MINE}


@pytest.mark.parametrize("config", ["{}", "{persistence: }", "{persistence: {kept: 1}}"])
def test_a_dotted_field_is_made_level_by_level(config):
    text = base("responses", "inline::builtin", config)
    made = rendered(base_config=text, providers=(bound("responses", "persistence.responses"),))
    found = made["providers"]["responses"][0]["config"]["persistence"]
    assert found.pop("kept", 1) == 1
    assert found == {"responses": MINE}


def test_a_level_that_is_no_mapping_is_refused_with_its_line():
    refused = refusal(
        base_config=base("responses", "inline::builtin", "{persistence: text}"),
        providers=(bound("responses", "persistence.responses"),),
    )
    where = "the base config:4: providers.responses[0].config.persistence: must be a mapping"
    assert str(refused) == where


@pytest.mark.parametrize("written", ["it", '"${env.S3_URL:+it}"', '"${env.FILES:=it}"'])
def test_a_provider_is_found_by_its_id_even_where_a_variable_switches_it(written):
    text = FILES.replace("provider_id: it", f"provider_id: {written}")
    made = rendered(base_config=text, providers=(bound(),))
    assert made["providers"]["files"][0]["config"]["metadata_store"] == MINE


@pytest.mark.parametrize(
    ("placed", "reason", "words"),
    [
        (bound(provider_id="other"), Reason.PROVIDER_NOT_FOUND,
         "the base config has no provider 'other' of `files`; it has 'it' there"),
        (bound("batches", "sqlstore"), Reason.PROVIDER_NOT_FOUND,
         "the base config has no provider 'it' of `batches`; it has none there"),
        (bound(field="kvstore"), Reason.FIELD_UNKNOWN,
         "provider 'it' of `files`: ogx-1.5 has no field 'kvstore' there; it has metadata_store"),
        (bound("safety", "store"), Reason.FIELD_UNKNOWN,
         "provider 'it' of `safety`: ogx-1.5 has no field 'store' there; it has none"),
        (bound(family="kv"), Reason.FAMILY_MISMATCH,
         "provider 'it' of `files`: field 'metadata_store' is a sql reference; give it `table_name`"),
    ],
)  # fmt: skip
def test_a_binding_that_fits_no_provider_is_refused_by_name(placed, reason, words):
    refused = refusal(base_config=FILES, providers=(placed,))
    assert (refused.reason, str(refused)) == (reason, words)


@pytest.mark.parametrize("kind", ["inline::chromadb", "remote::oci"])
def test_a_field_that_this_type_of_provider_lacks_is_refused(kind):
    text = base("vector_io", kind, "{persistence: {backend: kv_default, namespace: v}}")
    refused = refusal(base_config=text, providers=(bound("vector_io", "metadata_store"),))
    assert refused.reason == Reason.FIELD_UNKNOWN
    assert f"is of type '{kind}', which has no field 'metadata_store'" in str(refused)
    assert "remote::pgvector" in str(refused)


@pytest.mark.parametrize(
    "text",
    [
        base("vector_io", "remote::mine", "{}").replace("config:", "module: mine, config:"),
        base("vector_io", "remote::mine", "{}", "external_providers_dir: /p\n"),
    ],
)
def test_of_types_that_do_not_come_with_the_server_nothing_is_known(text):
    made = rendered(base_config=text, providers=(bound("vector_io", "metadata_store"),))
    assert made["providers"]["vector_io"][0]["config"]["metadata_store"] == MINE


def test_an_id_that_is_there_twice_is_refused_with_both_lines():
    line = '  - {provider_id: it, provider_type: "inline::localfs", config: {}}\n'
    refused = refusal(base_config=FILES + line, providers=(bound(),))
    assert refused.reason == Reason.BASE_CONFIG_INVALID
    assert "more than once, in lines 4, 5" in str(refused)


def test_providers_without_a_base_config_are_refused_not_dropped():
    refused = refusal(providers=(bound(),))
    assert refused.reason == Reason.BASE_CONFIG_NOT_FOUND
    assert "`spec.baseConfigRef`" in str(refused)


UNBOUND = {
    ("files", "inline::localfs", "{}"): "metadata_store: is missing, and the server does not start",
    ("skills", "inline::builtin", "{}"): "persistence: is missing, and the server does not start",
    ("responses", "inline::builtin", "{}"): "persistence.responses: is missing, and the server",
    ("vector_io", "inline::faiss", "{}"): "persistence: is missing, and the server does not start",
    ("files", "inline::localfs", "{metadata_store: text}"): "must be a mapping with `backend` and",
    ("files", "inline::localfs", "{metadata_store: {table_name: t}}"): "has no `backend`",
    ("files", "inline::localfs", "{metadata_store: {backend: sql_default}}"): "has no `table_name`",
    ("skills", "inline::builtin", "{persistence: {backend: kv_default, table_name: t}}"):
        "has no `namespace`",
    ("files", "inline::localfs", "{metadata_store: {backend: sql_defualt, table_name: t}}"):
        "refers to a backend 'sql_defualt' that is no sql backend of this stack, which has "
        "sql_default; did you mean 'sql_default'?",
    ("files", "inline::localfs", "{metadata_store: {backend: kv_default, table_name: t}}"):
        "refers to a backend 'kv_default' that is no sql backend of this stack",
}  # fmt: skip


@pytest.mark.parametrize("key", UNBOUND, ids=str)
def test_a_reference_that_the_server_would_fail_on_is_refused_and_how_to_bind_it(key):
    api, kind, config = key
    refused = refusal(base_config=base(api, kind, config))
    assert refused.reason == Reason.BASE_CONFIG_INVALID
    assert UNBOUND[key] in str(refused)
    assert str(refused).startswith("the base config:4: providers.")
    assert f"bind it: `spec.providers` with api '{api}'" in str(refused)


@pytest.mark.parametrize(
    "text",
    [
        FILES.replace("{storage", "{metadata_store: {backend: sql_default, table_name: t}, storage"),
        FILES.replace("{storage", "{metadata_store: {backend: '${env.B}', table_name: t}, storage"),
        FILES.replace("provider_id: it", "provider_id: __disabled__"),
        FILES.replace("provider_id: it", "provider_id: null"),
        base("vector_io", "remote::pgvector"),
        base("interactions", "inline::builtin"),
        base("responses", "inline::builtin", "{persistence: {responses: {backend: sql_default}}}"),
        base("inference", "remote::vertexai"),
        base("safety", "inline::any", "{metadata_store: whatever}"),
        base("files", "remote::mine", "{metadata_store: whatever}"),
    ],
)  # fmt: skip
def test_what_the_server_starts_with_is_left_alone(text):
    made = rendered(base_config=text)
    made.pop("storage")
    assert made == yaml.safe_load(text)


def test_a_backend_that_the_server_assumes_must_be_there():
    backends = {"kv": backend("kv_sqlite"), "sql": backend("sql_sqlite")}
    refused = refusal(
        base_config=base("interactions", "inline::builtin"),
        backends=backends, default_kv="kv", default_sql="sql",
    )  # fmt: skip
    assert "the server would assume a backend 'sql_default'" in str(refused)


def store(name: str, place: str, on: str | None = None) -> PlacedStore:
    family = NEWEST.stores[name].family
    return PlacedStore(name, family, on or f"{family}_default", place)


COLLISIONS = {
    "two stores, one table":
        ({"stores": (store("inference", "t"), store("responses", "t"))}, "table 't'"),
    "one table in another case":
        ({"stores": (store("inference", "t"), store("responses", "T"))}, "table 'T'"),
    "a bound table that a store has by default":
        ({"stores": (store("inference", "connectors"),)}, "table 'connectors'"),
    "a table whose name the server fixes, whatever the binding says":
        ({"stores": (store("inference", "prompts"), store("prompts", "other"))}, "table 'prompts'"),
    "a second table of a store":
        ({"stores": (store("inference", "conversation_items"),)}, "table 'conversation_items'"),
    "the table of the server's jobs":
        ({"stores": (store("inference", "jobs"),)}, "table 'jobs'"),
    "the same, by one who shares other tables on purpose":
        ({"stores": (store("vector_stores", "jobs"),)}, "table 'jobs'"),
    "the table of all keys, in one database":
        ({"kv": postgres("kv_postgres"), "sql": postgres("sql_postgres"),
          "stores": (store("inference", "ogx_kvstore"),)}, "table 'ogx_kvstore'"),
    "the table of all keys, in one file":
        ({"kv": backend("kv_sqlite"),
          "sql": backend("sql_sqlite").model_copy(update={"path": "/var/lib/stack//kv_sqlite.db"}),
          "stores": (store("inference", "kvstore"),)}, "table 'kvstore'"),
    "a store and a provider":
        ({"stores": (store("inference", "mine"),), "base_config": FILES, "providers": (bound(),)},
         "table 'mine'"),
    "a provider's fixed table":
        ({"stores": (store("inference", "openai_files"),), "base_config": FILES,
          "providers": (bound(),)}, "table 'openai_files'"),
    "a reference that nobody bound":
        ({"stores": (store("inference", "r"),),
          "base_config": base("responses", "inline::builtin",
                              "{persistence: {responses: {backend: sql_default, table_name: r}}}")},
         "table 'r'"),
    "the place that a provider takes by default":
        ({"stores": (store("inference", "interactions"),),
          "base_config": base("interactions", "inline::builtin")}, "table 'interactions'"),
    "two providers whose ids can't be shown":
        ({"base_config": base("skills", "inline::builtin", "{persistence: {backend: kv_default, "
                              "namespace: s}}").replace("provider_id: it", "provider_id: '${env.A:+a}'")
          + "  - {provider_id: '${env.B:+b}', provider_type: 'inline::builtin', config: {persistence: "
          "{backend: kv_default, namespace: s}}}\n"}, "kv namespace 's'"),
    "one kv namespace":
        ({"stores": (store("metadata", "k"),), "base_config": base("skills", "inline::builtin"),
          "providers": (bound("skills", "persistence", "kv", "k"),)}, "kv namespace 'k'"),
}  # fmt: skip


@pytest.mark.parametrize("name", COLLISIONS)
def test_two_users_of_one_place_are_refused(name):
    changes, what = COLLISIONS[name]
    refused = refusal(**changes)
    assert refused.reason == Reason.TABLE_COLLISION
    assert f"would share the {what} of one database; give each its own" in str(refused)


SKILLS = base("skills", "inline::builtin")


@pytest.mark.parametrize(
    ("store_place", "own_place", "other"),
    [("a", "a:b", "a"), ("a:b", "a", "a"), ("a", "a::b:c", "a"), ("a:b", "a:b:c", "a:b")],
)
@pytest.mark.parametrize("kv", ["kv_sqlite", "kv_postgres"])
def test_a_kv_namespace_whose_keys_another_one_would_read_is_refused(
    store_place, own_place, other, kv
):
    """The server joins namespace and key by a colon, and looks for what begins so."""
    refused = refusal(
        kv=backend(kv),
        stores=(store("metadata", store_place),),
        base_config=SKILLS,
        providers=(bound("skills", "persistence", "kv", own_place),),
    )
    assert refused.reason == Reason.TABLE_COLLISION
    assert "store 'metadata'" in str(refused)
    assert "skills" in str(refused)
    assert f"'{other}' also reads what" in str(refused)


@pytest.mark.parametrize("own_place", ["ab", "a-b:c", "b:a", "A"])
def test_kv_namespaces_that_only_look_alike_are_fine(own_place):
    rendered(
        stores=(store("metadata", "a"),),
        base_config=SKILLS,
        providers=(bound("skills", "persistence", "kv", own_place),),
    )


def test_names_that_postgres_cuts_to_one_are_one():
    long = "t" * 63
    config = base("responses", "inline::builtin",
                  f"{{persistence: {{responses: {{backend: sql_default, table_name: {long}x}}}}}}")  # fmt: skip
    changes = {"stores": (store("inference", long),), "base_config": config}
    assert refusal(sql=postgres("sql_postgres"), **changes).reason == Reason.TABLE_COLLISION
    # A file has no such bound.
    rendered(**changes)


@pytest.mark.parametrize("name", ["kv", "KV", "schema_versions", "owners"])
def test_a_table_of_ours_is_refused(name):
    refused = refusal(stores=(store("inference", name),))
    assert refused.reason == Reason.TABLE_COLLISION
    assert f"the table name '{name}' is kept for Stackstore's own" in str(refused)


def test_two_names_of_one_database_do_not_part_it():
    one = postgres("sql_postgres")
    other = postgres("sql_postgres", current=login(host="PG-RW.db.svc", username="another"))
    backends = {"kv": backend("kv_sqlite"), "one": one, "other": other}
    stores = (store("inference", "t", "one"), store("responses", "t", "other"))
    changes = {"backends": backends, "default_kv": "kv", "default_sql": "one", "stores": stores}
    assert refusal(**changes).reason == Reason.TABLE_COLLISION
    for apart in ({"port": 5433}, {"database": "another"}, {"host": "pg-ro.db.svc"}):
        backends["other"] = postgres("sql_postgres", current=login(**apart))
        rendered(**changes)


def test_what_the_server_shares_on_purpose_may_be_shared():
    text = base(
        "vector_io", "remote::pgvector", "{metadata_store: {backend: sql_default, table_name: v}}",
        "  safety: []\n",
    ).replace(
        "  safety", '  - {provider_id: b, provider_type: "remote::qdrant", config: '
        "{persistence: {backend: kv_default, namespace: b}, "
        "metadata_store: {backend: sql_default, table_name: v}}}\n  safety",
    )  # fmt: skip
    rendered(base_config=text, stores=(store("vector_stores", "vector_stores"),))
    # One kv table holds every namespace, so two kv backends on one database are no collision.
    same = {"kv_default": postgres("kv_postgres"), "more": postgres("kv_postgres"),
            "sql_default": postgres("sql_postgres"), "and": postgres("sql_postgres")}  # fmt: skip
    rendered(backends=same)


def test_a_store_that_is_needed_and_bound_by_nobody_is_named():
    for family in ("kv", "sql"):
        refused = refusal(**{f"default_{family}": None})
        assert refused.reason == Reason.STORE_MISSING
        assert f"`spec.defaults.{family}`" in str(refused)


def test_unknown_stores_and_wrong_families_are_refused():
    unknown = replace(store("inference", "t"), name="inferences")
    assert refusal(stores=(unknown,)).reason == Reason.FIELD_UNKNOWN
    wrong = PlacedStore("inference", "kv", "kv_default", "ns")
    assert refusal(stores=(wrong,)).reason == Reason.FAMILY_MISMATCH


def test_queue_bounds_are_rendered_where_the_server_reads_them():
    queued = replace(store("inference", "t"), max_write_queue_size=7, num_writers=2)
    found = rendered(stores=(queued,))["storage"]["stores"]
    assert found["inference"] == {
        "backend": "sql_default", "table_name": "t", "max_write_queue_size": 7, "num_writers": 2,
    }  # fmt: skip
    assert "num_writers" not in found["conversations"]


@pytest.mark.parametrize(
    ("kind", "path"), [("sql_sqlite", "/data/a?b.db"), ("kv_sqlite", "/data/mode=memory.db")]
)
def test_a_path_that_the_server_takes_for_something_else_is_refused(kind, path):
    made = backend(kind).model_copy(update={"path": path})
    refused = refusal(**{kind.split("_")[0]: made})
    assert refused.reason == Reason.INVALID
    assert "rename the file" in str(refused)


@pytest.mark.parametrize(
    "names", [("a-b", "a.b"), ("a_b", "A_B"), ("1a", "_1a"), ("kubernetes_service", "z")]
)
def test_backends_whose_variables_would_be_the_same_are_refused(names):
    backends = {name: postgres("sql_postgres", current=login(database=name)) for name in names}
    refused = refusal(
        backends={**backends, "kv": backend("kv_sqlite")}, default_kv="kv", default_sql=names[0]
    )
    assert refused.reason == Reason.NAME_COLLISION
    assert "alias" in str(refused)
