"""Whose doing each line of routing's plan is. What the lines themselves say is in tests/golden/routing."""

from harness import routing_story as story
from msgspec import structs

from kube_router.events.model import Object, Service, ServicePort
from kube_router.lab.testkit import Bench
from kube_router.plugins.routing.facts import Host, Route, RouteDigest

FLAGS = tuple(f"--{name}={text}" for name, text in story.OPTIONS.items())
WEB = Service(namespace="default", name="web", cluster_ips=("10.96.0.10",), ports=(ServicePort(port=80),))


def bench(*facts: Object, flags: tuple[str, ...] = FLAGS) -> Bench:
    found = Bench("routing", node="n1", flags=flags)
    for fact in (*(story.node(i, i // 3) for i in (1, 2, 3)), WEB, story.HOST, *facts):
        found.publish(type(fact), [fact])
    return found


def blamed(of: Bench, start: str) -> list[list[str]]:
    """Return the causes of all lines that begin like this."""
    found = [[cause.object for cause in line.because] for line in of.render() if line.text.startswith(start)]
    assert found, of.lines()
    return found


def test_a_neighbour_is_the_doing_of_its_node_and_one_from_flags_of_this_one() -> None:
    assert blamed(bench(), "bgp neighbour 10.1.0.3") == [["Node n3"]]
    assert blamed(bench(), "bgp neighbour 192.0.2.254") == [["Node n1"]]
    assert blamed(bench(), "bgp as") == [["Node n1"]]


def test_an_announcement_is_the_doing_of_the_service_or_of_this_node() -> None:
    assert blamed(bench(), "announce 10.96.0.10/32") == [["Service default/web"]]
    assert blamed(bench(), "announce 10.244.1.0/24") == [["Node n1"]]


def test_a_range_that_is_announced_is_nobodys_but_this_nodes() -> None:
    ranged = bench(flags=(*FLAGS, "--advertise-service-cluster-ip-range=true"))
    assert blamed(ranged, "announce 10.96.0.0/12") == [["Node n1"]]


def test_a_route_is_the_doing_of_what_was_learned_and_its_tunnel_of_both_ends() -> None:
    found = bench(*story.ROUTES)
    assert blamed(found, "ip route add 10.244.3.0/24") == [["Route 10.244.3.0/24"]]
    assert blamed(found, "ip link add name tun-6a5be195073") == [["Node n1", "Node n3"]]
    assert blamed(found, "ip link set tun-6a5be195073") == [["Node n1", "Node n3"]]
    assert blamed(found, "ip route add 10.1.0.3/32") == [["Node n3", "Node n1"]]
    assert blamed(found, "ip rule add from 10.244.1.0/24") == [["Node n1"]]


def test_entries_of_the_vxlan_are_the_doing_of_the_node_they_lead_to() -> None:
    found = bench(*story.ROUTES, flags=(*FLAGS, "--overlay-encap=vxlan"))
    assert blamed(found, "bridge fdb replace") == [["Node n3"], ["Node n3"]]
    assert blamed(found, "ip neighbour replace") == [["Node n3"], ["Node n3"]]


def test_members_of_sets_are_the_doing_of_their_nodes_and_the_table_of_this_one() -> None:
    found = bench()
    assert blamed(found, "add element inet kube-router-routing pods6 { fd00:244:2::/64 }") == [["Node n2"]]
    assert blamed(found, "add element inet kube-router-routing nodes4 { 10.1.0.3 }") == [["Node n3"]]
    assert blamed(found, "table inet kube-router-routing {") == [["Node n1"]]


def test_without_pod_egress_there_is_no_table() -> None:
    assert not [each for each in bench(flags=("--enable-pod-egress=false",)).lines() if "table inet" in each]


def test_routes_that_are_in_no_journal_are_told_of_with_their_digest() -> None:
    found = bench(RouteDigest(name="routes", count=31_415, sha256="8d" * 32))
    assert blamed(found, f"# 31415 routes are not in the journal (sha256 {'8d' * 32})") == [["RouteDigest routes"]]


def test_who_cannot_speak_says_why_and_still_holds_its_routes() -> None:
    found = bench(*story.ROUTES, flags=("--nodes-full-mesh=false",))
    assert [line for line in found.lines() if line.startswith("#")] == [
        "# Node n1: metadata.annotations[kube-router.io/node.asn]: missing, but --nodes-full-mesh=false needs it; "
        "this node does not speak BGP"
    ]
    assert blamed(found, "ip route add 10.244.2.0/24") == [["Route 10.244.2.0/24"]]


def test_the_plan_of_a_node_that_is_not_known_yet_is_small() -> None:
    found = Bench("routing", node="n9", flags=("--enable-pod-egress=false",))
    assert found.lines() == ["# Node n9: is not known (yet): this node does not speak BGP"]


def test_a_route_is_planned_by_the_hosts_links_of_now() -> None:
    moved = structs.replace(story.HOST, links=(structs.replace(story.HOST.links[0], name="bond0"),))
    found = bench(story.ROUTES[0])
    found.publish(Host, [moved])
    assert [line for line in found.lines() if line.startswith("ip route")] == [
        "ip route add 10.244.2.0/24 via 10.0.0.2 dev bond0 proto 75 metric 75"
    ]
    found.publish(Route, gone=["10.244.2.0/24"])
    assert not [line for line in found.lines() if line.startswith("ip route")]
