"""Our render through the server's own loader, and through ours: both must read what we meant."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import trustme

from stackstore import config
from stackstore.credentials.snapshot import PostgresBackend
from stackstore.errors import ConfigError
from stackstore_operator.render import runconfig, secret
from stackstore_operator.render.model import STORAGE_MOUNT
from stackstore_operator.render.releases import NEWEST
from tests.compat.cases import Case, cases, expected

REVISION = "3f9c2a1b"
Result = tuple[str, str]
"""What was tried, and what is wrong; nothing is wrong where it is empty."""


def ask(python: Path, questions: list[dict[str, Any]], home: Path) -> dict[str, Any]:
    """The answers of `inside.py`, one process for all questions."""
    asked, answered = home / "questions.json", home / "answers.json"
    asked.write_text(json.dumps(questions))
    done = subprocess.run(
        [python, "-I", Path(__file__).with_name("inside.py"), asked, answered],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "SQLITE_STORE_DIR": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"the server's environment failed:\n{done.stdout[-3000:]}")
    return dict(json.loads(answered.read_text()))


def environment(data: Mapping[str, bytes]) -> dict[str, str]:
    """What `envFrom` makes of a Secret: every key.

    A kubelet takes them all (since 1.34 without a look, before that all that don't begin with a
    digit), so `stackstore.json` and the CAs are in the environment too, where nobody asks for them.
    """
    return {key: value.decode() for key, value in data.items()}


def run(python: Path) -> list[Result]:
    """Try every case on both loaders."""
    with tempfile.TemporaryDirectory(prefix="stackstore-compat-") as directory:
        home = Path(directory)
        pem = trustme.CA().cert_pem.bytes().decode()
        (home / "ca.crt").write_text(pem)
        tried = list(cases(pem, str(home / "ca.crt")))
        questions, results = [], []
        for case in tried:
            text = runconfig.config_yaml(case.stack)
            environ = {
                **case.environ,
                **mounted(secret.data(case.stack, REVISION), home / case_directory(case)),
            }
            questions.append(
                {"ask": "load", "config": text, "environ": environ, "fields": _fields()}
            )
            results.append((f"our loader: {case.name}", _ours(case, text, environ, home)))
        answers = ask(python, questions, home)
        for case, answer in zip(tried, answers["answers"], strict=True):
            wrong = answer.get("error") or _difference(_expected(case), answer["found"])
            results.append((f"its loader: {case.name}", wrong))
        results.append(("every provider type and field of its registry", _registry(answers)))
        return results


def case_directory(case: Case) -> str:
    """A directory's name for a case."""
    return "".join(letter if letter.isalnum() else "-" for letter in case.name)


def mounted(data: Mapping[str, bytes], mount: Path) -> dict[str, str]:
    """The environment, with the Secret mounted elsewhere than in a pod."""
    mount.mkdir(exist_ok=True)
    for key, value in data.items():
        if key.endswith(".ca.crt"):
            (mount / key).write_bytes(value)
    return {
        key: value.replace(STORAGE_MOUNT, str(mount)) for key, value in environment(data).items()
    }


def _fields() -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for api, field in NEWEST.providers:
        fields.setdefault(api, []).append(field)
    return fields


def _registry(answers: dict[str, Any]) -> str:
    ours = {
        (api, kind, field, rule.family, kind in rule.required)
        for (api, field), rule in NEWEST.providers.items()
        for kind in rule.types
    }
    theirs = {tuple(found) for found in answers["registry"]}
    missing, stale = sorted(theirs - ours), sorted(ours - theirs)
    return "; ".join([f"we lack {row}" for row in missing] + [f"it has no {row}" for row in stale])


def _expected(case: Case) -> dict[str, Any]:
    stack, release = case.stack, case.stack.release
    stores: dict[str, Any] = {}
    bound = {store.name: store for store in stack.stores}
    for name, rule in release.stores.items():
        if name not in bound and not rule.required:
            continue
        store = bound.get(name)
        stores[name] = {
            "backend": store.backend if store else f"{rule.family}_default",
            "namespace" if rule.family == "kv" else "table_name": store.place
            if store
            else rule.place,
        }
        if rule.queued:
            stores[name] |= {
                "max_write_queue_size": (store and store.max_write_queue_size) or 10_000,
                "num_writers": (store and store.num_writers) or 4,
            }
        if name == "inference":
            stores[name]["enabled"] = True
    providers: dict[str, Any] = {}
    for placed in stack.providers:
        leaf = "namespace" if placed.family == "kv" else "table_name"
        providers.setdefault(f"{placed.api}/{placed.provider_id}", {})[placed.field] = {
            "backend": placed.backend,
            leaf: placed.place,
        }
    for name, rest in case.transparent.items():
        providers.setdefault(name, {})["config"] = rest
    return {
        "backends": {name: expected(backend) for name, backend in stack.backends.items()},
        "stores": stores,
        "providers": providers,
    }


def _difference(wanted: Any, found: Any, path: str = "") -> str:
    """Where something is not as wanted; the server may know more."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        exact = path in {"/backends", "/stores"} or path.startswith(("/backends/", "/stores/"))
        extra = sorted(found.keys() - wanted.keys()) if exact else []
        extra = [key for key in extra if found[key] is not None and key != "own_tls"]
        parts = [f"{path} has {', '.join(map(repr, extra))} too"] if extra else []
        parts += [
            _difference(value, found.get(key), f"{path}/{key}") for key, value in wanted.items()
        ]
        return "; ".join(filter(None, parts))
    same = wanted == found and isinstance(wanted, bool) == isinstance(found, bool)
    return "" if same else f"{path} is {found!r}, not {wanted!r}"


def _ours(case: Case, text: str, environ: Mapping[str, str], home: Path) -> str:
    file = home / "config.yaml"
    file.write_text(text)
    try:
        read = config.load(file, environ)
        config.load(file, {}, snapshot_backends=case.stack.backends)
    except ConfigError as error:
        return str(error)
    parts = [
        _difference(_known(backend, backend), _known(read.backends[name], backend), f"/{name}")
        for name, backend in case.stack.backends.items()
    ]
    places = {name: (store.backend, store.place) for name, store in read.stores.items()}
    wanted = {s.name: (s.backend, s.place) for s in case.stack.stores}
    parts.append(_difference(wanted, {name: places.get(name) for name in wanted}))
    used = {(p.api, p.provider_id, p.field): (p.backend, p.place) for p in read.providers}
    parts += [
        _difference((p.backend, p.place), used.get((p.api, p.provider_id, p.field)), p.field)
        for p in case.stack.providers
    ]
    return "; ".join(filter(None, parts))


def _known(backend: Any, snapshot: Any) -> dict[str, Any]:
    """What both the snapshot and the environment tell."""
    if not isinstance(backend, PostgresBackend):
        return {"type": backend.type, "path": backend.path}
    current, tls = backend.current, backend.tls
    found = {
        "type": backend.type,
        "address": (current.host, current.port, current.database),
        "user": current.username,
        "password": current.password.get_secret_value() if current.password else None,
        "tls": tls.mode,
        # Where it isn't checked it isn't named.
        "ca": tls.ca if tls.mode.startswith("Verify") else None,
        "pool": (backend.pool.size, backend.pool.max_overflow),
    }
    if backend.type == "sql_postgres":
        found["recycle"] = backend.pool.recycle_seconds
    elif snapshot.statement_timeout_seconds is not None:
        # Where nobody says one, the server's own bound stands in the config.
        found["timeout"] = backend.statement_timeout_seconds
    return found


def failed(results: Iterable[Result]) -> int:
    """How many are wrong."""
    return sum(1 for _, wrong in results if wrong)
