"""kopf logs in where our own client does, with the same credentials."""

from __future__ import annotations

import kopf

from stackstore_operator.kube.client import Client


async def connection_info(client: Client) -> kopf.ConnectionInfo:
    """The client's credentials as kopf wants them; asked again after each 401."""
    configuration = client.configuration
    scheme, _, token = (await client.authorization()).rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
