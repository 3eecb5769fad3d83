"""KEEP=1: what to type next, and waiting until told to end."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from examples.demo.environment import Environment
from examples.demo.story import Story, quoted
from tests.support.postgres import embedded_binaries

LOOK_SECONDS = 0.5
CONNECTIONS = (
    "SELECT usename, application_name, count(*) FROM pg_stat_activity "
    "WHERE application_name LIKE 'stackstore:%' GROUP BY 1, 2"
)


def keep(environment: Environment, story: Story, tools: Path) -> None:
    """Print the commands and wait for Ctrl-C or a signal, which here are the way to end it."""
    login = environment.root / "pgpass"
    login.touch(mode=0o600)
    # So that what you delete goes: outputs with their bindings, and namespaces.
    environment.plane.start_controllers()
    server = environment.postgres
    login.write_text(f"{server.host}:{server.port}:*:{server.superuser}:{server.password}\n")
    story.say("In another terminal:\n")
    story.text(_commands(environment, tools, login))
    story.say(f"\nTo end it: Ctrl-C here, or kill {os.getpid()}")
    told: set[str] = set()
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(LOOK_SECONDS)
            for trouble in environment.dead():
                if trouble not in told:
                    told.add(trouble)
                    story.say(trouble)


def _commands(environment: Environment, tools: Path, login: Path) -> str:
    server, url, user = environment.postgres, environment.stack_url, environment.user
    psql = (
        f"PGPASSFILE={quoted(str(login))} {quoted(str(embedded_binaries() / 'psql'))} "
        f"-h {server.host} -p {server.port} -U {server.superuser} {environment.database}"
    )
    patch = "kubectl patch secret pg-app --type=merge --patch-file=/dev/stdin"
    body = '{"model": "echo", "messages": [{"role": "user", "content": "hello"}]}'
    kubeconfig = quoted(str(environment.plane.kubeconfig()))
    cache = quoted(str(environment.kubectl_cache))
    return "\n".join(
        (
            f"export KUBECONFIG={kubeconfig} KUBECACHEDIR={cache} PATH={quoted(str(tools))}:$PATH",
            f"cd {quoted(str(Path.cwd()))}",
            "kubectl get sbe,sbn",
            "kubectl describe sbn chat",
            f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
            f"curl '{url}/v1/chat/completions?limit=2'",
            f"curl {url}/status",
            "",
            "# rotate: both lines, in either order",
            f"""echo '{{"stringData": {{"password": "the-new-one"}}}}' | {patch}""",
            f"""echo "ALTER ROLE {user} PASSWORD 'the-new-one'" | {psql}""",
            "",
            "# two seconds later: see the connections at the new revision",
            f'echo "{CONNECTIONS}" | {psql}',
            "",
            "# load (prints its counts and every id); the logs",
            f"{quoted(sys.executable)} -m examples.demo.load --url {url} --seconds 10",
            f"tail -f {quoted(str(environment.root))}/operator.log {quoted(str(environment.root))}/stack.log",
            "",
            "# `kubectl apply -f examples/quickstart/` would undo the two patches above: port and path",
        )
    )
