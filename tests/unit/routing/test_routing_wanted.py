"""What the kernel should hold, for a node among others, with everything that decides it written out."""

from kube_router.core.agent_options import option_groups
from kube_router.core.options import resolve
from kube_router.core.state import State, View
from kube_router.core.view import Dirty, Ref
from kube_router.events.event import Delete, Put
from kube_router.events.model import Node, NodeAddress, Object
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.routing import options
from kube_router.plugins.routing.facts import RESOURCES, Gateway, Host, Link, Route
from kube_router.plugins.routing.model import MAIN, FouPort, Hop, Neighbour, RouteId, Rule, Tunnel, tunnel_name
from kube_router.plugins.routing.model import Route as Wanted
from kube_router.plugins.routing.wanted import Cluster

HOST = Host(
    name="node-1",
    links=(Link(name="eth0", mtu=1500, addresses=("10.0.0.1/24", "fd00::1/64")),),
    gateways=(Gateway(destination="192.0.2.0/24", via="10.0.0.250", device="eth0"),),
)


def node(name: str, *addresses: str, cidrs: tuple[str, ...] = ()) -> Node:
    found = tuple(NodeAddress(type="InternalIP", address=address) for address in addresses)
    return Node(name=name, addresses=found, pod_cidrs=cidrs)


NODES = (
    node("node-1", "10.0.0.1", "fd00::1", cidrs=("10.244.1.0/24", "fd00:244:1::/64")),
    node("node-2", "10.0.0.2", "fd00::2", cidrs=("10.244.2.0/24", "fd00:244:2::/64")),
    node("node-3", "10.0.9.3", "fd00:9::3", cidrs=("10.244.3.0/24", "fd00:244:3::/64")),
)


def route(prefix: str, *next_hops: str) -> Route:
    return Route(name=prefix, next_hops=next_hops, peers=next_hops)


class Rig:
    """A state with three nodes, the third in another subnet, and a Cluster that follows it."""

    def __init__(self, *flags: str, host: Host = HOST) -> None:
        self.state = State(Catalogue((*BUILTIN, *RESOURCES)))
        self.view = View(self.state, (Node, Host, Route))
        self.put("nodes", *NODES)
        self.put("hosts", host)
        groups, _ = option_groups({"routing": options.OPTIONS})
        self.cluster = Cluster("node-1", options.read(resolve(flags, groups, environ={})))
        self.cluster.update(self.view, Dirty(everything=True))

    def put(self, resource: str, *objects: Object) -> None:
        for obj in objects:
            self.state.apply(Put(seq=self.state.seq + 1, t=1, r=resource, key=obj.key, obj=obj))

    def learn(self, *routes: Route, gone: tuple[str, ...] = ()) -> None:
        self.put("routes", *routes)
        for key in gone:
            self.state.apply(Delete(seq=self.state.seq + 1, t=1, r="routes", key=key))
        refs = frozenset(Ref("routes", name) for name in (*(each.name for each in routes), *gone))
        self.cluster.update(self.view, Dirty(refs))


def main(destination: str) -> RouteId:
    return RouteId(destination, MAIN)


def test_a_node_of_the_same_subnet_is_reached_directly() -> None:
    rig = Rig()
    rig.learn(route("10.244.2.0/24", "10.0.0.2"), route("fd00:244:2::/64", "fd00::2"))
    wanted = rig.cluster.wanted
    assert wanted.routes == {
        main("10.244.2.0/24"): Wanted((Hop("10.0.0.2", "eth0"),)),
        main("fd00:244:2::/64"): Wanted((Hop("fd00::2", "eth0"),)),
    }
    assert wanted.devices == {}
    assert wanted.rules == {Rule("10.244.1.0/24"), Rule("fd00:244:1::/64")}


def test_a_node_of_another_subnet_is_reached_through_a_tunnel() -> None:
    rig = Rig()
    rig.learn(route("10.244.3.0/24", "10.0.9.3"), route("fd00:244:3::/64", "fd00:9::3"))
    four, six = tunnel_name("10.0.9.3"), tunnel_name("fd00:9::3")
    wanted = rig.cluster.wanted
    assert wanted.devices == {
        four: Tunnel("ipip", "10.0.0.1", "10.0.9.3", 0, 1480),
        six: Tunnel("ip6tnl", "fd00::1", "fd00:9::3", 0, 1460),
    }
    assert wanted.routes == {
        main("10.244.3.0/24"): Wanted((Hop("", four),), "10.0.0.1"),
        main("fd00:244:3::/64"): Wanted((Hop("fe80::1", six),), "fd00::1"),
        RouteId("10.0.9.3/32", 77): Wanted((Hop("", four),), "10.0.0.1"),
        RouteId("fd00:9::3/128", 77): Wanted((Hop("fe80::1", six),), "fd00::1"),
    }
    assert wanted.fou_ports == frozenset()


def test_full_overlay_tunnels_to_every_node_but_never_to_a_stranger() -> None:
    rig = Rig("--overlay-type=full")
    rig.learn(route("10.244.2.0/24", "10.0.0.2"), route("198.51.100.0/24", "10.0.0.254"))
    assert rig.cluster.wanted.routes[main("10.244.2.0/24")].hops == (Hop("", tunnel_name("10.0.0.2")),)
    assert rig.cluster.wanted.routes[main("198.51.100.0/24")].hops == (Hop("10.0.0.254", "eth0"),)
    assert list(rig.cluster.wanted.devices) == [tunnel_name("10.0.0.2")]


def test_fou_wants_its_port_and_vxlan_its_entries() -> None:
    rig = Rig("--overlay-encap=fou", "--overlay-encap-port=5556")
    rig.learn(route("10.244.3.0/24", "10.0.9.3"))
    assert rig.cluster.wanted.devices == {tunnel_name("10.0.9.3"): Tunnel("fou", "10.0.0.1", "10.0.9.3", 5556, 1468)}
    assert rig.cluster.wanted.fou_ports == {FouPort(5556)}
    rig = Rig("--overlay-encap=vxlan")
    rig.learn(route("10.244.3.0/24", "10.0.9.3"))
    assert rig.cluster.wanted.devices["kube-vxlan"].mtu == 1450
    assert rig.cluster.wanted.neighbours == {Neighbour("kube-vxlan", "10.0.9.3"): "0a:5c:0a:00:09:03"}
    assert rig.cluster.wanted.routes[main("10.244.3.0/24")].hops == (Hop("10.0.9.3", "kube-vxlan", onlink=True),)


def test_without_an_overlay_another_subnet_is_left_to_the_network() -> None:
    rig = Rig("--enable-overlay=false")
    rig.learn(route("10.244.3.0/24", "10.0.9.3"))
    assert rig.cluster.wanted.routes == {}
    assert rig.cluster.wanted.rules == frozenset()
    assert rig.cluster.problems == ()  # it is what was asked for
    assert rig.cluster.surroundings.reach("10.0.9.3").why == (
        "node node-3 is in another subnet and --enable-overlay=false: left to the network"
    )


def test_several_next_hops_make_one_route_and_an_external_one_may_be_behind_a_gateway() -> None:
    rig = Rig()
    rig.learn(
        route("198.51.100.0/24", "10.0.0.253", "10.0.0.254"),
        route("203.0.113.0/24", "192.0.2.9"),
        route("203.0.114.0/24", "198.18.0.1"),
        route("203.0.115.0/24", "198.18.0.1", "10.0.0.254"),
    )
    assert rig.cluster.wanted.routes == {
        main("198.51.100.0/24"): Wanted((Hop("10.0.0.253", "eth0"), Hop("10.0.0.254", "eth0"))),
        main("203.0.113.0/24"): Wanted((Hop("10.0.0.250", "eth0"),)),
        main("203.0.115.0/24"): Wanted((Hop("10.0.0.254", "eth0"),)),
    }
    (problem,) = rig.cluster.problems
    assert str(problem) == (
        "Route 203.0.114.0/24: next hop 198.18.0.1: no link and no gateway of this node leads there; "
        "not installed and 1 more"
    )


def test_a_tunnel_goes_with_the_last_route_that_uses_it() -> None:
    rig = Rig()
    rig.learn(route("10.244.3.0/24", "10.0.9.3"), route("10.99.0.0/24", "10.0.9.3"))
    rig.learn(gone=("10.244.3.0/24",))
    assert len(rig.cluster.wanted.devices) == 1
    rig.learn(gone=("10.99.0.0/24",))
    assert (rig.cluster.wanted.devices, rig.cluster.wanted.routes) == ({}, {})


def test_what_fits_through_the_overlay_is_what_pods_may_send() -> None:
    assert Rig("--enable-overlay=false").cluster.pod_mtu == 1500
    assert Rig("--auto-mtu=false").cluster.pod_mtu == 0
    assert Rig().cluster.pod_mtu == 1460  # the IPv6 tunnel's header is the longer one
    assert Rig("--overlay-encap=vxlan").cluster.pod_mtu == 1430
    assert Rig(host=Host(name="node-1")).cluster.pod_mtu == 0


def test_a_node_that_changes_its_address_changes_what_is_reached_how() -> None:
    rig = Rig()
    rig.learn(route("10.244.3.0/24", "10.0.0.3"))
    assert rig.cluster.wanted.routes[main("10.244.3.0/24")].hops == (Hop("10.0.0.3", "eth0"),)
    rig.put("nodes", node("node-3", "10.0.0.3", cidrs=("10.244.3.0/24",)))
    rig.cluster.update(rig.view, Dirty(frozenset({Ref("nodes", "node-3")})))
    assert "fd00:9::3" not in rig.cluster.egress["nodes6"]
    assert rig.cluster.egress["nodes4"] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_while_this_nodes_own_address_is_away_other_nodes_get_no_tunnel() -> None:
    rig = Rig()
    rig.learn(route("10.244.2.0/24", "10.0.0.2"), route("fd00:244:2::/64", "fd00::2"))
    for link in (
        Link(name="eth0", mtu=1500, addresses=("10.0.0.1/24",)),
        Link(name="eth0", mtu=1500, addresses=("10.0.0.1/24", "fd00::1/64"), up=False),
    ):
        rig.put("hosts", Host(name="node-1", links=(link,)))
        rig.cluster.update(rig.view, Dirty(frozenset({Ref("hosts", "node-1")})))
        assert rig.cluster.wanted.devices == {}
        assert (main("10.244.2.0/24") in rig.cluster.wanted.routes) == link.up
        assert [str(problem) for problem in rig.cluster.problems if ":" in problem.key] == [
            "Route fd00:244:2::/64: next hop fd00::2: no IPv6 address of this node is on an interface that is up; "
            "not installed"
        ]


def test_a_network_that_this_node_is_on_itself_is_not_routed_elsewhere() -> None:
    rig = Rig()
    own = ("10.0.0.0/24", "fd00::/64", "10.244.1.0/24")  # what a router tells of its own links, and our own pods
    rig.learn(*(route(prefix, "192.0.2.1") for prefix in own), route("10.9.0.0/24", "192.0.2.1"))
    assert rig.cluster.wanted.routes == {main("10.9.0.0/24"): Wanted((Hop("10.0.0.250", "eth0"),))}
    assert rig.cluster.problems == ()


def test_the_network_of_a_link_that_went_down_is_reached_otherwise() -> None:
    gateways = (Gateway(destination="192.0.2.0/24", via="10.0.0.250", device="eth0"),)
    down = Link(name="eth1", mtu=1500, addresses=("10.7.0.1/24",), up=False)
    rig = Rig(host=Host(name="node-1", links=(*HOST.links, down), gateways=gateways))
    rig.learn(route("10.7.0.0/24", "192.0.2.1"))
    assert rig.cluster.wanted.routes == {main("10.7.0.0/24"): Wanted((Hop("10.0.0.250", "eth0"),))}


def test_a_node_whose_address_is_on_loopback_has_the_mtu_of_its_smallest_link() -> None:
    links = (
        Link(name="eth0", mtu=9000, addresses=("172.20.0.2/31",)),
        Link(name="eth1", mtu=1500, addresses=("172.20.1.2/31",)),
        Link(name="lo", mtu=65536, addresses=("10.0.0.1/32",)),
    )
    rig = Rig(host=Host(name="node-1", links=links))
    rig.learn(route("10.244.3.0/24", "10.0.9.3"))
    assert rig.cluster.wanted.devices == {
        tunnel_name("10.0.9.3"): Tunnel("ipip", "10.0.0.1", "10.0.9.3", 0, 1480),
    }
    assert Rig(host=Host(name="node-1", links=links[2:])).cluster.pod_mtu == 0


def test_a_route_through_the_overlay_has_a_source_of_its_own_family() -> None:
    rig = Rig()
    rig.learn(route("10.244.9.0/24", "fd00:9::3"))  # RFC 8950: an IPv4 prefix behind an IPv6 next hop
    assert rig.cluster.wanted.routes[main("10.244.9.0/24")].source == "10.0.0.1"
