"""The CNI plugin: what containerd runs for each pod. It asks podnet, by the Unix socket beside it.

A copy of this file stands among the node's plugins, so it imports nothing of ours and little else.
The protocol: https://www.cni.dev/docs/spec/.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

NAME = "podnet"
SOCKET_NAME = "podnet.sock"
VERSIONS = ["0.3.1", "0.4.0"]


def main() -> int:
    """One command, by the variables that CNI sets; the answer goes to standard output."""
    command = os.environ["CNI_COMMAND"]
    if command == "VERSION":
        print(json.dumps({"cniVersion": VERSIONS[-1], "supportedVersions": VERSIONS}))
        return 0
    if command not in {"ADD", "DEL"}:
        return 0
    namespace = os.environ.get("CNI_NETNS", "")
    question = {
        "command": command,
        "container": os.environ["CNI_CONTAINERID"],
        "namespace": namespace,
    }
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(20)
            asking.connect(str(Path(__file__).with_name(SOCKET_NAME)))
            asking.sendall(json.dumps(question).encode() + b"\n")
            answer = json.loads(asking.makefile().readline())
    except (OSError, ValueError) as error:
        answer = {"error": f"podnet does not answer: {error}"}
    if command == "DEL":
        # Taking away what is gone is no failure.
        return 0
    if "error" in answer:
        print(json.dumps({"cniVersion": VERSIONS[-1], "code": 100, "msg": answer["error"]}))
        return 1
    result = {
        "cniVersion": VERSIONS[-1],
        "interfaces": [{"name": os.environ["CNI_IFNAME"], "sandbox": namespace}],
        "ips": [{"version": "4", "interface": 0, "address": f"{answer['address']}/32"}],
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
