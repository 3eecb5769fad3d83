"""Lists as the real API server answers them."""

from stackstore_operator.kube.client import Client


async def test_a_kind_of_which_there_is_none_is_an_empty_list(control_plane, namespace):
    client = await Client.connect(control_plane.kubeconfig())
    try:
        found, since = await client.list_metadata("StatefulSet", namespace)
        assert list(found) == []
        assert since
        assert list(await client.list("HorizontalPodAutoscaler", namespace)) == []
    finally:
        await client.close()
