"""The whole product on a real kubelet: images, chart, stack, rotations, and their end.

`make e2e`. One node on this machine: etcd, the control plane, containerd and kubelet, all on loopback.
"""
