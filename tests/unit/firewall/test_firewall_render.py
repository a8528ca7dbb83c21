"""The table's text, word for word: of a node that knows nothing, of one with every option, of a small cluster.

``UPDATE_GOLDEN=1 pytest tests/unit/firewall/test_firewall_render.py`` writes the files anew, for a reader to compare.
"""

import os
from pathlib import Path

import pytest
from doubles.nft_text import table_of
from harness.firewalling import EVERYTHING, folded, view_of
from strategies import by_key

from kube_router.events.model import (
    ContainerPort,
    IPBlock,
    Namespace,
    NetworkPolicy,
    Node,
    NodeAddress,
    Object,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
)
from kube_router.plugins.firewall.render import lines
from kube_router.plugins.firewall.wanted import Cluster

GOLDEN = Path(__file__).parents[2] / "golden" / "firewall"
NODE = Node(
    name="n1",
    addresses=(NodeAddress(type="InternalIP", address="192.0.2.1"),),
    pod_cidrs=("10.1.1.0/24", "fd00:1::/64"),
)


def pod(name: str, *ips: str, app: str, node: str = "n1", http: int = 0) -> Pod:
    return Pod(
        namespace="shop",
        name=name,
        labels={"app": app},
        node_name=node,
        ips=ips,
        phase="Running",
        ports=(ContainerPort(name="http", port=http),) if http else (),
    )


SHOP = (
    NODE,
    Namespace(name="shop", labels={"team": "sales"}),
    pod("web-1", "10.1.1.2", "fd00:1::2", app="web", http=8080),
    pod("web-2", "10.1.2.2", "fd00:2::2", app="web", node="n2", http=8081),
    pod("db-1", "10.1.1.3", app="db"),
    pod("job-1", "10.1.1.4", app="job"),
    NetworkPolicy(
        namespace="shop",
        name="web",
        pod_selector=Selector(match_labels={"app": "web"}),
        policy_types=("Ingress", "Egress"),
        ingress=(PolicyRule(ports=(PolicyPort(port="http"),)),),
        egress=(
            PolicyRule(
                peers=(PolicyPeer(pod_selector=Selector(match_labels={"app": "db"})),),
                ports=(PolicyPort(port=5432), PolicyPort(port=6000, end_port=6010)),
            ),
            PolicyRule(ports=(PolicyPort(port=53), PolicyPort(protocol="UDP", port=53))),
            PolicyRule(peers=(PolicyPeer(pod_selector=Selector()),), ports=(PolicyPort(port="http"),)),
        ),
    ),
    NetworkPolicy(
        namespace="shop",
        name="db",
        pod_selector=Selector(match_expressions=(Requirement(key="app", operator="In", values=("db",)),)),
        ingress=(
            PolicyRule(
                peers=(
                    PolicyPeer(namespace_selector=Selector(match_labels={"team": "sales"}), pod_selector=Selector()),
                    PolicyPeer(ip_block=IPBlock(cidr="10.9.0.0/16", excepts=("10.9.1.0/24", "10.9.2.7/32"))),
                ),
                ports=(PolicyPort(protocol="SCTP"), PolicyPort(port=5432)),
            ),
            PolicyRule(peers=(PolicyPeer(ip_block=IPBlock(cidr="10.8.0.0/16")),)),
        ),
    ),
    pod("busy-1", "10.1.1.5", app="busy"),
    *(
        NetworkPolicy(
            namespace="shop",
            name=f"busy-{port}",
            pod_selector=Selector(match_labels={"app": "busy"}),
            ingress=(PolicyRule(ports=(PolicyPort(port=port),)),),
        )
        for port in (1, 2, 3, 4)
    ),
    pod("free-1", "10.1.1.6", app="free"),
    NetworkPolicy(namespace="shop", name="shut", pod_selector=Selector(match_labels={"app": "job"})),
)
CASES: dict[str, tuple[Cluster, tuple[Object, ...]]] = {
    "nothing-known.nft": (Cluster("n1"), ()),
    "every-option.nft": (Cluster("n1", default_deny=True, judge_icmp=True, strict=True), (NODE,)),
    "shop.nft": (Cluster("n1"), SHOP),
}


@pytest.mark.parametrize("name", CASES)
def test_the_table_is_written_as_in_the_golden_file(name: str) -> None:
    cluster, objects = CASES[name]
    cluster.update(view_of(folded(by_key(objects))), EVERYTHING)
    text = "\n".join(lines(cluster.ruleset)) + "\n"
    if "UPDATE_GOLDEN" in os.environ:
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()
    assert table_of(text).chains["deny_ingress"].rules[0] == "jump exempt"
