"""Questions in people's words are answered with who decided, or with what is wrong with the question."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from harness.shop import NAMESPACES, NODES, PODS, WEB, pod, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from kube_router.cli.loading import offline_registry
from kube_router.core.state import State, View
from kube_router.core.view import T
from kube_router.events.event import Put
from kube_router.events.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Node,
    Object,
    Service,
    ServicePort,
)
from kube_router.plugins.firewall.evaluate import DEFAULTS, Settings
from kube_router.plugins.firewall.explain import Explainer, explain

MOMENT = 1_795_377_241_000
CATALOGUE = offline_registry("firewall").catalogue()
MODELS = [resource.model for resource in CATALOGUE]

DATABASE = Service(
    namespace="shop",
    name="db",
    type="LoadBalancer",
    cluster_ips=("10.96.0.20", "fd00:96::20"),
    external_ips=("203.0.113.5", "192.0.2.2"),
    load_balancer_ips=("203.0.113.9",),
    ports=(ServicePort(name="sql", port=5432, node_port=30432), ServicePort(name="dns", protocol="UDP", port=53)),
)
AT_DB, AT_JOB = Endpoint(addresses=("10.2.0.11",)), Endpoint(addresses=("10.1.0.13",))


def slice_of(*endpoints: Endpoint, name: str = "db-1", family: str = "IPv4", port: int = 80) -> EndpointSlice:
    ports = (EndpointPort(name="sql", port=port), EndpointPort(name="dns", protocol="UDP", port=53))
    return EndpointSlice(
        namespace="shop", name=name, service="shop/db", address_type=family, ports=ports, endpoints=endpoints
    )


def view(*objects: Object) -> View:
    """Return a view of the shop with more in it; what is given comes first, as seq 1, 2, ..."""
    state = State(CATALOGUE)
    for seq, obj in enumerate((*objects, *NODES, *NAMESPACES, *PODS), 1):
        resource = CATALOGUE.by_model(type(obj)).name
        if obj.key not in state.known(resource):
            put = Put(seq=seq, t=MOMENT + seq, r=resource, key=obj.key, rv=str(900 + seq), obj=obj)
            state.apply(put)
    return View(state, MODELS)


def ask(cluster: View, question: str, settings: Settings = DEFAULTS) -> dict[str, Any]:
    """Return the answer to ``SRC DST PORT PROTOCOL``."""
    words = ("src", "dst", "port", "protocol")
    return Explainer(cluster, settings).answer(dict(zip(words, question.split(), strict=False)))


def ends(answer: Mapping[str, Any]) -> str:
    return f"{answer['source']} > {answer['destination']} {answer['port']}/{answer['protocol']}"


# -- names -------------------------------------------------------------------------------------------------------------

AGENT = pod("shop/agent", 2, 0, "app=agent", "metrics=9100/TCP", host_network=True, ips=("192.0.2.2",))


@pytest.mark.parametrize(
    ("question", "judged"),
    [
        ("shop/web shop/db 80", "shop/web (10.1.0.10) > shop/db (10.2.0.11) 80/TCP"),
        ("shop/web shop/db 80 udp", "shop/web (10.1.0.10) > shop/db (10.2.0.11) 80/UDP"),
        ("here shop/db 80", "default/here (10.1.0.20) > shop/db (10.2.0.11) 80/TCP"),
        ("10.1.0.10 fd00:2::11 80", None),
        ("10.1.0.10 10.2.0.11 80", "shop/web (10.1.0.10) > shop/db (10.2.0.11) 80/TCP"),
        ("FD00:1:0::10 fd00:2::11 80", "shop/web (fd00:1::10) > shop/db (fd00:2::11) 80/TCP"),
        ("shop/web fd00:2::11 80", "shop/web (fd00:1::10) > shop/db (fd00:2::11) 80/TCP"),
        ("198.51.100.7 shop/web http", "198.51.100.7 > shop/web (10.1.0.10) 8080/TCP"),
        ("198.51.100.7 10.1.0.10 dns UDP", "198.51.100.7 > shop/web (10.1.0.10) 53/UDP"),
        ("shop/web 192.0.2.1 22", "shop/web (10.1.0.10) > 192.0.2.1 22/TCP"),
        ("shop/web shop/db icmp icmp", "shop/web (10.1.0.10) > shop/db (10.2.0.11) icmp/ICMP"),
        ("svc/web shop/web 00080", "svc/web (10.1.0.21) > shop/web (10.1.0.10) 80/TCP"),
        ("shop/web svc/web 80", "shop/web (10.1.0.10) > svc/web (10.1.0.21) 80/TCP"),
        # on the host's network: its node's addresses
        ("shop/agent shop/db 80", "192.0.2.2 > shop/db (10.2.0.11) 80/TCP"),
        ("shop/web shop/agent metrics", "shop/web (10.1.0.10) > 192.0.2.2 9100/TCP"),
        ("shop/starting 2001:db8:f::7 80", "2001:db8::1 > 2001:db8:f::7 80/TCP"),
    ],
)
def test_a_name_stands_for_its_addresses(question: str, judged: str | None) -> None:
    starting = pod("shop/starting", 1, 0, host_network=True, ips=())
    answer = ask(view(pod("default/here", 1, 20), pod("svc/web", 1, 21), AGENT, starting), question)
    if judged is None:
        assert answer == {"error": "the two ends have no address family in common"}
    else:
        assert ends(answer).replace("None/ICMP", "icmp/ICMP") == judged


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("shop/nobody shop/db 80", "there is no Pod 'shop/nobody', and it is no address"),
        ("web shop/db 80", "there is no Pod 'default/web', and it is no address"),
        ("shop/web 10.0.0.256 80", "there is no Pod 'default/10.0.0.256', and it is no address"),
        (
            "svc/shop/db shop/web 80",
            "there is no Pod 'svc/shop/db', and it is no address; a Service is asked for as DST",
        ),
        ("shop/web svc/shop/web 80", "there is no Service 'shop/web'"),
        ("shop/web svc/shop/db 80", "Service shop/db has no port 80/TCP"),
        ("shop/web svc/shop/db 5432 UDP", "Service shop/db has no port 5432/UDP"),
        ("shop/web svc/shop/db http", "Service shop/db has no port 'http'/TCP"),
        ("shop/web svc/shop/db - ICMP", "Service shop/db has no port ICMP"),
        ("shop/web 10.96.0.20 80", "10.96.0.20 is the address of Service shop/db, which has no port 80/TCP"),
        ("shop/web shop/done 80", "Pod shop/done has finished (Succeeded): its address may be another's by now"),
        ("shop/new shop/db 80", "Pod shop/new has no address yet"),
        ("shop/lost shop/db 80", "Pod shop/lost is on the host's network, and its node's addresses are not known"),
        ("shop/old shop/db 80", "Pod shop/old has lost its address 10.1.0.10 to Pod shop/web"),
        ("shop/web shop/db ftp", "Pod shop/db has no port named 'ftp' for TCP"),
        ("shop/web shop/db http UDP", "Pod shop/db has no port named 'http' for UDP"),
        ("shop/web 198.51.100.7 http", "port 'http' is a name, and 198.51.100.7 is no pod that could have it"),
        ("shop/web shop/db 0", "port 0 is neither a number from 1 to 65535 nor a name"),
        ("shop/web shop/db 65536", "port 65536 is neither a number from 1 to 65535 nor a name"),
        ("shop/web shop/db", "port None is neither a number from 1 to 65535 nor a name"),
        ("shop/web shop/db 80 IP", "protocol 'IP' is none of TCP, UDP, SCTP, ICMP"),
        ("shop/web", "dst is missing"),
        ("", "src is missing"),
        ("198.51.100.7 fd00:2::11 80", "the two ends have no address family in common"),
        ("198.51.100.7 fd00:96::20 5432", "the two ends have no address family in common"),
        ("2001:db8:f::7 svc/shop/db 5432", "the two ends have no address family in common"),
    ],
)
def test_a_question_that_has_no_answer_is_an_error_that_says_why(question: str, words: str) -> None:
    cluster = view(
        DATABASE,
        slice_of(AT_DB),
        pod("shop/done", 1, 21, phase="Succeeded"),
        pod("shop/new", 1, 22, ips=()),
        pod("shop/lost", 9, 0, host_network=True, ips=()),
        pod("shop/old", 1, 10, terminating=True),
    )
    (error,) = ask(cluster, question).items()
    assert error[0] == "error"
    assert error[1].startswith(words)


@pytest.mark.parametrize("wrong", [80.0, True, None, [], {}, 10**400, -1, "", "x" * 10**5])
def test_a_port_that_is_none_is_named_in_a_short_line(wrong: object) -> None:
    (error,) = Explainer(view(), DEFAULTS).answer({"src": "shop/web", "dst": "shop/db", "port": wrong}).values()
    assert isinstance(error, str)
    assert len(error) < 200
    assert "port" in error


@pytest.mark.parametrize("wrong", [0, False, [], {}, "TCP ", ["TCP"]])
def test_a_protocol_that_is_none_is_an_error_and_not_tcp(wrong: object) -> None:
    question = {"src": "shop/web", "dst": "shop/db", "port": 80, "protocol": wrong}
    assert "error" in Explainer(view(), DEFAULTS).answer(question)
    assert Explainer(view(), DEFAULTS).answer(question | {"protocol": None})["protocol"] == "TCP"


# -- decisions ---------------------------------------------------------------------------------------------------------

DENY = policy("{podSelector: {}, policyTypes: [Ingress, Egress]}", "shop/deny")
ALLOW = policy(
    """
    podSelector: {matchLabels: {app: db}}
    ingress:
    - ports: [{port: 1}]
    - from: [{podSelector: {matchLabels: {app: job}}}, {ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.0/30]}}]
      ports: [{port: 79}, {port: 80, endPort: 90}]
    """,
    "shop/allow",
)


def test_a_rule_that_allows_is_named_with_its_number_its_words_and_the_version_of_its_policy() -> None:
    assert ask(view(DENY, ALLOW), "198.51.100.7 shop/db 81") == {
        "allowed": True,
        "source": "198.51.100.7",
        "destination": "shop/db (10.2.0.11)",
        "port": 81,
        "protocol": "TCP",
        "egress": {"allowed": True, "why": "no pod", "of": "", "isolated_by": []},
        "ingress": {
            "allowed": True,
            "why": "rule",
            "of": "shop/db",
            "policy": "shop/allow",
            "seq": 2,
            "resource_version": "902",
            "t": MOMENT + 2,
            "rule": 2,
            "matched": "from 198.51.100.0/24 except 198.51.100.0/30, port 80-90/TCP",
            "isolated_by": [
                {"policy": "shop/allow", "seq": 2, "resource_version": "902", "t": MOMENT + 2},
                {"policy": "shop/deny", "seq": 1, "resource_version": "901", "t": MOMENT + 1},
            ],
        },
    }


def test_policies_that_isolate_are_named_where_none_of_their_rules_allows() -> None:
    answer = ask(view(DENY, ALLOW), "198.51.100.1 shop/db 81")
    assert (answer["allowed"], answer["ingress"]["why"]) == (False, "isolated")
    assert [each["policy"] for each in answer["ingress"]["isolated_by"]] == ["shop/allow", "shop/deny"]
    assert not any("fault" in each for each in answer["ingress"]["isolated_by"])


def test_a_policy_with_a_fault_is_named_with_it() -> None:
    faulty = policy("{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 8}]}]}")
    answer = ask(view(faulty), "198.51.100.7 shop/db 9")
    assert answer["allowed"] is False
    (policy_,) = answer["ingress"]["isolated_by"]
    assert (policy_["policy"], policy_["fault"]) == (
        "shop/p",
        "spec.ingress[0].ports[0].endPort: 8 is less than port 9",
    )


def test_both_ends_say_their_own() -> None:
    answer = ask(view(DENY, ALLOW), "shop/web shop/db 81")
    assert [(answer[side]["allowed"], answer[side]["of"]) for side in ("egress", "ingress")] == [
        (False, "shop/web"),
        (False, "shop/db"),
    ]
    assert [each["policy"] for each in answer["egress"]["isolated_by"]] == ["shop/deny"]


@pytest.mark.parametrize(
    ("question", "settings", "side", "why"),
    [
        ("data/job shop/web 80", DEFAULTS, "egress", "not isolated"),
        ("shop/web shop/web 80", DEFAULTS, "egress", "itself"),
        ("192.0.2.1 shop/web 80", DEFAULTS, "ingress", "its node"),
        ("shop/web shop/db - ICMP", DEFAULTS, "ingress", "icmp"),
        ("shop/web shop/db - ICMP", Settings(judge_icmp=True), "ingress", "isolated"),
        ("198.51.100.7 10.1.0.99 80", DEFAULTS, "ingress", "no pod"),
        ("198.51.100.7 10.1.0.99 80", Settings(default_deny=True), "ingress", "unknown address"),
    ],
)
def test_what_stands_before_the_policies_is_said(question: str, settings: Settings, side: str, why: str) -> None:
    assert ask(view(DENY), question, settings)[side]["why"] == why


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{}", "from everybody, all ports"),
        ("{from: [{podSelector: {}}]}", "from pods with any labels, all ports"),
        ("{from: [{podSelector: {matchLabels: {app: web}}}]}", "from pods with app=web, all ports"),
        ("{from: [{namespaceSelector: {}}]}", "from all pods of namespaces with any labels, all ports"),
        (
            "{from: [{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchExpressions: "
            "[{key: app, operator: In, values: [web, api]}, {key: old, operator: DoesNotExist}]}}]}",
            "from pods with app In (web, api), old DoesNotExist of namespaces with team=red, all ports",
        ),
        ("{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}", "from 10.0.0.0/8, all ports"),
        (
            "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.2.1.0/24, 10.2.2.0/24, 10.2.3.0/24, 10.2.4.0/24, "
            "10.2.5.0/24]}}]}",
            "from 10.0.0.0/8 except 10.2.1.0/24, 10.2.2.0/24, 10.2.3.0/24 and 2 more, all ports",
        ),
        ("{ports: [{protocol: TCP}]}", "from everybody, all ports of TCP"),
        ("{ports: [{port: 80}]}", "from everybody, port 80/TCP"),
        ("{ports: [{port: 80, endPort: 90}]}", "from everybody, port 80-90/TCP"),
        ("{ports: [{port: http}]}", "from everybody, port http/TCP"),
    ],
)
def test_a_rule_is_said_in_words(rule: str, words: str) -> None:
    cluster = view(policy("{podSelector: {}, ingress: [RULE]}".replace("RULE", rule)))
    assert ask(cluster, "10.1.0.10 shop/db 80")["ingress"]["matched"] == words


def test_egress_is_said_as_to_whom() -> None:
    to = policy("{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.2.0.0/16}}]}]}")
    assert ask(view(to), "shop/web 10.2.0.11 80")["egress"]["matched"] == "to 10.2.0.0/16, all ports"


def test_a_connection_of_two_families_is_allowed_if_both_are_and_the_denied_one_is_shown() -> None:
    only_four = policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}")
    cluster = view(only_four)
    both = ask(cluster, "data/web shop/db 80")
    assert (both["allowed"], both["source"]) == (False, "data/web (fd00:2::12)")
    assert ask(cluster, "data/web 10.2.0.11 80")["allowed"] is True


# -- Services ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "port", "endpoints"),
    [
        ("svc/shop/db", "5432", ["10.2.0.11", "10.1.0.13", "fd00:2::11"]),
        ("svc/shop/db", "sql", ["10.2.0.11", "10.1.0.13", "fd00:2::11"]),
        ("10.96.0.20", "5432", ["10.2.0.11", "10.1.0.13"]),
        ("10.96.0.20", "sql", ["10.2.0.11", "10.1.0.13"]),
        ("fd00:96:0::20", "5432", ["fd00:2::11"]),
        ("203.0.113.5", "5432", ["10.2.0.11", "10.1.0.13"]),
        ("203.0.113.9", "5432", ["10.2.0.11", "10.1.0.13"]),
        ("192.0.2.2", "5432", ["10.2.0.11", "10.1.0.13"]),  # an external IP that is a node's as well
        ("192.0.2.1", "30432", ["10.2.0.11", "10.1.0.13"]),
        ("2001:db8::2", "30432", ["fd00:2::11"]),
    ],
)
def test_a_service_is_found_by_each_of_its_addresses(destination: str, port: str, endpoints: list[str]) -> None:
    six = slice_of(Endpoint(addresses=("fd00:2::11",)), name="db-6", family="IPv6", port=81)
    answer = ask(view(DATABASE, slice_of(AT_DB, AT_JOB), six), f"shop/web {destination} {port}")
    assert (answer["allowed"], answer["service"], answer["port"]) == (True, "shop/db", 5432)
    found = [str(each["destination"]).split("(")[1].rstrip(")") for each in answer["endpoints"]]
    assert sorted(found) == sorted(endpoints)
    assert {each["port"] for each in answer["endpoints"]} <= {80, 81}
    assert answer["source"] == answer["endpoints"][0]["source"]


def test_a_port_of_a_node_that_no_service_has_is_the_node_s_own() -> None:
    cluster = view(DATABASE, slice_of(AT_DB))
    assert ends(ask(cluster, "shop/web 192.0.2.1 22")) == "shop/web (10.1.0.10) > 192.0.2.1 22/TCP"
    assert ends(ask(cluster, "shop/web 192.0.2.2 22")) == "shop/web (10.1.0.10) > 192.0.2.2 22/TCP"
    assert ends(ask(cluster, "shop/web 10.96.0.20 - ICMP")) == "shop/web (10.1.0.10) > 10.96.0.20 None/ICMP"


def test_a_service_is_allowed_only_if_all_its_endpoints_are() -> None:
    closed = policy("{podSelector: {}, ingress: [{ports: [{port: 81}]}]}", "data/p")
    for endpoints, verdicts in (((AT_DB,), [True]), ((AT_JOB,), [False]), ((AT_DB, AT_JOB), [False, True])):
        answer = ask(view(closed, DATABASE, slice_of(*endpoints)), "shop/web svc/shop/db 5432")
        assert answer["allowed"] is all(verdicts)
        assert [each["allowed"] for each in answer["endpoints"]] == verdicts


def end(address: str, *, ready: bool, serving: bool, terminating: bool) -> Endpoint:
    return Endpoint(addresses=(address, "10.9.9.9"), ready=ready, serving=serving, terminating=terminating)


@pytest.mark.parametrize(
    ("endpoints", "asked"),
    [
        ([(1, 1, 0), (1, 1, 1), (0, 1, 1), (0, 0, 0)], ["10.2.0.0"]),
        ([(1, 1, 1), (0, 1, 1), (0, 0, 1), (0, 1, 0)], ["10.2.0.0", "10.2.0.1"]),
        ([(0, 1, 0), (0, 0, 1)], []),
        ([], []),
    ],
)
def test_ready_endpoints_are_asked_or_else_those_that_still_serve(
    endpoints: list[tuple[int, int, int]], asked: list[str]
) -> None:
    made = [
        end(f"10.2.0.{number}", ready=bool(ready), serving=bool(serving), terminating=bool(terminating))
        for number, (ready, serving, terminating) in enumerate(endpoints)
    ]
    answer = ask(view(DATABASE, slice_of(*made)), "198.51.100.7 svc/shop/db 5432")
    assert [each["destination"] for each in answer["endpoints"]] == asked
    assert answer["allowed"] is bool(asked)
    assert (answer.get("why") == "the Service has no endpoint that is ready: nobody answers") is not asked


def test_each_family_of_a_service_has_its_own_endpoints() -> None:
    leaving = slice_of(end("fd00:2::11", ready=False, serving=True, terminating=True), name="db-6", family="IPv6")
    answer = ask(view(DATABASE, slice_of(AT_DB), leaving), "shop/web svc/shop/db 5432")
    assert [each["destination"] for each in answer["endpoints"]] == ["shop/db (10.2.0.11)", "shop/db (fd00:2::11)"]
    only_four = ask(view(DATABASE, slice_of(AT_DB), leaving), "198.51.100.7 svc/shop/db 5432")
    assert [each["destination"] for each in only_four["endpoints"]] == ["shop/db (10.2.0.11)"]


def test_an_endpoint_in_two_slices_is_asked_once() -> None:
    answer = ask(view(DATABASE, slice_of(AT_DB), slice_of(AT_DB, name="db-2")), "shop/web svc/shop/db 5432")
    assert len(answer["endpoints"]) == 1


def test_a_pod_behind_its_own_service_reaches_itself() -> None:
    answer = ask(view(DENY, DATABASE, slice_of(AT_DB)), "shop/db svc/shop/db 5432")
    assert [each["ingress"]["why"] for each in answer["endpoints"]] == ["itself"]


# -- many questions ----------------------------------------------------------------------------------------------------


class Counting:
    """A view that counts how often all objects of a kind are looked at."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.looks: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def each(self, model: type[T]) -> Iterable[T]:
        self.looks[model.__name__] += 1
        return self._view.each(model)


def test_ten_thousand_questions_look_through_each_kind_of_object_once_or_twice() -> None:
    counting = Counting(view(DENY, ALLOW, DATABASE, slice_of(AT_DB, AT_JOB)))
    names = ["shop/web", "shop/db", "data/web", "data/job", "10.96.0.20", "192.0.2.1", "198.51.100.7", "shop/nobody"]
    probes = [
        {"src": source, "dst": destination, "port": port, "protocol": "TCP"}
        for source in names
        for destination in names
        for port in range(1, 158)
    ]
    assert len(probes) > 10_000
    answers = explain(counting, {"probes": probes}, Settings(default_deny=True))["answers"]
    assert isinstance(answers, list)
    assert len(answers) == len(probes)
    assert dict(counting.looks) == {"Pod": 1, "NetworkPolicy": 1, "Service": 2, "Node": 3}


def test_of_many_questions_each_that_makes_no_sense_is_an_error_in_its_place() -> None:
    good = {"src": "shop/web", "dst": "shop/db", "port": 80}
    found = explain(view(), {"probes": [good, {}, None, "x" * 10**5, good | {"dst": "nobody"}, good]}, DEFAULTS)
    answers = found["answers"]
    assert isinstance(answers, list)
    assert ["error" if "error" in each else each["allowed"] for each in answers] == [True, *["error"] * 4, True]
    assert max(len(each["error"]) for each in answers if "error" in each) < 200


# -- anything ----------------------------------------------------------------------------------------------------------

CLUSTER = view(DENY, ALLOW, DATABASE, slice_of(AT_DB, AT_JOB), AGENT, pod("shop/old", 1, 10, terminating=True))
NAMES = st.sampled_from(
    ["shop/web", "shop/db", "shop/old", "shop/agent", "svc/shop/db", "svc/", "svc//", "//", "/", " ", WEB, "::1",
     "10.96.0.20", "fd00:2::11%eth0", "::ffff:10.1.0.10", "192.0.2.1", "shop/web ", "\ud800", "shop/\x00"]
)  # fmt: skip
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3)
PORTS = st.sampled_from([80, 5432, 30432, "80", "http", "sql", "", None, 0, 65536, -1, "٣"])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "src": NAMES | JSON,
            "dst": NAMES | JSON,
            "port": PORTS | JSON,
            "protocol": st.sampled_from(["TCP", "udp", "icmp", "SCTP"]) | JSON,
            "probes": JSON,
        },
    ),
    st.booleans(),
)
def test_any_question_gets_an_answer_or_an_error_of_one_short_line(question: dict[str, object], denies: bool) -> None:
    answer = explain(CLUSTER, question, Settings(default_deny=denies, judge_icmp=denies))
    assert json.loads(json.dumps(answer)) == answer
    answers: Any = answer.get("answers", [answer])
    for each in answers:
        if "error" in each:
            assert list(each) == ["error"]
            assert each["error"].isprintable()
            assert len(each["error"]) < 300
        else:
            assert isinstance(each["allowed"], bool)


@settings(max_examples=30)
@given(st.sampled_from(NODES), st.sampled_from(PODS))
def test_a_node_explains_that_it_reaches_its_own_pods(node: Node, destination: Any) -> None:
    closed = policy("{podSelector: {}, policyTypes: [Ingress]}", f"{destination.namespace}/p")
    answer = ask(view(closed), f"{node.addresses[0].address} {destination.key} 80")
    assert answer["allowed"] is (destination.node_name == node.name)
