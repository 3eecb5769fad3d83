"""The stacks whose rendered bytes are kept in `golden/`.

`python -m tests.unit.render.samples` writes the files anew; look at the difference before you keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stackstore.credentials.snapshot import PreviousLogin, Tls
from stackstore_operator.render import runconfig, secret
from stackstore_operator.render.model import PlacedProvider, PlacedStore, ResolvedStack
from stackstore_operator.render.releases import NEWEST
from tests.compat.cases import HOSTS, PASSWORDS, backend, login, postgres, stack

GOLDEN = Path(__file__).with_name("golden")
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KINDS = ("kv_sqlite", "kv_postgres"), ("sql_sqlite", "sql_postgres")


def base(api: str, kind: str, config: str = "{}", more: str = "") -> str:
    """A base config with one provider."""
    return (
        f"distro_name: chat\nproviders:\n  {api}:\n"
        f'  - {{provider_id: it, provider_type: "{kind}", config: {config}}}\n{more}'
    )


def samples() -> Iterator[tuple[str, ResolvedStack]]:
    """Each with the name of its file."""
    for kv in KINDS[0]:
        for sql in KINDS[1]:
            yield f"backends-{kv}-{sql}", stack(backend(kv), backend(sql))
    for name, rule in NEWEST.stores.items():
        placed = PlacedStore(name, rule.family, f"{rule.family}_default", f"own_{name}")
        if rule.queued:
            placed = replace(placed, max_write_queue_size=500, num_writers=2)
        if name == "inference":
            placed = replace(placed, retention_seconds=2_592_000, journal="/journal")
        yield f"store-{name}", stack(stores=(placed,))
    for (api, field), rule in NEWEST.providers.items():
        placed_field = PlacedProvider(
            api, "it", field, rule.family, f"{rule.family}_default", f"own_{api}"
        )
        if api == "responses":
            placed_field = replace(placed_field, retention_seconds=86_400)
        rest = ""
        if (api, field) == ("vector_io", "metadata_store"):
            rest = "persistence: {backend: kv_default, namespace: v}"
        text = base(api, rule.types[0 if api != "vector_io" else 1], f"{{kept: yes, {rest}}}")
        yield f"provider-{api}-{field}", stack(providers=(placed_field,), base_config=text)
    for mode in ("Require", "VerifyCA", "VerifyFull"):
        database = postgres("sql_postgres", tls=Tls(mode=mode, ca=CA))
        yield f"tls-{mode}", stack(sql=database)
    for name in ("IPv6", "a socket's directory"):
        database = postgres("sql_postgres", current=login(host=HOSTS[name]))
        yield f"host-{name.split()[-1]}", stack(sql=database)
    current = login(password=PASSWORDS["specials"], username="we%ird@x", database="d/b")
    earlier = PreviousLogin(**dict(login(revision="0a1b2c3d")), usable_until=1_800_000_300)
    database = postgres(
        "kv_postgres", current=current, previous=(earlier,), statement_timeout_seconds=7
    )
    yield "previous-login", stack(kv=database)
    named = {"1st_db": postgres("sql_postgres"), "kv": backend("kv_sqlite")}
    yield "digit-name", stack(backends=named, default_kv="kv", default_sql="1st_db")
    texts = 'version: 2\nserver: {port: 8321}\nkept: ["1e5", "yes", y, 0123, 1e5, 2026-01-01, ~, "é", "${env.X:=a: b}"]\n'
    text = base("inference", "remote::openai", '{base_url: "${env.MODEL_URL}"}', texts)
    yield "base-texts", stack(base_config=text + "storage: {old: {}}\n")


def text(made: ResolvedStack) -> str:
    """A stack's files in one."""
    data = secret.data(made, "3f9c2a1b")
    shown = "".join(f"## {key}\n{value.decode()}\n" for key, value in data.items())
    return f"# ConfigMap\n## config.yaml\n{runconfig.config_yaml(made)}\n# Secret\n{shown}"


def main() -> None:
    """Write all files, and remove those that nobody makes any more."""
    GOLDEN.mkdir(exist_ok=True)
    for file in GOLDEN.glob("*.txt"):
        file.unlink()
    for name, made in samples():
        (GOLDEN / f"{name}.txt").write_text(text(made))


if __name__ == "__main__":
    main()
