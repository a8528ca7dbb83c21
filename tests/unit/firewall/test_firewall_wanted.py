"""What a node's table should hold, and what of it changes when something in the cluster does."""

from collections.abc import Iterator
from typing import Any

import pytest
from harness.firewalling import view_of
from harness.shop import node, pod, policy
from strategies import records

from kube_router.core.state import State, View
from kube_router.core.view import Dirty, Ref
from kube_router.events.errors import Problem
from kube_router.events.model import Namespace, Object, Pod
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.firewall.model import IPV4, IPV6, Family, Touched
from kube_router.plugins.firewall.wanted import FAILS_CLOSED, RESOURCES, Cluster

SHOP = Namespace(name="shop", labels={"team": "red"})
CLOSED = "{policyTypes: [Ingress]}"
FROM_DB = "{ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}"
NAMES = {model: resource for resource, model in RESOURCES.items()}


class Live:
    """A state and the cluster that follows it change by change."""

    def __init__(self, *objects: Object, default_deny: bool = False) -> None:
        self.state = State(Catalogue(BUILTIN))
        self.cluster = Cluster("n1", default_deny=default_deny)
        self.default_deny = default_deny
        self.put(*objects)

    @property
    def view(self) -> View:
        return view_of(self.state)

    def put(self, *objects: Object) -> Touched:
        """Let objects be, and return what of the table that touched."""
        return self._take([(NAMES[type(obj)], obj.key, obj) for obj in objects])

    def delete(self, *objects: Object) -> Touched:
        return self._take([(NAMES[type(obj)], obj.key, None) for obj in objects])

    def _take(self, changes: list[tuple[str, str, Any]]) -> Touched:
        for record in records(changes, self.view.seq):
            self.state.apply(record)
        refs = frozenset(Ref(resource, key) for resource, key, _ in changes)
        self.cluster.update(self.view, Dirty(refs))
        assert self.cluster.ruleset == self.anew().ruleset
        return self.cluster.ruleset.take_touched()

    def anew(self) -> Cluster:
        """Return a cluster that has seen the state as a whole."""
        cluster = Cluster("n1", default_deny=self.default_deny)
        cluster.update(self.view, Dirty(everything=True))
        return cluster

    def sent(self, map: str = "ingress4") -> dict[str, str]:
        return self.cluster.ruleset.verdicts[map]

    def chain(self, address: str, map: str = "ingress4") -> tuple[str, ...]:
        """Return the rules of the chain to which an address is sent."""
        return self.cluster.ruleset.chains[self.sent(map)[address].removeprefix("goto ")].rules

    def sets(self, prefix: str) -> list[set[str]]:
        """Return the elements of the sets with such names."""
        elements = self.cluster.ruleset.elements
        return [elements[name] for name in sorted(elements) if name.startswith(f"{prefix}_")]

    def problems(self) -> list[Problem]:
        return list(self.cluster.problems)

    def families(self) -> list[Family]:
        return list(self.cluster.settings.families)

    def is_stale(self) -> bool:
        return self.cluster.stale

    def chains(self) -> Iterator[str]:
        """Return the names of the chains that are not always there."""
        return (name for name in self.cluster.ruleset.chains if name[:3] in ("pi_", "pe_", "ci_", "ce_"))


WEB = pod("shop/web", 1, 10, "app=web", "http=8080/TCP", ips=("10.1.0.10",))
WEB2 = pod("shop/web2", 1, 11, "app=web", "http=8081/TCP", ips=("10.1.0.11",))
DB = pod("shop/db", 2, 12, "app=db", "http=80/TCP", ips=("10.2.0.12",))


# -- where pods are sent -----------------------------------------------------------------------------------------------


def test_a_pod_that_no_policy_selects_is_known_and_sent_nowhere() -> None:
    live = Live(node(1), SHOP, WEB, DB)
    assert live.cluster.ruleset.elements["known4"] == {"10.1.0.10"}
    assert live.cluster.ruleset.elements["self4"] == set()
    assert live.sent() == live.sent("egress4") == {}
    assert list(live.chains()) == []


def test_pods_with_the_same_policies_share_a_chain_and_it_goes_with_the_last_of_them() -> None:
    live = Live(node(1), SHOP, WEB, WEB2, policy(FROM_DB, "shop/a"), policy(FROM_DB, "shop/b"))
    first, second = live.sent()["10.1.0.10"], live.sent()["10.1.0.11"]
    assert first == second
    assert len(live.chain("10.1.0.10")) == 3
    assert live.chain("10.1.0.10")[-1] == "goto deny_ingress"
    live.delete(WEB)
    assert live.sent() == {"10.1.0.11": first}
    live.delete(WEB2)
    assert live.sent() == {}
    assert list(live.chains()) == []


def test_a_pod_is_sent_in_the_directions_of_its_policies_only() -> None:
    live = Live(node(1), SHOP, WEB, policy("{policyTypes: [Egress], egress: [{}]}"))
    assert live.sent() == {}
    (name,) = (name for name in live.chains() if name.startswith("pe_"))
    assert live.chain("10.1.0.10", "egress4") == (f"jump {name}", "goto deny_egress")
    assert live.cluster.ruleset.elements["self4"] == {"10.1.0.10 . 10.1.0.10"}


def test_a_pod_whose_policies_admit_nothing_is_sent_to_what_denies() -> None:
    live = Live(node(1), SHOP, WEB, policy(CLOSED))
    assert live.sent() == {"10.1.0.10": "goto deny_ingress"}


def test_a_policy_that_admits_nothing_adds_nothing_to_another_s_class() -> None:
    live = Live(node(1), SHOP, WEB, policy(FROM_DB, "shop/a"))
    touched = live.put(policy(CLOSED, "shop/b"))
    assert touched.verdicts == set()
    assert len(live.chain("10.1.0.10")) == 2


# -- policies come into play, and go -----------------------------------------------------------------------------------


def test_a_policy_that_selects_no_pod_of_this_node_has_no_chain_and_no_sets() -> None:
    live = Live(node(1), SHOP, DB, policy(FROM_DB))
    assert [*live.chains(), *live.sets("s4")] == []
    live.put(WEB)
    assert len(list(live.chains())) == 2
    assert live.sets("s4") == [{"10.2.0.12"}]
    live.delete(WEB)
    assert [*live.chains(), *live.sets("s4")] == []


def test_a_pod_whose_labels_change_is_sent_by_other_policies() -> None:
    live = Live(node(1), SHOP, WEB, policy("{podSelector: {matchLabels: {app: db}}}", "shop/only-db"))
    assert live.sent() == {}
    live.put(pod("shop/web", 1, 10, "app=db", ips=("10.1.0.10",)))
    assert live.sent() == {"10.1.0.10": "goto deny_ingress"}
    live.put(WEB)
    assert live.sent() == {}


def test_a_peer_that_comes_changes_one_element_and_no_rule() -> None:
    live = Live(node(1), SHOP, WEB, policy(FROM_DB))
    (name,) = (name for name in live.cluster.ruleset.sets if name.startswith("s4_"))
    assert live.put(DB) == Touched(elements={(name, "10.2.0.12")})
    assert live.delete(DB) == Touched(elements={(name, "10.2.0.12")})
    assert live.put(DB) == Touched(elements={(name, "10.2.0.12")})
    assert live.sets("s4") == [{"10.2.0.12"}]


def test_two_policies_with_the_same_peers_share_a_set_that_goes_with_the_last() -> None:
    live = Live(node(1), SHOP, WEB, DB, policy(FROM_DB, "shop/a"), policy(FROM_DB, "shop/b"))
    assert live.sets("s4") == [{"10.2.0.12"}]
    live.delete(policy(FROM_DB, "shop/a"))
    assert live.sets("s4") == [{"10.2.0.12"}]
    live.delete(policy(FROM_DB, "shop/b"))
    assert live.sets("s4") == []


def test_blocks_and_ports_are_in_sets_that_policies_share_and_that_go_with_the_last() -> None:
    rules = "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 1}, {port: 2}]}]}"
    live = Live(node(1), SHOP, WEB, policy(rules, "shop/a"), policy(rules, "shop/b"))
    kept = [{"10.0.0.0/16", "10.2.0.0-10.255.255.255"}, {"tcp . 1", "tcp . 2"}]
    assert live.sets("b4") + live.sets("p") == kept
    live.delete(policy(rules, "shop/a"))
    assert live.sets("b4") + live.sets("p") == kept
    live.delete(policy(rules, "shop/b"))
    assert live.sets("b4") + live.sets("p") == []


def test_a_change_of_a_policy_that_its_rules_do_not_show_touches_nothing() -> None:
    live = Live(node(1), SHOP, WEB, policy("{podSelector: {matchLabels: {app: web}}, ingress: [{}]}"))
    assert live.put(policy("{podSelector: {}, ingress: [{}, {}]}")) == Touched()


def test_what_did_not_change_touches_nothing() -> None:
    live = Live(node(1), SHOP, WEB, DB, policy(FROM_DB))
    assert live.put(node(1), node(2), SHOP, WEB, DB, policy(FROM_DB)) == Touched()


def test_a_policy_that_comes_last_finds_the_pods_of_its_own_namespace_that_are_there() -> None:
    far = pod("data/db", 2, 13, "app=db", "http=80/TCP", ips=("10.2.0.13",))
    gone = pod("shop/gone", 1, 14, "app=db", "http=80/TCP", ips=("10.1.0.14",))
    live = Live(node(1), SHOP, Namespace(name="data"), WEB, DB, far, gone)
    live.delete(gone)
    live.put(policy("{ingress: [{from: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: http}]}]}"))
    assert live.sets("s4") == [{"10.2.0.12"}]
    assert live.sets("n4") == [{"10.1.0.10 . tcp . 8080"}]


# -- namespaces --------------------------------------------------------------------------------------------------------


def test_pods_are_peers_by_their_namespace_s_labels_as_they_are_now() -> None:
    far = pod("data/job", 2, 13, ips=("10.2.0.13",))
    live = Live(node(1), SHOP, WEB, far, policy("{ingress: [{from: [{namespaceSelector: {}}]}]}"))
    assert live.sets("s4") == [{"10.1.0.10"}]  # nobody knows the labels of data, which matches no selector then
    live.put(Namespace(name="data"))
    assert live.sets("s4") == [{"10.1.0.10", "10.2.0.13"}]
    live.delete(SHOP)
    assert live.sets("s4") == [{"10.2.0.13"}]
    live.delete(policy("{}"))
    live.put(policy("{ingress: [{from: [{namespaceSelector: {}}]}]}"))
    assert live.sets("s4") == [{"10.2.0.13"}]


def test_a_namespace_s_labels_change_members_and_no_rule() -> None:
    live = Live(node(1), SHOP, WEB, policy("{ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]}"))
    (name,) = (name for name in live.cluster.ruleset.sets if name.startswith("s4_"))
    touched = live.put(Namespace(name="shop", labels={"team": "blue"}))
    assert touched == Touched(elements={(name, "10.1.0.10")})
    assert live.sets("s4") == [set()]


# -- named ports -------------------------------------------------------------------------------------------------------


def test_a_named_port_of_ingress_holds_the_pods_of_this_node_and_of_egress_all() -> None:
    rules = "[{ports: [{port: http}]}]"
    live = Live(node(1), SHOP, WEB, WEB2, DB, policy(f"{{ingress: {rules}, policyTypes: [Ingress]}}", "shop/in"))
    here = {"10.1.0.10 . tcp . 8080", "10.1.0.11 . tcp . 8081"}
    assert live.sets("n4") == [here]
    live.delete(policy("{}", "shop/in"))
    live.put(policy(f"{{egress: {rules}, policyTypes: [Egress]}}", "shop/out"))
    assert live.sets("n4") == [here | {"10.2.0.12 . tcp . 80"}]


def test_a_named_port_is_of_its_protocol_and_a_pod_may_have_several() -> None:
    live = Live(
        node(1),
        SHOP,
        pod("shop/web", 1, 10, "", "http=80/TCP http=8080/TCP http=80/UDP dns=53/TCP", ips=("10.1.0.10",)),
        policy("{ingress: [{ports: [{port: http}]}]}"),
    )
    assert live.sets("n4") == [{"10.1.0.10 . tcp . 80", "10.1.0.10 . tcp . 8080"}]


# -- addresses that change hands ---------------------------------------------------------------------------------------


def test_an_address_stays_in_a_set_until_the_last_pod_with_it_is_gone() -> None:
    live = Live(node(1), SHOP, WEB, DB, policy(FROM_DB))
    live.put(pod("shop/db2", 2, 12, "app=db", ips=("10.2.0.12",)))
    assert live.delete(DB) == Touched()
    assert live.sets("s4") == [{"10.2.0.12"}]


def test_a_recycled_address_is_its_new_pod_s_at_once() -> None:
    live = Live(node(1), SHOP, WEB, policy("{podSelector: {matchLabels: {app: web}}}"))
    assert live.sent() == {"10.1.0.10": "goto deny_ingress"}
    new = pod("shop/a-job", 1, 10, "app=job", ips=("10.1.0.10",))
    live.put(pod("shop/web", 1, 10, "app=web", ips=("10.1.0.10",), phase="Succeeded"), new)
    assert live.sent() == {}
    assert live.cluster.ruleset.elements["known4"] == {"10.1.0.10"}


def test_of_two_pods_with_one_address_one_counts_and_the_other_is_a_problem() -> None:
    twin = pod("shop/zz", 1, 10, "app=db", ips=("10.1.0.10",))
    live = Live(node(1), SHOP, WEB, twin, policy("{podSelector: {matchLabels: {app: db}}}"))
    assert live.sent() == {}
    assert live.problems() == [
        Problem(
            "Pod",
            "shop/zz",
            "has the address 10.1.0.10, which is Pod shop/web's too; only that one's policies are enforced",
        ),
    ]
    live.put(pod("shop/web", 1, 10, "app=web", ips=("10.1.0.10",), terminating=True))
    assert live.sent() == {"10.1.0.10": "goto deny_ingress"}
    assert live.problems() == []


# -- what all rules depend on ------------------------------------------------------------------------------------------


def test_a_family_comes_into_play_with_the_first_pod_that_has_it_and_goes_with_the_last() -> None:
    ipv4 = node(1).addresses[:1]
    here = type(node(1))(name="n1", addresses=ipv4, pod_cidrs=("10.1.0.0/24",))
    live = Live(here, SHOP, WEB, policy(FROM_DB))
    assert live.families() == [IPV4]
    assert live.sets("s6") == []
    dual = pod("shop/dual", 1, 20)
    live.put(dual)
    assert live.families() == [IPV4, IPV6]
    assert live.sets("s6") == [set()]
    assert live.sent("ingress6") == {"fd00:1::20": live.sent()["10.1.0.20"]}
    live.delete(dual)
    assert live.families() == [IPV4]
    assert live.sets("s6") == []


def test_a_cluster_is_stale_until_what_all_rules_depend_on_is_taken_in() -> None:
    live = Live(SHOP, WEB)
    for record in records([("nodes", "n1", node(1))], live.view.seq):
        live.state.apply(record)
    live.cluster.take(live.view, [Ref("nodes", "n1")])
    assert live.is_stale()
    live.cluster.update(live.view, Dirty())
    assert not live.is_stale()
    assert live.cluster.settings.pod_cidrs == ("10.1.0.0/24", "fd00:1::/64")


def test_default_deny_denies_addresses_of_this_node_s_pods_that_are_no_known_pod_s() -> None:
    live = Live(node(1), SHOP, WEB, default_deny=True)
    assert live.cluster.ruleset.elements["podcidr4"] == {"10.1.0.0/24"}
    assert live.cluster.ruleset.elements["podcidr6"] == {"fd00:1::/64"}
    assert live.cluster.ruleset.elements["known4"] == {"10.1.0.10"}
    assert "ip daddr @podcidr4 ip daddr != @known4 goto deny_ingress" in live.cluster.ruleset.chains["ingress"].rules
    assert live.problems() == []


def test_default_deny_without_pod_cidrs_is_a_problem_of_the_node() -> None:
    live = Live(default_deny=True)
    assert [(problem.kind, problem.key) for problem in live.problems()] == [("Node", "n1")]


# -- what people ask ---------------------------------------------------------------------------------------------------


def test_a_policy_with_a_fault_isolates_its_pods_admits_nothing_and_is_a_problem() -> None:
    live = Live(node(1), SHOP, WEB, policy("{ingress: [{}, {ports: [{port: 0}]}]}"))
    assert live.sent() == {"10.1.0.10": "goto deny_ingress"}
    text = f"spec.ingress[1].ports[0].port: 0 is not 1-65535; {FAILS_CLOSED}"
    assert live.problems() == [Problem("NetworkPolicy", "shop/p", text)]
    assert live.cluster.faulty == 1
    live.put(policy("{ingress: [{}]}"))
    assert live.problems() == []
    assert live.cluster.faulty == 0


def test_the_policies_of_an_address_are_those_that_isolate_its_pod() -> None:
    live = Live(node(1), SHOP, WEB, policy(CLOSED, "shop/b"), policy(FROM_DB, "shop/a"))
    assert live.cluster.policies_of("10.1.0.10", "ingress") == ["shop/a", "shop/b"]
    assert live.cluster.policies_of("10.1.0.10", "egress") == []
    assert live.cluster.policies_of("10.1.0.99", "ingress") == []
    assert sorted(live.cluster.chain_owners().values()) == [("ingress", "shop/a"), ("ingress", "shop/b")]
    assert list(live.cluster.local_addresses) == ["10.1.0.10"]


@pytest.mark.parametrize(
    "other",
    [
        pod("shop/web", 1, 10, "app=web", host_network=True),
        pod("shop/web", 1, 10, "app=web", phase="Failed"),
        pod("shop/web", 1, 10, "app=web", ips=()),
        pod("shop/web", 2, 10, "app=web"),
    ],
)
def test_a_pod_that_is_not_of_this_node_or_not_actionable_is_sent_nowhere(other: Pod) -> None:
    live = Live(node(1), SHOP, other, policy(CLOSED))
    assert live.sent() == {}
    assert live.cluster.ruleset.elements["known4"] == set()
