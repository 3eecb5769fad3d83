"""The command `stackstore-operator`."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from stackstore_operator import logs
from stackstore_operator.api import crd
from stackstore_operator.kube.client import ApiError, Client
from stackstore_operator.reconcile import guard
from stackstore_operator.service import Settings, serve

app = typer.Typer(
    name="stackstore-operator",
    help="Named storage backends for LLM stack servers, on Kubernetes.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with locals would hold Secrets.
    pretty_exceptions_enable=False,
)

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@app.command()
def run(
    *,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            help="How to reach the API server. Without it: as the pod's service account.",
            metavar="FILE",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    namespace: Annotated[
        str,
        typer.Option(
            help="The operator's own namespace, where its key and its Lease are kept.",
            envvar="POD_NAMESPACE",
        ),
    ] = "stackstore-system",
    namespaces: Annotated[
        str | None,
        typer.Option(
            help="Serve these namespaces only, separated by commas, and ask nothing of the rest of the "
            "cluster. One that isn't there yet is waited for. Without it: all namespaces.",
            metavar="A,B",
        ),
    ] = None,
    lease_seconds: Annotated[
        float,
        typer.Option(
            help="How long a leader that is silent is waited for before another replica acts. "
            "0: there is only this one, so it acts at once.",
            min=0,
            max=3600,
        ),
    ] = 15,
    metrics_port: Annotated[
        int,
        typer.Option(
            help="Serve /metrics, /livez and /readyz at this port. 0: don't.", min=0, max=65535
        ),
    ] = 0,
    bind: Annotated[
        str, typer.Option(help="The address to serve them at; 0.0.0.0 or :: in a pod.")
    ] = "127.0.0.1",
    log_format: Annotated[
        logs.Format, typer.Option(help="One JSON object a line, or text for people.")
    ] = "json",
) -> None:
    """Watch StorageBackends and StoreBindings and render each stack's Secret and run config.

    Of several replicas one acts, by a Lease in the operator's namespace; the others stand by.
    Ends with 0 on SIGTERM and SIGINT, with 1 when the API server refuses what it can't do without.
    """
    settings = Settings(
        kubeconfig,
        namespace,
        lease_seconds,
        _names(namespaces),
        bind=bind,
        metrics_port=metrics_port,
    )
    logs.configure(log_format)
    try:
        asyncio.run(serve(settings))
    except ApiError as error:
        typer.echo(f"stackstore-operator: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        sys.exit(130)


def _names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    wrong = [name for name in names if not _LABEL.fullmatch(name)]
    if wrong or not names:
        what = f"{wrong[0]!r} is no namespace's name" if wrong else "there is no name in it"
        # Nothing in it must never mean everything.
        raise typer.BadParameter(
            f"{what}; give names like 'a,b', or leave the option out for all namespaces",
            param_hint="--namespaces",
        )
    return names


@app.command()
def release(
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            help="How to reach the API server. Without it: as the pod's service account.",
            metavar="FILE",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    namespaces: Annotated[
        str | None,
        typer.Option(
            help="In these namespaces only, separated by commas. Without it: in all.", metavar="A,B"
        ),
    ] = None,
) -> None:
    """Let go of every StorageBackend before the operator, or its CRDs, are removed.

    A backend in use bears the finalizer stackstore.dev/in-use, so that nobody deletes it under its
    users. Without an operator nobody takes it off, and the backend, its namespace and its CRD could
    not be deleted. Stop the operator first: one that runs puts it back on what is in use. Nothing else
    is changed, and pods go on.

    Example: kubectl -n stackstore-system scale deployment stackstore-operator --replicas 0, then
    stackstore-operator release --kubeconfig ~/.kube/config
    """
    try:
        held, found = asyncio.run(_release(kubeconfig, _names(namespaces)))
    except ApiError as error:
        typer.echo(f"stackstore-operator: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"released {held} of {found} StorageBackends")


async def _release(kubeconfig: Path | None, namespaces: tuple[str, ...]) -> tuple[int, int]:
    client = await Client.connect(kubeconfig)
    try:
        return await guard.release(client, namespaces)
    finally:
        await client.close()
        # TLS connections say goodbye in the background.
        await asyncio.sleep(0.1)


@app.command()
def crds(
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write one file a CRD into this directory. Without it: all to standard output.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions, or write them to a directory.

    Example: stackstore-operator crds | kubectl apply --server-side -f -
    """
    if output is None:
        typer.echo("---\n".join(crd.files().values()), nl=False)
        return
    for path in crd.write(output):
        typer.echo(f"wrote {path}")


if __name__ == "__main__":
    app()
