"""KEEP=1: what to type next, and waiting until told to go on."""

from __future__ import annotations

import contextlib
import os
import time

from examples.demo.story import Story, quoted
from hack.e2e.environment import Environment

LOOK_SECONDS = 0.5


def keep(environment: Environment, story: Story) -> None:
    """Print the commands and wait for Ctrl-C or a signal, after which the story goes on to its end."""
    cluster, root = environment.cluster, environment.root
    variables = [
        "KUBECONFIG",
        "KUBECACHEDIR",
        "HELM_CACHE_HOME",
        "HELM_CONFIG_HOME",
        "HELM_DATA_HOME",
    ]
    path = ":".join(dict.fromkeys(str(tool.parent) for tool in cluster.tools.values()))
    story.say("In another terminal:\n")
    story.text(
        "\n".join(
            (
                *(f"export {name}={quoted(cluster.environment[name])}" for name in variables),
                f"export PATH={quoted(path)}:$PATH",
                "kubectl get pods,sbe,sbn --all-namespaces",
                "kubectl logs --namespace=stackstore-system --selector=app.kubernetes.io/name=stackstore",
                f"curl {environment.url(cluster.pods('app=chat')[0])}/status",
                f"ls {quoted(str(root / 'logs'))}",
            )
        )
    )
    story.say(f"\nTo go on to its end: Ctrl-C here, or kill {os.getpid()}")
    told: set[str] = set()
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(LOOK_SECONDS)
            for trouble in environment.dead():
                if trouble not in told:
                    told.add(trouble)
                    story.say(trouble)
