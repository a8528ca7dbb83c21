"""Random clusters in the real kernel: it takes, lists and keeps what is wanted; real packets meet the fate foretold."""

import os
from collections.abc import Iterator

import pytest
from doubles.nftables import Packet
from harness.firewalling import Both, Question, folded, from_scratch, is_inside, questions
from harness.wire import Router
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from policies import NODE_ADDRESSES, NODES, POD_CIDRS, random_clusters
from strategies import World, by_key

from kube_router.events.model import Node, NodeAddress
from kube_router.plugins.firewall.evaluate import Settings
from kube_router.plugins.firewall.model import TABLE, Ruleset
from kube_router.plugins.firewall.plan import everything, plan
from kube_router.plugins.firewall.read import parse_table
from kube_router.plugins.firewall.render import stamp_text, write_edit, write_table

pytestmark = [pytest.mark.root, pytest.mark.slow]

NODE = "node-1"
OWN = (*NODE_ADDRESSES[NODE], "10.244.1.1", "fd00:244:1::1")
WORLDS, QUESTIONS_PER_WORLD = 30, 600
choices = st.builds(Settings, default_deny=st.booleans(), judge_icmp=st.booleans())
sampled = settings(
    max_examples=WORLDS,
    derandomize=True,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Router(f"krfw-{os.getpid()}", OWN) as router:
        yield router


class Held:
    """What the router's table was last brought to."""

    def __init__(self, router: Router) -> None:
        self._router, self._ruleset = router, Ruleset()
        self.edits = 0

    def bring(self, wanted: Ruleset) -> None:
        """Bring the table to what is wanted, by an edit where that can be done."""
        edit = plan(wanted, self._ruleset, everything(wanted, self._ruleset))
        stamp = stamp_text(1, wanted.digest)
        if edit:
            self.edits += 1
        self._router.nft(write_table(wanted, stamp) if edit is None else write_edit(edit, stamp))
        self._ruleset = wanted.copy()


def test_real_packets_and_the_evaluator_agree_on_random_clusters(router: Router) -> None:
    held, asked = Held(router), 0

    @sampled
    @given(random_clusters, choices)
    def on_one_cluster(world: World, chosen: Settings) -> None:
        nonlocal asked
        both = Both(world, chosen)
        ruleset = both.clusters[NODE].ruleset
        held.bring(ruleset)
        assert parse_table(router.listed(TABLE)) == ruleset
        expected = foretold(both, world)
        found = router.send([packet for packet, _ in expected])
        differing = [each for each in zip(expected, found, strict=True) if each[0][1] != each[1]]
        assert differing == []
        asked += len(expected)

    on_one_cluster()
    assert asked >= WORLDS * 100


def test_the_kernel_takes_every_edit_between_random_clusters_and_lists_what_is_wanted(router: Router) -> None:
    held = Held(router)

    @sampled
    @given(random_clusters)
    def to_the_next_cluster(world: World) -> None:
        nodes = by_key(
            Node(
                name=name,
                addresses=tuple(NodeAddress(type="InternalIP", address=address) for address in NODE_ADDRESSES[name]),
                pod_cidrs=POD_CIDRS[name],
            )
            for name in NODES
        )
        wanted = from_scratch(folded({**world, **nodes}), NODE).ruleset
        held.bring(wanted)
        assert parse_table(router.listed(TABLE)) == wanted

    to_the_next_cluster()
    assert held.edits >= WORLDS // 2


def foretold(both: Both, world: World) -> list[tuple[Packet, str]]:
    """Return packets of a sample of questions, and what both the evaluator and the model say of each on our node."""
    asked = [question for question in questions(world) if is_askable(both, question.source, question.destination)]
    found = []
    for question in asked[:: len(asked) // QUESTIONS_PER_WORLD + 1]:
        for packet in packets_on_our_node(both, question):
            fate = both.tracers[NODE].fate(packet)
            assert fate.passes == evaluated(both, question), question
            found.append((packet, fate.verdict))
    return found


def is_askable(both: Both, *addresses: str) -> bool:
    """Whether each address is where its network is, and on one node only; the router's are those of our node."""
    for address in addresses:
        nodes = {both.home(address), *(pod.node_name for pod in both.world.party(address).pods)}
        is_ours = any(is_inside(address, cidr) for cidr in POD_CIDRS[NODE])
        if len(nodes) > 1 or (address in OWN) != (both.owner(address) == NODE) or (is_ours and nodes != {NODE}):
            return False
    return NODE in (both.home(addresses[0]), both.home(addresses[1]))


def packets_on_our_node(both: Both, question: Question) -> list[Packet]:
    """Return the packet in each hook by which it may pass our node: IPVS sends packets on by ``output``."""
    if both.owner(question.source) == NODE:
        return [question.packet("output", local_source=True)]
    if both.owner(question.destination) == NODE:
        return [question.packet("input")]
    return [question.packet("forward"), question.packet("output")]


def evaluated(both: Both, question: Question) -> bool:
    """Return what the evaluator says of the ends that are on our node."""
    verdict = both.ask(question)
    egress = both.home(question.source) != NODE or verdict.egress.allowed
    ingress = both.home(question.destination) != NODE or verdict.ingress.allowed
    return egress and ingress
