"""Law 1 for routing as a whole: what is told and what is installed depends on what is, not on how it came about.

A node lives through random events: objects come, change and go; peers announce, withdraw, lose their session and come
back (gracefully or not); the agent restarts from its state. Then a new node is shown only what is left, in order. Both
must be configured alike, hold the same selections, tell every peer the same and want the same of the kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import bgp_nodes
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core.state import State, View
from kube_router.core.view import Dirty, Ref
from kube_router.events.event import Delete, Put
from kube_router.events.model import EndpointSlice, Node, Object, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.bgp import adjout, policy
from kube_router.plugins.routing.bgp.best import PeerInfo
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    Negotiated,
    NextHop,
    PeerConfig,
    Prefix,
    Segment,
    SegmentType,
    SpeakerConfig,
    prefix_of,
)
from kube_router.plugins.routing.bgp.offer import own_paths
from kube_router.plugins.routing.bgp.rib import Rib
from kube_router.plugins.routing.config import Configured, speaker_config
from kube_router.plugins.routing.facts import RESOURCES, Host, Link, Route
from kube_router.plugins.routing.learned import routes_of
from kube_router.plugins.routing.wanted import Cluster

NAMES = {Service: "services", EndpointSlice: "endpointslices", Node: "nodes", Host: "hosts", Route: "routes"}
FLAGS = (
    "--advertise-cluster-ip",
    "--advertise-external-ip",
    "--service-external-ip-range=203.0.113.0/24",
    "--peer-router-ips=192.0.2.1",
    "--peer-router-asns=65001",
)
HOST = Host(
    name="node-1",
    links=(Link(name="eth0", mtu=1500, addresses=("10.0.0.1/24", "192.0.2.9/24", "fd00::1/64")),),
)
TOR = "192.0.2.1"
PEERS = ("10.0.0.2", "10.0.0.3", "10.1.0.4", TOR)
ANNOUNCEABLE = tuple(map(prefix_of, ("10.244.2.0/24", "10.244.3.0/24", "198.51.100.0/24", "fd00:2::/64", "0.0.0.0/0")))

nodes = st.builds(
    lambda number, far, second, mark: bgp_nodes.node(
        f"node-{number}",
        f"10.{1 if far else 0}.0.{number}",
        *([f"fd00::{number}"] if second else []),
        pods=(f"10.244.{number}.0/24",),
        **mark,
    ),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([{}, {}, {"rr_server": "7"}, {"rr_client": "7"}, {"import_reject": "198.51.100.0/24"}]),
)
services = st.builds(
    lambda name, ip, external, local: bgp_nodes.service(
        name,
        ips=(ip,),
        external_ips=external,
        external_traffic_policy="Local" if local else "Cluster",
        internal_traffic_policy="Local" if local else "Cluster",
    ),
    st.sampled_from(["web", "db"]),
    st.sampled_from(["10.96.0.10", "10.96.0.11"]),
    st.sampled_from([(), ("203.0.113.9",), ("198.18.0.1",)]),
    st.booleans(),
)
slices = st.builds(
    lambda name, node, ready: bgp_nodes.piece(
        bgp_nodes.endpoint(node_name=node, ready=ready), service=f"prod/{name}", name=f"{name}-1"
    ),
    st.sampled_from(["web", "db"]),
    st.sampled_from(["node-1", "node-2"]),
    st.booleans(),
)
KEYS = {Node: ["node-2", "node-3", "node-4"], Service: ["prod/web", "prod/db"], EndpointSlice: ["prod/web-1"]}
gone = st.sampled_from([(kind, key) for kind, keys in KEYS.items() for key in keys])


@dataclass(frozen=True)
class Told:
    """What a peer says of some prefixes."""

    peer: str
    prefix: Prefix
    length: int
    med: int | None

    @property
    def attributes(self) -> Attributes:
        asns = ((65001,) if self.peer == TOR else ()) + (64999,) * self.length
        return Attributes(as_path=(Segment(SegmentType.AS_SEQUENCE, asns),) if asns else (), med=self.med)

    @property
    def next_hop(self) -> NextHop:
        if self.prefix.family is Family.IPV6:
            return NextHop(bytes.fromhex("fd00" + "00" * 13 + f"{PEERS.index(self.peer) + 2:02x}"))
        return NextHop(bytes(map(int, self.peer.split("."))))


tellings = st.builds(
    Told,
    st.sampled_from(PEERS),
    st.sampled_from(ANNOUNCEABLE),
    st.integers(0, 2),
    st.sampled_from([None, 5, 9]),
)
events = st.one_of(
    nodes.map(lambda obj: ("put", obj)),
    services.map(lambda obj: ("put", obj)),
    slices.map(lambda obj: ("put", obj)),
    gone.map(lambda each: ("gone", each)),
    tellings.map(lambda told: ("announce", told)),
    tellings.map(lambda told: ("announce", told)),
    st.integers(0, 9).map(lambda number: ("withdraw", number)),  # of what was announced
    st.tuples(st.sampled_from(PEERS), st.booleans()).map(lambda each: ("lose", each)),
    st.just(("restart", None)),
)


@dataclass
class Rig:
    """A node without sockets: all that is between events and what is told and wanted."""

    state: State = field(default_factory=lambda: State(Catalogue((*BUILTIN, *RESOURCES))))
    told: dict[tuple[str, Prefix], Told] = field(default_factory=dict)
    dirty: set[Ref] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.view = View(self.state, (Service, EndpointSlice, Node, Host, Route))
        self.options = bgp_nodes.options(*FLAGS)
        self.start()

    def start(self) -> None:
        self.announced = AnnounceTable(self.options, "node-1")
        self.cluster = Cluster("node-1", self.options)
        self.rib = Rib()
        self.groups: dict[str, adjout.Group] = {}
        self.config: SpeakerConfig | None = None
        self.put(HOST)
        self.settle(everything=True)
        for each in list(self.told.values()):
            self.announce(each)

    # -- what happens

    def put(self, *objects: Object) -> None:
        for obj in objects:
            name = NAMES[type(obj)]
            self.state.apply(Put(seq=self.state.seq + 1, t=1, r=name, key=obj.key, obj=obj))
            self.dirty.add(Ref(name, obj.key))

    def delete(self, kind: type[Object], key: str) -> None:
        self.state.apply(Delete(seq=self.state.seq + 1, t=1, r=NAMES[kind], key=key))
        self.dirty.add(Ref(NAMES[kind], key))

    def announce(self, told: Told) -> None:
        self.told[told.peer, told.prefix] = told
        if (peer := self.peer(told.peer)) is not None:
            assert self.config is not None
            refused = policy.judge(self.config, peer, told.attributes, told.next_hop)
            self.rib.announce(told.peer, [told.prefix], None, told.attributes, told.next_hop, refused=refused)

    def withdraw(self, peer: str, prefix: Prefix) -> None:
        self.told.pop((peer, prefix), None)
        if self.peer(peer) is not None:
            self.rib.withdraw(peer, [prefix])

    def lose(self, peer: str, *, graceful: bool) -> None:
        """A session ends and comes back, and all is told again."""
        if self.peer(peer) is None:
            return
        self.rib.mark_stale(peer) if graceful else self.rib.drop(peer)
        self.settle()
        for each in [each for each in self.told.values() if each.peer == peer]:
            self.announce(each)
        self.rib.sweep(peer)

    def peer(self, address: str) -> PeerConfig | None:
        return self.config.peers.get(address) if self.config is not None else None

    # -- what the plugin and the speaker do about it

    def settle(self, *, everything: bool = False) -> None:
        dirty, self.dirty = Dirty(frozenset(self.dirty), everything), set()
        self.announced.update(self.view, dirty)
        self.configure(speaker_config(self.view, self.options, "node-1", lambda digest: None, announced=self.announced))
        changes = self.rib.take_changes()
        for prefix, selection in changes.items():
            if selection is not None and selection.best.peer:
                self.put(*routes_of([(prefix, selection)]))
            elif str(prefix) in self.state.known("routes"):
                self.delete(Route, str(prefix))
        for group in self.groups.values():
            group.changed(changes)
        self.cluster.update(self.view, Dirty(dirty.refs | self.dirty, everything))
        self.dirty.clear()
        anew = Cluster("node-1", self.options)
        anew.update(self.view, Dirty(everything=True))
        assert (self.cluster.wanted, self.cluster.problems) == (anew.wanted, anew.problems)
        table = AnnounceTable(self.options, "node-1")
        table.update(self.view, Dirty(everything=True))
        assert self.announced.announced == table.announced

    def configure(self, configured: Configured) -> None:
        before, self.config = self.config, configured.config
        new = self.config.peers if self.config is not None else {}
        old = before.peers if before is not None else {}
        for address in old.keys() - new.keys():
            self.rib.forget(address)
            self.groups.pop(address, None)
        if self.config is None:
            self.rib.originate({})
            return
        self.rib.set_filter(policy.PrefixFilter(self.config))
        self.rib.originate(own_paths(self.config))
        for address, peer in new.items():
            fresh = address not in old or old[address].session != peer.session
            if fresh and address in old:
                self.rib.forget(address)
            if fresh:
                packed = bytes(map(int, address.split(".")))
                self.rib.set_peer(address, PeerInfo(peer.asn, int.from_bytes(packed), packed, peer.internal))
            if address not in self.groups or old.get(address) != peer:
                self.groups[address] = adjout.Group(self.config, peer, agreed(peer))
                self.groups[address].changed(dict(self.rib.each_selection()))
            self.groups[address].configure(self.config)
            if fresh:
                for each in [each for each in self.told.values() if each.peer == address]:
                    self.announce(each)
        if before is None or exported(before) != exported(self.config):
            for group in self.groups.values():
                group.changed(dict(self.rib.each_selection()))

    # -- what there is in the end

    def outcome(self) -> Mapping[str, object]:
        self.settle()
        wanted = self.cluster.wanted
        return {
            "config": self.config,
            "selections": {prefix: (each.best, each.multipath, each.why) for prefix, each in self.rib.each_selection()},
            "told": {address: group.announced(address) for address, group in self.groups.items()},
            "routes": wanted.routes,
            "devices": wanted.devices,
            "rules": wanted.rules,
            "masqueraded": self.cluster.egress,
            "problems": self.cluster.problems,
        }


def agreed(peer: PeerConfig) -> Negotiated:
    return Negotiated(
        asn=peer.asn,
        router_id=int.from_bytes(bytes(map(int, peer.address.split(".")))),
        internal=peer.internal,
        hold_time_s=90,
        families=frozenset(peer.families),
    )


def exported(config: SpeakerConfig) -> tuple[object, ...]:
    clients = frozenset(address for address, peer in config.peers.items() if peer.reflector_client)
    return config.asn, config.advertise_pods_externally, config.cluster_id, config.next_hops, clients


@given(st.lists(events, min_size=10, max_size=30))
def test_what_is_told_and_installed_does_not_depend_on_the_way_there(story: list[tuple[str, object]]) -> None:
    rig = Rig()
    for number, subnet in ((1, 0), (2, 0), (4, 1)):
        rig.put(bgp_nodes.node(f"node-{number}", f"10.{subnet}.0.{number}", pods=(f"10.244.{number}.0/24",)))
    rig.settle()
    for what, about in story:
        match what, about:
            case "put", Object() as obj:
                rig.put(obj)
            case "gone", (type() as kind, str(key)):
                rig.delete(kind, key)
            case "announce", Told() as told:
                rig.announce(told)
            case "withdraw", int(number):
                for peer, prefix in sorted(rig.told)[number : number + 1]:
                    rig.withdraw(peer, prefix)
            case "lose", (str(peer), bool(graceful)):
                rig.lose(peer, graceful=graceful)
            case "restart", _:
                rig.start()
        rig.settle()
    fresh = Rig()
    for name in ("nodes", "services", "endpointslices"):
        fresh.put(*(stored.obj for _, stored in sorted(rig.state.known(name).items())))
    fresh.settle()
    for _, each in sorted(rig.told.items()):
        fresh.announce(each)
    assert rig.outcome() == fresh.outcome()
