"""The rules in the kernel and the reference evaluator, which share no code, agree on whatever they are asked."""

from collections.abc import Iterable
from random import Random
from typing import TypeVar

from doubles.nftables import Tracer
from harness.firewalling import EVERYTHING, Both, Question, folded, pairs, questions, view_of
from hypothesis import given, settings
from hypothesis import strategies as st
from policies import NODES, clusters, random_clusters
from strategies import World

from kube_router.plugins.firewall import render
from kube_router.plugins.firewall.evaluate import Settings
from kube_router.plugins.firewall.wanted import Cluster

T = TypeVar("T")
choices = st.builds(Settings, default_deny=st.booleans(), judge_icmp=st.booleans())
EXAMPLES = settings().max_examples
QUESTIONS, PAIRS = 200, 80  # about one cluster


def sample(some: Iterable[T], count: int, seed: int = 0) -> list[T]:
    every = list(some)
    return Random(seed).sample(every, min(count, len(every)))


def assert_they_agree(both: Both, question: Question) -> None:
    verdict, answer = both.ask(question), both.trace(question)
    assert (verdict.egress.allowed, verdict.ingress.allowed) == (answer.egress, answer.ingress), question


@given(clusters(), choices)
@settings(max_examples=EXAMPLES // 2)
def test_the_ruleset_and_the_evaluator_agree_on_all_that_tells(world: World, chosen: Settings) -> None:
    both = Both(world, chosen)
    for question in questions(world):
        assert_they_agree(both, question)


@given(random_clusters, choices, st.integers(0, 1000))
@settings(max_examples=2 * EXAMPLES)
def test_they_agree_on_samples_of_many_larger_clusters(world: World, chosen: Settings, seed: int) -> None:
    both = Both(world, chosen)
    for question in sample(questions(world), QUESTIONS, seed):
        assert_they_agree(both, question)


@given(random_clusters, choices)
def test_a_pod_reaches_itself_whatever_the_policies_say(world: World, chosen: Settings) -> None:
    both = Both(world, chosen)
    for node in NODES:
        for address in both.clusters[node].local_addresses:
            for protocol, port in (("TCP", 80), ("UDP", 1), ("ICMP", 0)):
                for hook in ("forward", "output"):
                    assert both.tracers[node].fate(Question(address, address, protocol, port).packet(hook)).passes


@given(random_clusters, choices)
def test_an_established_connection_is_judged_no_more_and_an_invalid_packet_reaches_no_pod(
    world: World, chosen: Settings
) -> None:
    both = Both(world, chosen)
    for source, destination in pairs(world):
        packet = Question(source, destination, "TCP", 80).packet("forward")
        for node in NODES:
            known = {ip for pod in both.clusters[node].population.pods.values() if pod.local for ip in pod.ips}
            for state, passes in (("established", True), ("related", True), ("invalid", not {*packet[:2]} & known)):
                fate = both.tracers[node].fate(packet._replace(state=state))
                assert fate.passes == passes, (node, state, packet)
                assert fate.counters == []


LATE = (("ack",), ("fin", "ack"), ("syn", "ack"), ("rst",), ("syn", "fin"), ("syn", "rst"), ("psh",))


@given(random_clusters, st.booleans(), st.sampled_from(LATE).map(frozenset))
def test_when_strict_only_a_syn_begins_a_connection_of_a_pod_and_nothing_else_changes(
    world: World, default_deny: bool, flags: frozenset[str]
) -> None:
    lax, strict = (Cluster(NODES[0], default_deny=default_deny, strict=strict) for strict in (False, True))
    for cluster in (lax, strict):
        cluster.update(view_of(folded(world)), EVERYTHING)
    before, after = (Tracer(render.write_table(cluster.ruleset)) for cluster in (lax, strict))
    for source, destination in sample(pairs(world), PAIRS):
        for protocol in ("TCP", "UDP"):
            syn = Question(source, destination, protocol, 80).packet("forward")
            assert after.fate(syn) == before.fate(syn)
        begins_nothing = Question(source, destination, "TCP", 80).packet("forward")._replace(flags=flags)
        of_a_pod = source in strict.local_addresses or destination in strict.local_addresses
        assert after.fate(begins_nothing).passes == (before.fate(begins_nothing).passes and not of_a_pod)


@given(random_clusters)
def test_neighbours_are_found_and_errors_arrive_whatever_the_policies_say(world: World) -> None:
    both = Both(world, Settings(default_deny=True, judge_icmp=True))
    exempt = {
        "icmp": ("destination-unreachable", "time-exceeded", "parameter-problem"),
        "icmpv6": ("packet-too-big", "nd-neighbor-solicit", "nd-neighbor-advert", "mld2-listener-report"),
    }
    for source, destination in sample(pairs(world), PAIRS):
        packet = Question(source, destination, "ICMP").packet("forward")
        for node in NODES:
            for type in exempt[packet.protocol]:
                for hook in ("forward", "input", "output"):
                    assert both.tracers[node].fate(packet._replace(icmp_type=type, hook=hook)).passes
