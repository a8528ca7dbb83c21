"""What is largest and longest, in the real kernel: written, listed, and read back as it was wanted."""

from collections.abc import Iterable

import pytest
from harness.firewalling import folded, view_of
from harness.netns import run_in_new

from kube_router.core.view import Dirty
from kube_router.events.model import (
    IPBlock,
    NetworkPolicy,
    Node,
    NodeAddress,
    Object,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Selector,
)
from kube_router.plugins.firewall.kernel import Kernel
from kube_router.plugins.firewall.wanted import Cluster

pytestmark = pytest.mark.root

NODE = Node(
    name="n1",
    addresses=(NodeAddress(type="InternalIP", address="192.0.2.1"),),
    pod_cidrs=("10.1.1.0/24", "fd00:1::/64"),
)
LONG, NAMESPACE = "p" * 253, "n" * 63
POD = Pod(namespace=NAMESPACE, name=LONG, node_name="n1", ips=("10.1.1.2", "fd00:1::2"), phase="Running")
BLOCKS = 10_000
RESOURCES = {Node: "nodes", Pod: "pods", NetworkPolicy: "networkpolicies"}


def cluster(objects: Iterable[Object]) -> Cluster:
    found = Cluster("n1")
    world = {(RESOURCES[type(obj)], obj.key): obj for obj in objects}
    found.update(view_of(folded(world)), Dirty(everything=True))
    return found


def policy(*peers: PolicyPeer, port: int = 80) -> NetworkPolicy:
    rule = PolicyRule(peers=peers, ports=(PolicyPort(port=port),))
    return NetworkPolicy(namespace=NAMESPACE, name=LONG, pod_selector=Selector(), ingress=(rule,))


def block(number: int) -> PolicyPeer:
    """Return one of many blocks of which no two touch, each with an exception, every other one of IPv6."""
    if number % 2:
        return PolicyPeer(ip_block=IPBlock(cidr=f"fd00:{number:x}::/48", excepts=(f"fd00:{number:x}:0:1::/64",)))
    high, low = divmod(number, 256)
    return PolicyPeer(ip_block=IPBlock(cidr=f"11.{high}.{low}.0/24", excepts=(f"11.{high}.{low}.8/30",)))


@pytest.mark.timeout(120)
def test_ten_thousand_blocks_and_the_longest_names_are_taken_and_read_back() -> None:
    wanted = cluster([NODE, POD, policy(*map(block, range(BLOCKS)))])
    assert wanted.problems == ()
    sizes = {name[:2]: len(found) for name, found in wanted.ruleset.elements.items() if name.startswith("b")}
    assert sizes == {"b4": BLOCKS, "b6": BLOCKS}  # each block is two ranges, one on either side of its exception

    def body() -> None:
        kernel = Kernel()
        kernel.replace(wanted.ruleset)
        assert kernel.read() == wanted.ruleset
        assert kernel.observe().is_untouched(wanted.ruleset.digest)

    run_in_new(body)


def test_names_that_are_alike_in_all_that_a_comment_can_hold_are_two_policies() -> None:
    twin = NetworkPolicy(namespace=NAMESPACE, name="p" * 252 + "q", pod_selector=Selector())
    wanted = cluster([NODE, POD, policy(), twin])
    chains = [chain for name, chain in wanted.ruleset.chains.items() if name.startswith("pi_")]
    assert len(chains) == 2
    assert len({chain.comment for chain in chains}) == 1

    def body() -> None:
        kernel = Kernel()
        kernel.replace(wanted.ruleset)
        assert kernel.read() == wanted.ruleset

    run_in_new(body)
