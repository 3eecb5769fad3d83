"""`--namespaces`: the operator with rights in some namespaces only, and nothing asked of the cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.operator.conftest import new_namespace
from tests.support.operator import (
    DEFAULTS,
    OWN_NAMESPACE,
    Api,
    OperatorProcess,
    binding,
    kv,
    postgres_backend,
    rules,
    sql,
    sqlite_backend,
    until,
)

STORES = [kv("metadata"), sql("inference")]


@pytest.fixture
def user(control_plane):
    """Who may do nothing but in the operator's own namespace."""
    return control_plane.user([], namespace=OWN_NAMESPACE, own_rules=rules("own-rules.yaml"))


def fill(api: Api, password: str = "p-1") -> None:
    api.secret("pg-app", username="app", password=password)
    api.apply(postgres_backend(), sqlite_backend())
    api.apply(binding(stores=STORES, defaults=DEFAULTS))


def password(api: Api) -> str:
    return api.data("Secret", "chat-storage").get("SQL_DEFAULT_PASSWORD", "")


def test_it_serves_its_namespaces_and_asks_nothing_of_the_cluster(control_plane, user, tmp_path):
    apis = [Api(control_plane, new_namespace(control_plane)) for _ in range(3)]
    late = f"{apis[0].namespace}-late"
    for api in apis[:2]:
        control_plane.grant(user, rules(), api.namespace)
    operator = OperatorProcess(
        control_plane, tmp_path, user=user, namespaces=[apis[0].namespace, apis[1].namespace, late]
    ).start()
    try:
        operator.wait_until_up()
        for api in apis:
            fill(api)
        for api in apis[:2]:
            api.ready("chat", seconds=30)
        # The third is not asked for; the namespace that comes late is.
        until(lambda: f"waiting for namespace {late}" in operator.log(), 30, operator.log)
        control_plane.kubectl("create", "namespace", late)
        control_plane.grant(user, rules(), late)
        apis.append(Api(control_plane, late))
        fill(apis[-1])
        apis[-1].ready("chat", seconds=40)
        for api in (apis[0], apis[-1]):
            # By the watch of Secrets, and of our own kinds.
            api.secret("pg-app", username="app", password="p-2")
            until(lambda api=api: password(api) == "p-2", 30, operator.log)
            api.delete("StoreBinding", "chat")
            api.apply(binding("again", stores=STORES, defaults=DEFAULTS))
            api.ready("again", seconds=30)
        assert not apis[2].get("StoreBinding", "chat").get("status")
    finally:
        assert operator.stop() == 0, operator.log()
        for api in apis:
            api.clear()
            api.close()
    assert "Traceback" not in operator.log()
    allowed = {OWN_NAMESPACE, apis[0].namespace, apis[1].namespace, late}
    asked = set()
    for event in control_plane.audit(username=user):
        # What has no objectRef is discovery, which everybody who is known may read.
        if "objectRef" in event:
            asked.add(event["objectRef"].get("namespace"))
            if event["responseStatus"]["code"] == 403:
                assert event["objectRef"]["namespace"] == late
    assert asked == allowed


@pytest.mark.parametrize("lacking", ["secrets", "storebindings"])
def test_a_role_that_lacks_something_is_told_and_ends_it_with_1(
    control_plane, user, namespace, tmp_path, lacking
):
    fewer = [{**r, "resources": [k for k in r["resources"] if k != lacking]} for r in rules()]
    control_plane.grant(user, [r for r in fewer if r["resources"]], namespace)
    operator = OperatorProcess(control_plane, tmp_path, user=user, namespaces=[namespace]).start()
    until(lambda: operator.process.poll() is not None, 30, operator.log)
    assert operator.process.returncode == 1
    assert f'cannot list resource "{lacking}"' in operator.log()
    assert f'in the namespace "{namespace}"' in operator.log()
    assert "Traceback" not in operator.log()


@pytest.mark.parametrize(("given", "told"), [("", "no name"), (",", "no name"), ("a,B", "'B'")])
def test_what_names_no_namespace_is_never_everything(given, told):
    done = subprocess.run(
        [sys.executable, "-m", "stackstore_operator.main", "run", "--namespaces", given],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert told in done.stderr
