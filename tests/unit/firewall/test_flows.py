"""Flows are judged by what policies see of them, and only those of this node's pods."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from kube_router.core.ctnetlink import Direction, Flow
from kube_router.plugins.firewall.flows import Question, denied_flows

CLIENT, SERVER, REMOTE, VIP, NODE = "10.244.1.2", "10.244.1.3", "10.244.2.2", "10.96.0.10", "192.0.2.1"
LOCAL = (CLIENT, SERVER)
TCP, UDP, SCTP, ICMP = 6, 17, 132, 1


def flow(
    source: str,
    destination: str,
    port: int,
    *,
    protocol: int = TCP,
    source_port: int = 40000,
    answered_by: tuple[str, int] | None = None,
    masqueraded_as: str | None = None,
    brought_about_by: Flow | None = None,
) -> Flow:
    real, real_port = answered_by or (destination, port)
    original = direction(protocol, source, destination, source_port, port)
    return Flow(
        2,
        original,
        direction(protocol, real, masqueraded_as or source, real_port, source_port),
        repr(original).encode(),
        raw_master=brought_about_by.raw_original if brought_about_by else None,
    )


def direction(protocol: int, source: str, destination: str, source_port: int, destination_port: int) -> Direction:
    return Direction(protocol, ip_address(source).packed, ip_address(destination).packed, source_port, destination_port)


def asked(*flows: Flow, local: tuple[str, ...] = LOCAL) -> list[Question]:
    questions: list[Question] = []

    def judge(question: Question) -> bool:
        questions.append(question)
        return True

    assert denied_flows(flows, local, judge) == []
    return questions


def test_a_flow_to_a_service_is_judged_by_the_real_server_and_its_port() -> None:
    service = flow(CLIENT, VIP, 80, answered_by=(REMOTE, 8080))
    assert asked(service) == [Question(CLIENT, REMOTE, 8080, "TCP", True, False)]


def test_a_masqueraded_flow_is_judged_by_its_original_source() -> None:
    assert asked(flow(REMOTE, VIP, 53, protocol=UDP, answered_by=(SERVER, 5353), masqueraded_as=NODE)) == [
        Question(REMOTE, SERVER, 5353, "UDP", False, True)
    ]


def test_a_flow_between_two_pods_of_this_node_is_judged_for_both() -> None:
    assert asked(flow(CLIENT, SERVER, 9, protocol=SCTP)) == [Question(CLIENT, SERVER, 9, "SCTP", True, True)]


def test_addresses_are_asked_about_in_their_canonical_text() -> None:
    assert asked(flow("fd00::2", "fd00:1::a", 80), local=("fd00:1::a",)) == [
        Question("fd00::2", "fd00:1::a", 80, "TCP", False, True)
    ]


def test_nobody_is_asked_about_icmp_or_about_a_flow_of_no_local_pod() -> None:
    to_vip = flow(REMOTE, SERVER, 80, answered_by=(REMOTE, 8080))  # translated away from here
    assert asked(flow(CLIENT, SERVER, 0, protocol=ICMP), flow(REMOTE, NODE, 80), to_vip) == []


def test_flows_that_are_alike_are_judged_once_and_all_of_them_end() -> None:
    questions = []

    def judge(question: Question) -> bool:
        questions.append(question)
        return question.port != 80

    alike = [flow(CLIENT, SERVER, 80, source_port=port) for port in range(40000, 40100)]
    other = [flow(CLIENT, SERVER, 81, source_port=port) for port in range(40000, 40100)]
    assert denied_flows([*alike, *other], LOCAL, judge) == alike
    assert len(questions) == 2


def test_a_related_flow_is_not_judged_but_ends_with_the_one_that_brought_it_about() -> None:
    denied, allowed = flow(CLIENT, SERVER, 21), flow(CLIENT, REMOTE, 21)
    ends, stays = (
        flow(SERVER, CLIENT, 50000, brought_about_by=denied),
        flow(REMOTE, CLIENT, 50000, brought_about_by=allowed),
    )
    orphan = flow(REMOTE, CLIENT, 50001, brought_about_by=flow(CLIENT, REMOTE, 2121))
    flows = [ends, stays, orphan, denied, allowed]
    assert denied_flows(flows, LOCAL, lambda question: question.destination != SERVER) == [ends, denied]


ADDRESSES = (CLIENT, SERVER, REMOTE, VIP, NODE)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ADDRESSES),
            st.sampled_from(ADDRESSES),
            st.sampled_from([80, 81]),
            st.sampled_from([TCP, UDP, SCTP, ICMP]),
            st.sampled_from([None, (SERVER, 8080), (REMOTE, 8080)]),
        )
    ),
    st.sets(st.sampled_from(ADDRESSES)),
    st.sets(st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES), st.sampled_from([80, 81, 8080]))),
)
def test_memory_changes_no_answer(
    drawn: list[tuple[str, str, int, int, tuple[str, int] | None]],
    local: set[str],
    allowed: set[tuple[str, str, int]],
) -> None:
    flows = [flow(*ends[:3], protocol=ends[3], answered_by=ends[4]) for ends in drawn]

    def judge(question: Question) -> bool:
        return (question.source, question.destination, question.port) in allowed

    together = denied_flows(flows, local, judge)
    assert together == [one for each in flows for one in denied_flows([each], local, judge)]
