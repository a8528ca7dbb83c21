"""Whatever happens: what a neighbour has been told is what export policy says of what is selected now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bgp_neighbours import OUR_ASN, Hearer
from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.routing.bgp.adjout import Group, GroupKey, key
from kube_router.plugins.routing.bgp.best import PeerInfo, Selection
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    Kind,
    Negotiated,
    NextHop,
    PeerConfig,
    Prefix,
    Segment,
    SegmentType,
    SpeakerConfig,
    prefix_of,
)
from kube_router.plugins.routing.bgp.policy import NO_ADVERTISE, NO_EXPORT, export
from kube_router.plugins.routing.bgp.rib import Own, Rib

BOTH = frozenset(Family)
PREFIXES = [prefix_of(text) for text in ("10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/16", "fd00:1::/64", "fd00:2::/64")]
HERE = {Family.IPV4: bytes([10, 0, 0, 9]), Family.IPV6: bytes.fromhex("fd66" + "00" * 13 + "09")}


def internal(last: int, *, client: bool = False) -> PeerConfig:
    return PeerConfig(address=f"10.0.0.{last}", asn=OUR_ASN, internal=True, reflector_client=client)


CONFIGS = [
    internal(1),
    internal(2),
    internal(3, client=True),
    internal(4, client=True),
    internal(5, client=True),
    PeerConfig(address="192.0.2.6", asn=65001, internal=False, communities=(5,)),
    PeerConfig(address="192.0.2.7", asn=65002, internal=False, communities=(5,)),
    PeerConfig(address="192.0.2.8", asn=65003, internal=False, prepend_asn=65100, prepend_count=2, next_hop_self=True),
]
NAMES = [config.address for config in CONFIGS]
ONLY4 = {"10.0.0.5", "192.0.2.7"}
EXTENDED = {"10.0.0.2", "10.0.0.4"}


def negotiated(config: PeerConfig) -> Negotiated:
    return Negotiated(
        asn=config.asn,
        router_id=int(config.address.rpartition(".")[2]),
        internal=config.internal,
        hold_time_s=90,
        families=frozenset({Family.IPV4}) if config.address in ONLY4 else BOTH,
        extended_next_hop=frozenset({Family.IPV4}) if config.address in EXTENDED else frozenset(),
    )


@dataclass
class Speaker:
    """As little of a speaker as makes the tables and the groups meet."""

    config: SpeakerConfig = field(
        default_factory=lambda: SpeakerConfig(
            asn=OUR_ASN, router_id=9, peers={peer.address: peer for peer in CONFIGS}, next_hops=HERE, cluster_id=42
        )
    )
    rib: Rib = field(default_factory=Rib)
    groups: dict[GroupKey, Group] = field(default_factory=dict)
    hearers: dict[str, Hearer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for peer in CONFIGS:
            last = int(peer.address.rpartition(".")[2])
            self.rib.set_peer(peer.address, PeerInfo(peer.asn, last, bytes([10, 0, 0, last]), peer.internal))

    def flush(self) -> None:
        changes = self.rib.take_changes()
        for group in self.groups.values():
            self.tell(group, changes)

    def tell(self, group: Group, changes: Mapping[Prefix, Selection | None]) -> None:
        outgoing = group.changed(changes)
        for member in group.members:
            self.hearers[member].hear(outgoing.of(member))

    def join(self, name: str) -> None:
        config = self.config.peers[name]
        self.leave(name)
        self.flush()
        agreed = negotiated(config)
        group = self.groups.get(key(config, agreed))
        if group is None:
            group = self.groups[key(config, agreed)] = Group(self.config, config, agreed)
            group.changed(dict(self.rib.each_selection()))
        group.members.add(name)
        self.hearers[name] = Hearer(agreed)
        self.hearers[name].hear(group.table(name))
        assert set(self.hearers[name].ends) == agreed.families

    def leave(self, name: str) -> None:
        if self.hearers.pop(name, None) is not None:
            for group in self.groups.values():
                group.members.discard(name)

    def configure(self, config: SpeakerConfig) -> None:
        self.config = config
        self.flush()
        for group in self.groups.values():
            group.configure(config)
            self.tell(group, dict(self.rib.each_selection()))

    def refresh(self, name: str, family: Family, enhanced: bool) -> None:
        if name not in self.hearers:
            return
        [group] = [group for group in self.groups.values() if name in group.members]
        before = dict(self.hearers[name].routes)
        self.hearers[name].hear(group.refresh(name, family, enhanced=enhanced))
        assert self.hearers[name].routes == before

    def check(self) -> None:
        for name, hearer in self.hearers.items():
            config = self.config.peers[name]
            agreed = negotiated(config)
            expected = {}
            for prefix, selection in self.rib.each_selection():
                exported = export(self.config, config, selection.best, selection.source)
                if exported is None or selection.best.peer == name or prefix.family not in agreed.families:
                    continue
                if len(exported.next_hop.address) == (4 if prefix.family == Family.IPV4 else 16) or (
                    prefix.family in agreed.extended_next_hop
                ):
                    expected[prefix] = exported.attributes, exported.next_hop
            assert hearer.routes == expected
            [group] = [group for group in self.groups.values() if name in group.members]
            assert {prefix: tuple(exported) for prefix, exported in group.announced(name)} == expected


Step = Callable[[Speaker], None]

attributes = st.builds(
    Attributes,
    as_path=st.sampled_from([(), (Segment(SegmentType.AS_SEQUENCE, (65009,)),)]),
    local_pref=st.sampled_from([100, 200]),
    communities=st.sampled_from([(), (), (NO_EXPORT,), (NO_ADVERTISE,)]),
    originator_id=st.sampled_from([None, 77]),
)
next_hops = st.sampled_from([NextHop(bytes([10, 0, 0, 1])), NextHop(HERE[Family.IPV6][:-1] + b"\1")])
own = st.builds(
    Own, st.just(Attributes()), st.sampled_from([NextHop(here) for here in HERE.values()]), st.sampled_from(Kind)
)
some = st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=3)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    kind = draw(
        st.sampled_from(
            ["announce"] * 6 + ["withdraw"] * 2 + ["join"] * 3 + ["own", "drop", "leave", "configure", "refresh"]
        )
    )
    name, where = draw(st.sampled_from(NAMES)), draw(some)
    if kind == "announce":
        what, via = draw(attributes), draw(next_hops)
        return lambda speaker: speaker.rib.announce(name, where, None, what, via)
    if kind == "withdraw":
        return lambda speaker: speaker.rib.withdraw(name, where)
    if kind == "own":
        originated = draw(st.dictionaries(st.sampled_from(PREFIXES), own, max_size=4))
        return lambda speaker: speaker.rib.originate(originated)
    if kind == "configure":
        cluster, pods = draw(st.sampled_from([0, 42, 43])), draw(st.booleans())
        return lambda speaker: speaker.configure(
            replace(speaker.config, cluster_id=cluster, advertise_pods_externally=pods)
        )
    if kind == "refresh":
        family, enhanced = draw(st.sampled_from(list(Family))), draw(st.booleans())
        return lambda speaker: speaker.refresh(name, family, enhanced)
    simple: dict[str, Step] = {
        "join": lambda speaker: speaker.join(name),
        "leave": lambda speaker: speaker.leave(name),
        "drop": lambda speaker: speaker.rib.drop(name),
    }
    return simple[kind]


@given(st.lists(st.tuples(steps(), st.booleans()), max_size=30))
def test_a_neighbour_has_been_told_what_is_selected_now(route: list[tuple[Step, bool]]) -> None:
    speaker = Speaker()
    for name in NAMES[::2]:
        speaker.join(name)
    for step, flush in route:
        step(speaker)
        if flush:
            speaker.flush()
            speaker.check()
    speaker.flush()
    speaker.check()


@given(st.lists(steps(), max_size=15))
def test_who_was_there_all_along_has_what_one_that_joins_now_gets(route: list[Step]) -> None:
    speaker = Speaker()
    for name in NAMES:
        speaker.join(name)
    for step in route:
        step(speaker)
    speaker.flush()
    early = {name: dict(hearer.routes) for name, hearer in speaker.hearers.items()}
    for name in early:
        speaker.join(name)
    assert {name: hearer.routes for name, hearer in speaker.hearers.items() if name in early} == early
