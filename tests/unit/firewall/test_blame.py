"""Each line of the table's text names the objects that caused it."""

from harness.firewalling import EVERYTHING, folded, view_of
from harness.shop import node, pod, policy
from strategies import by_key

from kube_router.core.view import Cause, Line
from kube_router.events.model import Namespace
from kube_router.plugins.firewall.blame import lines
from kube_router.plugins.firewall.render import lines as text_lines
from kube_router.plugins.firewall.wanted import Cluster

OBJECTS = (
    node(1),
    Namespace(name="shop"),
    pod("shop/web", 1, 10, "app=web", ips=("10.1.0.10",)),
    pod("shop/old", 2, 12, "app=db", ips=("10.2.0.12",), terminating=True),
    pod("shop/db", 2, 12, "app=db", ips=("10.2.0.12",)),
    policy("{ingress: [{from: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 80}]}]}", "shop/in"),
    policy("{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 81}]}]}", "shop/in-too"),
    policy("{podSelector: {matchLabels: {app: db}}, ingress: [{}]}", "shop/elsewhere"),
)
SEQ = {obj.key: number for number, obj in enumerate(OBJECTS, 1)}
WEB = Cause(SEQ["shop/web"], "Pod shop/web")
PEERS = (Cause(SEQ["shop/db"], "Pod shop/db"), Cause(SEQ["shop/old"], "Pod shop/old"))
IN, IN_TOO = Cause(SEQ["shop/in"], "NetworkPolicy shop/in"), Cause(SEQ["shop/in-too"], "NetworkPolicy shop/in-too")


def blamed() -> tuple[Cluster, list[Line]]:
    view = view_of(folded(by_key(OBJECTS)))
    cluster = Cluster("n1")
    cluster.update(view, EVERYTHING)
    return cluster, lines(cluster, view)


def because(*words: str) -> tuple[Cause, ...]:
    """Return the causes of the one line that has all of these words in it."""
    (line,) = (line for line in blamed()[1] if all(word in line.text for word in words))
    return line.because


def test_the_text_is_that_of_the_whole_table() -> None:
    cluster, found = blamed()
    assert [line.text for line in found] == list(text_lines(cluster.ruleset))


def test_a_rule_is_its_policy_s() -> None:
    assert because("ip saddr @s4_", "tcp dport 80") == (IN,)
    assert because("tcp dport 81") == (IN_TOO,)


def test_all_lines_of_a_policy_s_chain_and_its_counter_are_the_policy_s() -> None:
    cluster, found = blamed()
    (name,) = (name for name, (_, key) in cluster.chain_owners().items() if key == "shop/in")
    (start,) = (at for at, line in enumerate(found) if line.text == f"    chain {name} {{")
    end = next(at for at, line in enumerate(found) if at > start and line.text == "    }")
    assert [line.because for line in found[start:end]] == [(IN,)] * (end - start)
    assert end - start == 4  # its beginning, its comment, a rule of each family
    assert because(f"counter {name} {{ }}") == (IN,)


def test_a_class_is_caused_by_all_its_policies() -> None:
    assert because("chain ci_") == (IN, IN_TOO)


def test_an_address_in_a_map_is_caused_by_its_pod_and_by_the_policies_it_is_sent_to() -> None:
    assert because("add element", "ingress4") == (WEB, IN, IN_TOO)


def test_an_element_is_caused_by_all_pods_with_its_address() -> None:
    assert because("add element", " s4_", "10.2.0.12") == PEERS
    assert because("add element", " known4 ") == (WEB,)


def test_what_is_always_there_is_caused_by_nobody() -> None:
    assert because("chain deny_ingress {") == ()
    assert because("set known4") == ()
    assert because("chain forward-ingress {") == ()


def test_a_policy_that_is_not_active_causes_nothing() -> None:
    assert not any("elsewhere" in cause.object for line in blamed()[1] for cause in line.because)
