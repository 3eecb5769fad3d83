"""Objects as plain JSON: get, list, create, server-side apply."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import yaml
from kubernetes.aio import client, config

from stackstore_operator.telemetry import metrics, requests, trail

logger = logging.getLogger(__name__)

FIELD_MANAGER = "stackstore-operator"
REQUEST_TIMEOUT_SECONDS = 15
_DELAYS = (0.1, 0.3, 1.0, 2.0)
_LONGEST_WAIT = 30.0
_WORTH_RETRYING = {0, 429, 500, 502, 503, 504}
_NOTHING: Mapping[str, str] = {}
_PAGE = "50"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MAX_LINE = 32 * 1024 * 1024
"""Bytes of a watch's line. etcd takes objects of 1.5 MiB, and JSON may write a byte as six."""

Object = dict[str, Any]
_Objects = list[Object]

RESOURCES = {
    "Namespace": "api/v1/namespaces",
    "StorageBackend": "apis/stackstore.dev/v1alpha1/namespaces/{namespace}/storagebackends",
    "StoreBinding": "apis/stackstore.dev/v1alpha1/namespaces/{namespace}/storebindings",
    "Secret": "api/v1/namespaces/{namespace}/secrets",
    "ConfigMap": "api/v1/namespaces/{namespace}/configmaps",
    "Pod": "api/v1/namespaces/{namespace}/pods",
    "Event": "api/v1/namespaces/{namespace}/events",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "Deployment": "apis/apps/v1/namespaces/{namespace}/deployments",
    "StatefulSet": "apis/apps/v1/namespaces/{namespace}/statefulsets",
    "DaemonSet": "apis/apps/v1/namespaces/{namespace}/daemonsets",
    "OGXServer": "apis/ogx.io/v1beta1/namespaces/{namespace}/ogxservers",
    "LlamaStackDistribution": (
        "apis/llamastack.io/v1alpha1/namespaces/{namespace}/llamastackdistributions"
    ),
    "HorizontalPodAutoscaler": (
        "apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    ),
}


_KINDS = {path.rpartition("/")[2]: kind for kind, path in RESOURCES.items()}
_OUTPUTS = {("apply", "Secret"), ("apply", "ConfigMap")}


class ApiError(Exception):
    """The API server refused a request, or could not be asked."""

    def __init__(self, status: int, message: str, *, wait: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait
        """In how many seconds the API server wants to be asked again; 0: it didn't say."""


class Client:
    """A connection to one API server.

    Attributes:
        may_write: asked before each write, retries included; a False refuses it.
        answered: told of each request whether the API server was there to answer it.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self.may_write: Callable[[], bool] = lambda: True
        self.answered: Callable[[bool], None] = lambda _: None
        self._api = api
        self._session: aiohttp.ClientSession | None = None
        self._base = api.configuration.host.rstrip("/")

    @classmethod
    async def connect(cls, kubeconfig: Path | None) -> Client:
        """From a kubeconfig file, or as the pod's service account.

        Raises:
            ApiError: neither can be used.
        """
        configuration = client.Configuration()
        try:
            if kubeconfig is not None:
                await config.load_kube_config(  # type: ignore[no-untyped-call]  # the client has no types here
                    config_file=str(kubeconfig), client_configuration=configuration
                )
            else:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # likewise
        except config.ConfigException as error:
            raise ApiError(0, f"no way to the API server: {error}; give --kubeconfig") from None
        except (yaml.YAMLError, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
            # The client takes a kubeconfig's shape for granted. Its errors may quote tokens.
            raise ApiError(
                0, f"{kubeconfig} is no kubeconfig ({type(error).__name__}); try it with kubectl"
            ) from None
        configuration.retries = None
        return cls(client.ApiClient(configuration))

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """How the API server proves itself, and a client certificate proves us."""
        context: ssl.SSLContext = self._api.rest_client.ssl_context
        return context

    @property
    def configuration(self) -> client.Configuration:
        """Where the API server is and how to log in; freshly read tokens included."""
        configuration: client.Configuration = self._api.configuration
        return configuration

    async def authorization(self) -> str:
        """The value of the Authorization header; empty when a client certificate speaks for us.

        Asked for each request: a service account's token is renewed in its file.
        """
        return await self.configuration.get_api_key_with_prefix("BearerToken") or ""

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
        await self._api.close()  # type: ignore[no-untyped-call]  # likewise

    # -- objects

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return await self._request("GET", _path(kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, kind: str, namespace: str | None = None, selector: str = ""
    ) -> Sequence[Object]:
        """All objects of a kind, whole; of all namespaces, or of one, and with these labels."""
        return await self._list(kind, namespace, "application/json", selector)

    async def peek(self, kind: str, namespace: str | None) -> None:
        """Ask for one object of a kind, whichever: whether they may be listed.

        Raises:
            ApiError: 403 when they may not.
        """
        await self._request("GET", _all(kind, namespace), query={"limit": "1"}, accept=_METADATA)

    async def create(self, obj: Mapping[str, Any]) -> Object | None:
        """Create an object; None when one of that name exists."""
        metadata = obj["metadata"]
        path = _path(obj["kind"], metadata["namespace"])
        try:
            return await self._request(
                "POST", path, body=obj, query={"fieldManager": FIELD_MANAGER}
            )
        except ApiError as error:
            if error.status == 409:
                return None
            raise

    async def apply(
        self, obj: Mapping[str, Any], *, subresource: str = "", manager: str = FIELD_MANAGER
    ) -> Object:
        """Server-side apply: what is said here is so; what others said elsewhere stays.

        Args:
            obj: what is said.
            subresource: of which part of the object; empty: of all but its status.
            manager: in whose name; what one name said it takes away when it says it no more.

        Raises:
            ApiError: among others 409 when `metadata.uid` names an object that is gone.
        """
        metadata = obj["metadata"]
        path = _path(obj["kind"], metadata["namespace"], metadata["name"])
        if subresource:
            path += f"/{subresource}"
        return await self._request(
            "PATCH",
            path,
            body=obj,
            query={"fieldManager": manager, "force": "true"},
            content_type="application/apply-patch+yaml",
        )

    async def patch(
        self, kind: str, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Object:
        """JSON Patch (RFC 6902).

        Raises:
            ApiError: among others 422 when one of its tests does not hold.
        """
        return await self._request(
            "PATCH",
            _path(kind, namespace, name),
            body=operations,
            query={"fieldManager": FIELD_MANAGER},
            content_type="application/json-patch+json",
        )

    async def once(
        self,
        method: str,
        kind: str,
        namespace: str,
        name: str,
        *,
        body: Mapping[str, Any] | None,
        seconds: float,
    ) -> Object:
        """One request, tried once, and whoever leads; for what decides who leads.

        Args:
            method: "GET", "POST" (the object is made) or "PUT" (it is replaced).
            kind: of which kind.
            namespace: where.
            name: the object's.
            body: the object to be; None with GET.
            seconds: how long it may take.

        Raises:
            ApiError: it was refused, or there was no answer in time.
        """
        path = _path(kind, namespace, "" if method == "POST" else name)
        return await self._attempt(method, path, body=body, seconds=seconds)

    # -- watching metadata

    async def list_metadata(
        self, kind: str, namespace: str | None, wanted: Callable[[Object], bool] = lambda _: True
    ) -> tuple[Sequence[Object], str]:
        """The objects of a kind that are wanted, by their metadata, and the version to watch from."""
        found: _Objects = []

        def take(item: Object) -> None:
            slim = _slim(item)
            if wanted(slim):
                found.append(slim)

        return found, await self._pages(kind, namespace, _METADATA, take)

    async def watch_metadata(
        self, kind: str, namespace: str | None, since: str, *, seconds: int, silence: float = 90.0
    ) -> AsyncIterator[tuple[str, Object]]:
        """Changes since a version, as (type, metadata); ends after `seconds`, or `silence` with nothing.

        Raises:
            ApiError: 410 when the version is too old: list again.
        """
        query = {
            "watch": "true",
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        headers = await self._headers()
        headers["Accept"] = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        began = time.monotonic()
        response = await self._raw(
            "GET",
            f"{self._base}/{_all(kind, namespace)}?{urlencode(query)}",
            headers,
            None,
            # Bookmarks come about every minute: a silence much longer is a dead connection.
            aiohttp.ClientTimeout(total=seconds + 10, sock_connect=5, sock_read=silence),
        )
        requests.count("watch", kind, response.status, time.monotonic() - began)
        self.answered(response.status < 500)
        try:
            if response.status >= 400:
                raise ApiError(
                    response.status,
                    f"watching {kind}: HTTP {response.status}",
                    wait=_wait(response),
                )
            async for line in _lines(response.content):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), f"watching {kind}")
                yield event["type"], _slim(event["object"])
        finally:
            response.close()

    # -- inside

    async def _list(
        self, kind: str, namespace: str | None, accept: str, selector: str = ""
    ) -> Sequence[Object]:
        found: _Objects = []
        await self._pages(kind, namespace, accept, found.append, selector)
        return found

    async def _pages(
        self,
        kind: str,
        namespace: str | None,
        accept: str,
        each: Callable[[Object], None],
        selector: str = "",
    ) -> str:
        # Small pages, of which little is kept: everybody's annotations together would fill the memory.
        asked = {"limit": _PAGE} | ({"labelSelector": selector} if selector else {})
        query = asked
        while True:
            answer = await self._request("GET", _all(kind, namespace), query=query, accept=accept)
            # An empty list of some kinds has `items: null`.
            for item in answer["items"] or ():
                each(item)
            page = answer["metadata"].get("continue")
            if not page:
                return str(answer["metadata"]["resourceVersion"])
            query = asked | {"continue": page}

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        query: Mapping[str, str] = _NOTHING,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        for delay in (*_DELAYS, None):
            if method != "GET" and not self.may_write():
                raise ApiError(0, f"{method} {path}: not the leader any more")
            try:
                return await self._attempt(
                    method,
                    path,
                    body=body,
                    query=query,
                    content_type=content_type,
                    accept=accept,
                    seconds=REQUEST_TIMEOUT_SECONDS,
                )
            except ApiError as error:
                # A create that was answered by silence may have happened; asking again then gives
                # 409, which the caller takes for "exists" and looks at.
                if delay is None or error.status not in _WORTH_RETRYING:
                    raise
                pause = max(delay, min(error.wait, _LONGEST_WAIT))
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def _attempt(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | Sequence[Any] | None,
        query: Mapping[str, str] = _NOTHING,
        content_type: str = "application/json",
        accept: str = "application/json",
        seconds: float,
    ) -> Object:
        url = f"{self._base}/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {**await self._headers(), "Content-Type": content_type, "Accept": accept}
        data = None if body is None else json.dumps(body)
        trouble = ""
        began = time.monotonic()
        try:
            response = await self._raw(
                method, url, headers, data, aiohttp.ClientTimeout(total=seconds)
            )
            async with response:
                text = await response.text()
                status, wait = response.status, _wait(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            trouble = type(error).__name__
        verb, kind = about(method, path)
        requests.count(verb, kind, 0 if trouble else status, time.monotonic() - began)
        self.answered(not trouble and status < 500)
        if trouble:
            raise ApiError(0, f"{method} {path}: {trouble}")
        if status >= 400:
            raise ApiError(status, f"{method} {path}: {_message(text)}", wait=wait)
        if verb not in ("get", "list"):
            trail.wrote(f"{verb} {kind}")
            if (verb, kind) in _OUTPUTS:
                metrics.OUTPUTS.labels(kind).inc()
        answer: Object = json.loads(text)
        return answer

    async def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": FIELD_MANAGER}
        token = await self.authorization()
        if token:
            headers["Authorization"] = token
        return headers

    async def _raw(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: str | None,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own kind of time-out
    ) -> aiohttp.ClientResponse:
        session = self._session
        if session is None:
            # Not the official client's own, which looks for a ~/.netrc in a thread with each request.
            session = self._session = aiohttp.ClientSession(
                # Each watch holds a connection; how many requests there are is the queue's business.
                connector=aiohttp.TCPConnector(limit=0, ssl=self.ssl_context),
                proxy=self.configuration.proxy or None,
            )
        return await session.request(method, url, headers=headers, data=data, timeout=timeout)


def about(method: str, path: str, *, watch: bool = False) -> tuple[str, str]:
    """(verb, kind) of a request, for numbers; the kind of what is none of ours is "other"."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    kind = _KINDS.get(parts[0] if parts else "", "other")
    if method == "GET":
        return ("watch" if watch else "get" if len(parts) > 1 else "list"), kind
    verb = {"POST": "create", "PUT": "update", "PATCH": "apply", "DELETE": "delete"}.get(
        method, "other"
    )
    return verb, f"{kind}/{parts[2]}" if len(parts) > 2 and kind != "other" else kind


def _wait(response: aiohttp.ClientResponse) -> float:
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else 0.0


def _path(kind: str, namespace: str, name: str = "") -> str:
    path = RESOURCES[kind].format(namespace=quote(namespace))
    return f"{path}/{quote(name)}" if name else path


def _all(kind: str, namespace: str | None) -> str:
    if namespace is not None:
        return _path(kind, namespace)
    return RESOURCES[kind].replace("namespaces/{namespace}/", "")


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The stream's lines, however long; aiohttp's own way ends at a few MiB.

    Raises:
        ApiError: 410, as if the watch had lost its place, for a line beyond every object.
    """
    pending = bytearray()
    async for chunk in stream.iter_any():
        head, found, tail = chunk.rpartition(b"\n")
        pending += head if found else tail
        if found:
            for line in pending.split(b"\n"):
                yield bytes(line)
            pending = bytearray(tail)
        if len(pending) > _MAX_LINE:
            raise ApiError(410, f"a watch's line is longer than {_MAX_LINE} bytes")


def _slim(item: Object) -> Object:
    """Metadata without annotations: `kubectl apply` keeps a copy of Secrets in one of them."""
    metadata = item["metadata"]
    return {
        key: metadata[key]
        for key in (
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "labels",
            "deletionTimestamp",
        )
        if key in metadata
    }


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return "an answer that is not a Status"
