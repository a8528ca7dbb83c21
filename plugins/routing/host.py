"""The node's own links and addresses, as plans need them (I/O)."""

from kube_router.plugins.routing.facts import Host


def read_host(node: str) -> Host:
    """Return the interfaces that have a global address and are none of ours. Raises ``KernelError``."""
    raise NotImplementedError
