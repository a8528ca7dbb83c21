"""The wire between the nodes of a test cluster: a bridge in a network namespace of its own (I/O).

Nobody has a way out. Each node has a default route to the bridge, where it ends: a Service's address needs a route
before whoever serves it translates it.
"""

from pathlib import Path

from cluster.layout import BRIDGE, CONTROL_ADDRESS, FABRIC, PREFIX, Seat

from kube_router.lab import netns

LOOSE = {"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0"}


def sweep() -> None:
    """Remove the namespaces of clusters whose process has ended without doing so."""
    for name in netns.names():
        prefix, _, rest = name.partition("-")
        owner = rest.partition("-")[0]
        if prefix == PREFIX and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            netns.remove([name])


def lay() -> None:
    """Make the namespace with the bridge. KernelError where that fails."""
    netns.add([FABRIC])
    netns.ip_batch(
        [
            "link set lo up",
            f"link add {BRIDGE} type bridge",
            f"addr add {CONTROL_ADDRESS}/24 dev {BRIDGE}",
            f"link set {BRIDGE} up",
        ],
        namespace=FABRIC,
    )


def plug(seat: Seat) -> None:
    """Make a node's namespace and connect it."""
    netns.add([seat.namespace])
    netns.ip_batch(
        [
            f"link add {seat.port} type veth peer name eth0 netns {seat.namespace}",
            f"link set {seat.port} master {BRIDGE} up",
        ],
        namespace=FABRIC,
    )
    netns.ip_batch(
        [
            "link set lo up",
            f"addr add {seat.address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {CONTROL_ADDRESS}",
        ],
        namespace=seat.namespace,
    )
    netns.run_in(seat.namespace, lambda: netns.write_sysctls(LOOSE))


def unplug(seat: Seat) -> None:
    """Remove a node's cable, namespace and all that is in it: a namespace that is removed goes some time later."""
    if seat.namespace in netns.names():
        netns.ip_batch([f"link del {seat.port}"], namespace=FABRIC)
    netns.remove([seat.namespace])


def remove() -> None:
    """Remove the bridge's namespace."""
    netns.remove([FABRIC])
