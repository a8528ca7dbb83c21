"""Laws of routing's configuration: it never raises, no order of events matters, one object harms only itself."""

from collections.abc import Sequence
from contextlib import suppress

from bgp_nodes import ANNOTATIONS, RESOURCE, no_secret, options
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kube_router.core.state import State, View
from kube_router.core.view import Dirty
from kube_router.events.errors import ConfigError
from kube_router.events.event import Delete, Put
from kube_router.events.model import Endpoint, EndpointSlice, Node, NodeAddress, Object, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.routing import values
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.config import speaker_config
from kube_router.plugins.routing.options import OPTIONS
from kube_router.plugins.routing.settings import with_passwords

NODES = ("node-1", "node-2", "node-3", "node-4")
ADDRESSES = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "fd00::1", "fd00::2", "fd00::3", "fd00::4")
ALL = (
    "--advertise-cluster-ip",
    "--advertise-external-ip",
    "--advertise-loadbalancer-ip",
    "--service-external-ip-range=203.0.113.0/24",
    "--loadbalancer-ip-range=203.0.113.0/24",
    "--router-id=generate",
)
FLAGS = st.lists(
    st.sampled_from((
        *ALL,
        "--advertise-service-cluster-ip-range",
        "--nodes-full-mesh=false",
        "--enable-ibgp=false",
        "--strict-external-ip-validation=false",
        "--enable-bfd",
        "--bgp-graceful-restart",
    )),
    unique=True,
)  # fmt: skip

TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from((
        "1", "0", "64512", "64513", "0xFC00", "0.0.0.1", "4294967295", "10.244.9.0/24,x", "fd00:9::/64",
        "no-export,1:2", "198.51.100.1,fd00::9", "65001,65002", "179,", "redacted:0,", "192.0.2.7,nowhere", "[]",
        "[{}]", "[[]]", "null",
        '[{"remoteip": "198.51.100.1", "remoteasn": 65001, "password": "redacted:0", "bfd": {"enabled": true}}]',
        '[{"remoteip": ["198.51.100.1"], "remoteasn": 1.5, "bfd": []}, 7]', '{"a": NaN}', "[" * 3000,
    )),
)  # fmt: skip


def nodes_named(name: str) -> st.SearchStrategy[Node]:
    return st.builds(
        Node,
        name=st.just(name),
        addresses=st.lists(
            st.builds(
                NodeAddress, type=st.sampled_from(("InternalIP", "ExternalIP")), address=st.sampled_from(ADDRESSES)
            ),
            max_size=3,
        ).map(tuple),
        pod_cidrs=st.lists(st.sampled_from(("10.244.1.0/24", "10.244.2.0/24", "fd00:1::/64")), max_size=2).map(tuple),
        annotations=st.dictionaries(
            st.sampled_from([f"kube-router.io/{name}" for name in ANNOTATIONS.values()]), TEXTS, max_size=5
        ),
    )


VIPS = ("10.96.0.1", "10.96.0.2", "fd00:96::1")
services = st.builds(
    Service,
    namespace=st.just("prod"),
    name=st.sampled_from(("web", "dns", "api")),
    type=st.sampled_from(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")),
    cluster_ips=st.lists(st.sampled_from(VIPS), max_size=2, unique=True).map(tuple),
    external_ips=st.lists(st.sampled_from(("203.0.113.1", "203.0.113.2", "8.8.8.8", *VIPS)), max_size=2).map(tuple),
    load_balancer_ips=st.lists(st.sampled_from(("203.0.113.1", "203.0.113.3")), max_size=2).map(tuple),
    internal_traffic_policy=st.sampled_from(("Cluster", "Local")),
    external_traffic_policy=st.sampled_from(("Cluster", "Local")),
    headless=st.sampled_from((False, False, False, True)),
    proxy_name=st.sampled_from((None, None, "kube-router", "other")),
    annotations=st.dictionaries(
        st.sampled_from([
            f"kube-router.io/service.{name}"
            for name in (
                "local", "skiplbips", "advertise.clusterip", "advertise.externalip", "advertise.loadbalancerip",
            )
        ]),
        st.sampled_from(("true", "false", "yes", "")),
        max_size=3,
    ),
)  # fmt: skip
slices = st.builds(
    EndpointSlice,
    namespace=st.just("prod"),
    name=st.sampled_from(("s-1", "s-2")),
    service=st.sampled_from(("prod/web", "prod/dns", "")),
    address_type=st.sampled_from(("IPv4", "IPv6", "FQDN")),
    endpoints=st.lists(
        st.builds(
            Endpoint,
            addresses=st.sampled_from((("10.244.1.5",), ("192.0.2.1",), ())),
            ready=st.booleans(),
            terminating=st.booleans(),
            node_name=st.sampled_from(("node-1", "node-2", "")),
        ),
        max_size=2,
    ).map(tuple),
)
objects: st.SearchStrategy[Object] = st.one_of(st.sampled_from(NODES).flatmap(nodes_named), services, slices)
# Each step is a put of an object, or its deletion.
steps = st.lists(st.tuples(objects, st.sampled_from((True, True, True, False))), max_size=12)
clusters = st.tuples(*(st.one_of(st.none(), nodes_named(name)) for name in NODES)).map(
    lambda each: [node for node in each if node is not None]
)


def view_of(things: Sequence[Object]) -> View:
    state = State(Catalogue(BUILTIN))
    for n, obj in enumerate(things, 1):
        state.apply(Put(seq=n, t=n, r=RESOURCE[type(obj)], key=obj.key, obj=obj))
    return View(state, (Service, EndpointSlice, Node))


@given(steps, FLAGS)
def test_announcing_step_by_step_is_announcing_from_scratch(
    course: Sequence[tuple[Object, bool]], flags: list[str]
) -> None:
    state, chosen = State(Catalogue(BUILTIN)), options(*flags)
    view = View(state, (Service, EndpointSlice, Node))
    table = AnnounceTable(chosen, "node-1")
    table.update(view, Dirty(everything=True))
    for n, (obj, is_put) in enumerate(course, 1):
        name, before = RESOURCE[type(obj)], set(table.announced)
        record = Put(seq=n, t=n, r=name, key=obj.key, obj=obj) if is_put else Delete(seq=n, t=n, r=name, key=obj.key)
        ref = state.apply(record)
        changed = table.update(view, Dirty(frozenset({ref} if ref else ())))
        scratch = AnnounceTable(chosen, "node-1")
        scratch.update(view, Dirty(everything=True))
        assert (table.announced, table.claims(), table.problems) == (
            scratch.announced,
            scratch.claims(),
            scratch.problems,
        )
        assert changed == before ^ set(table.announced)


@given(clusters, FLAGS)
def test_no_cluster_makes_the_configuration_raise(nodes: Sequence[Node], flags: list[str]) -> None:
    view, chosen = view_of(nodes), options(*flags)
    for name in NODES:
        made = speaker_config(view, chosen, name, no_secret)
        assert made.config is not None or made.problems
        assert made == speaker_config(view, chosen, name, no_secret)


@given(clusters, FLAGS)
def test_two_nodes_peer_with_each_other_or_not_at_all(nodes: Sequence[Node], flags: list[str]) -> None:
    """Where no address is two nodes' own; with a shared one somebody has to be left out."""
    own = {f"node-{i}": (f"192.0.2.{i}", f"fd00::{i}") for i in range(1, 5)}
    apart = [
        replace(
            node,
            addresses=tuple(
                replace(each, address=own[node.name][":" in each.address]) for each in node.addresses
            ),
        )
        for node in nodes
    ]  # fmt: skip
    view, chosen = view_of(apart), options(*flags, "--router-id=generate")
    sessions = set()
    for name in NODES:
        config = speaker_config(view, chosen, name, no_secret).config
        for peer in config.peers.values() if config else ():
            if peer.mesh:
                sessions.add((peer.local_address, peer.address, peer.asn, peer.families))
    assert sessions == {(far, near, asn, families) for near, far, asn, families in sessions}


@given(clusters, nodes_named("node-4"), FLAGS)
def test_what_one_other_node_says_changes_no_other_peer(nodes: Sequence[Node], other: Node, flags: list[str]) -> None:
    addresses = (NodeAddress(type="InternalIP", address="192.0.2.99"),)
    rest = [node for node in nodes if node.name != "node-4"]
    chosen = options(*flags)
    without = speaker_config(view_of(rest), chosen, "node-1", no_secret)
    changed = speaker_config(view_of([*rest, replace(other, addresses=addresses)]), chosen, "node-1", no_secret)
    if without.config is None or changed.config is None:
        assert (without.config, changed.config) == (None, None)
        return
    assert {a: peer for a, peer in changed.config.peers.items() if a != "192.0.2.99"} == without.config.peers
    assert changed.config.originated == without.config.originated


@given(st.lists(st.integers(0, 9), unique=True, max_size=10), TEXTS)
def test_one_bad_external_peer_changes_no_other(good: list[int], bad: str) -> None:
    """An item that is wrong, anywhere in the lists, leaves the other items as they are."""
    text = "".join(c for c in bad if c not in ',"') or "?"
    ips = [f"198.51.100.{i}" for i in good]
    items = [*ips, text, "203.0.113.9"]
    asns = ["65001"] * len(items)
    made = Node(
        name="node-1",
        addresses=(NodeAddress(type="InternalIP", address="192.0.2.1"),),
        annotations={"kube-router.io/peer.ips": ",".join(items), "kube-router.io/peer.asns": ",".join(asns)},
    )
    config = speaker_config(view_of([made]), options(), "node-1", no_secret).config
    assert config is not None
    assert {*ips, "203.0.113.9"} <= set(config.peers)


VALUES = st.one_of(TEXTS, st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.text(), max_size=1))


@given(VALUES)
def test_a_value_is_read_or_refused_with_a_value_error(value: object) -> None:
    for parse in (values.number, values.asn, values.port, values.address, values.unicast):
        with suppress(ValueError):
            parse(value)
    for of_text in (values.cluster_id, values.prefix, values.community, values.password):
        with suppress(ValueError):
            of_text(str(value))


@given(st.lists(st.tuples(st.sampled_from([option.name for option in OPTIONS]), TEXTS), max_size=4))
def test_no_flag_makes_the_agent_raise_anything_but_config_error(flags: Sequence[tuple[str, str]]) -> None:
    with suppress(ConfigError):
        with_passwords(options(*(f"--{name}={text}" for name, text in flags)), "x,y")
