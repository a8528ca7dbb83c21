"""kube-router's classic layout, as the benchmarks build it, and the node it is built for."""

import pytest

from benchmarks import classic
from benchmarks.firewall_packets import find, in_order, place
from benchmarks.policed_node import NODE, Cluster, PolicedNode, address
from kube_router.core.view import Dirty
from kube_router.events.model import NetworkPolicy, Pod
from kube_router.plugins.firewall import wanted


@pytest.fixture(name="layout", scope="module")
def _layout() -> classic.Layout:
    cluster, ours = Cluster(PolicedNode(10, 10)), wanted.Cluster(NODE)
    ours.update(cluster.view, Dirty(everything=True))
    return classic.layout(ours.population, sorted(cluster.view.each(NetworkPolicy), key=lambda it: it.key))


def test_a_pod_is_reached_by_one_rule_per_direction_and_hook(layout: classic.Layout) -> None:
    found = [line.split(" -m comment")[0] for line in layout.rules.splitlines() if f"{address(3)}/32" in line]
    assert found == [
        "-A KUBE-ROUTER-INPUT -s 10.244.0.5/32",
        "-A KUBE-ROUTER-FORWARD -d 10.244.0.5/32",
        "-A KUBE-ROUTER-FORWARD -d 10.244.0.5/32 -m physdev --physdev-is-bridged",
        "-A KUBE-ROUTER-FORWARD -s 10.244.0.5/32",
        "-A KUBE-ROUTER-FORWARD -s 10.244.0.5/32 -m physdev --physdev-is-bridged",
        "-A KUBE-ROUTER-OUTPUT -d 10.244.0.5/32",
        "-A KUBE-ROUTER-OUTPUT -s 10.244.0.5/32",
        next(line for line in found if "KUBE-POD-FW" in line),
    ]


def test_a_policy_marks_and_returns_for_each_set_of_peers_and_port(layout: classic.Layout) -> None:
    rules = [line for line in layout.rules.splitlines() if '"team-0/allow-0002 ' in line and "-p " in line]
    ports = [line.split("--dport ")[1].split(" ")[0] for line in rules]
    one_direction = ["9002", "8443", "30000:30100"] + 2 * ["80", "443", "53"]
    assert ports == [port for port in 2 * one_direction for _ in range(2)]
    assert [line.split()[-1] for line in rules] == ["0x10000/0x10000", "RETURN"] * 18


def test_every_set_that_a_rule_names_is_filled(layout: classic.Layout) -> None:
    used = {words.split()[0] for line in layout.rules.splitlines() for words in line.split("--match-set ")[1:]}
    lines = [line.split() for line in layout.sets.splitlines()]
    assert used == {line[2] for line in lines if line[0] == "swap"}
    assert used == {line[1] for line in lines if line[0] == "create" and line[1].startswith("KUBE-")}
    assert ["add", "TMP-hash-net", "172.18.2.0/24", "nomatch", "timeout", "0"] in lines


def test_another_version_has_the_same_sets_and_other_chains() -> None:
    cluster, ours = Cluster(PolicedNode(10, 10)), wanted.Cluster(NODE)
    ours.update(cluster.view, Dirty(everything=True))
    one, other = (classic.layout(ours.population, [*cluster.view.each(NetworkPolicy)], version=n) for n in (1, 2))
    assert one.sets == other.sets
    chains = [{line for line in it.rules.splitlines() if line.startswith(":KUBE-POD")} for it in (one, other)]
    assert len(chains[0]) == 10
    assert not chains[0] & chains[1]


def test_each_pod_is_under_three_policies_in_both_directions() -> None:
    world = PolicedNode(30, 20)
    cluster, ours = Cluster(world), wanted.Cluster(NODE)
    ours.update(cluster.view, Dirty(everything=True))
    assert len([*cluster.view.each(Pod)]) == 30
    for number in range(30):
        expected = sorted(world.policy_key(policy) for policy in world.policies_of(number))
        assert ours.policies_of(address(number), "ingress") == expected
        assert ours.policies_of(address(number), "egress") == expected
    assert len(expected) == 3


def test_the_policy_that_admits_is_tried_second_of_three_in_both_layouts() -> None:
    found = find(10)
    world, pair = found.world, found.pair
    assert place(world, found.ours, "egress", pair.source, pair.egress_policy) == 1
    assert place(world, found.ours, "ingress", pair.destination, pair.ingress_policy) == 1
    order = [policy.key for policy in in_order(found)]
    for pod, admits in ((pair.source, pair.egress_policy), (pair.destination, pair.ingress_policy)):
        keys = sorted(map(world.policy_key, world.policies_of(pod)), key=order.index)
        assert keys[1] == world.policy_key(admits)
