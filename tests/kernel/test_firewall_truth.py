"""NetworkPolicy with real packets: every feature in a table that is written out, in both families.

The lab is harness/policed.py's. A node always reaches its own pods (node-1: x/a x/c y/b; node-2: x/b y/a), and a pod
itself, so these cells are open in every table.
"""

from collections.abc import Iterator

import pytest
from harness.policed import Policed, policed

pytestmark = [pytest.mark.root, pytest.mark.slow]

OPEN = """
         x/a x/b x/c y/a y/b
x/a       .   .   .   .   .
x/b       .   .   .   .   .
x/c       .   .   .   .   .
y/a       .   .   .   .   .
y/b       .   .   .   .   .
node-1    .   .   .   .   .
node-2    .   .   .   .   .
outside   .   .   .   .   .
"""
# Nothing but the pod itself and its node reaches x/b.
CLOSED = """
         x/a x/b x/c y/a y/b
x/a       .   x   .   .   .
x/b       .   .   .   .   .
x/c       .   x   .   .   .
y/a       .   x   .   .   .
y/b       .   x   .   .   .
node-1    .   x   .   .   .
node-2    .   .   .   .   .
outside   .   x   .   .   .
"""


def opened(*sources: str) -> str:
    """Return CLOSED with some sources let in to x/b."""
    lines = [
        line.replace(".   x   .", ".   .   .") if line.startswith(sources) else line for line in CLOSED.splitlines()
    ]
    return "\n".join(lines)


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Policed]:
    with policed("truth") as made:
        yield made


def test_without_policies_everybody_reaches_everybody(lab: Policed) -> None:
    lab.enforce("")
    for port in ("80/tcp", "81/tcp", "53/udp"):
        lab.reach.expect(port, OPEN)


def test_an_ingress_policy_without_rules_isolates_its_namespace(lab: Policed) -> None:
    lab.enforce("x/deny: {podSelector: {}, policyTypes: [Ingress]}")
    table = """
         x/a x/b x/c y/a y/b
x/a       .   x   x   .   .
x/b       x   .   x   .   .
x/c       x   x   .   .   .
y/a       x   x   x   .   .
y/b       x   x   x   .   .
node-1    .   x   .   .   .
node-2    x   .   x   .   .
outside   x   x   x   .   .
"""
    for port in ("80/tcp", "53/udp"):
        lab.reach.expect(port, table)


def test_an_egress_policy_without_rules_lets_nothing_out(lab: Policed) -> None:
    lab.enforce("x/deny: {podSelector: {}, policyTypes: [Egress]}")
    table = """
         x/a x/b x/c y/a y/b
x/a       .   x   x   x   x
x/b       x   .   x   x   x
x/c       x   x   .   x   x
y/a       .   .   .   .   .
y/b       .   .   .   .   .
node-1    .   .   .   .   .
node-2    .   .   .   .   .
outside   .   .   .   .   .
"""
    for port in ("80/tcp", "53/udp"):
        lab.reach.expect(port, table)


IN = "x/in: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [%s]}]}"


@pytest.mark.parametrize(
    ("peers", "sources"),
    [
        pytest.param("{podSelector: {matchLabels: {app: a}}}", ["x/a"], id="pods of the policy's namespace"),
        pytest.param("{podSelector: {}}", ["x/a", "x/c"], id="all pods of the policy's namespace"),
        pytest.param("{namespaceSelector: {matchLabels: {team: y}}}", ["y/a", "y/b"], id="a namespace"),
        pytest.param("{namespaceSelector: {}}", ["x/a", "x/c", "y/a", "y/b"], id="all namespaces, no host, no outside"),
        pytest.param(
            "{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {app: a}}}", ["y/a"], id="both"
        ),
        pytest.param(
            "{namespaceSelector: {matchLabels: {team: y}}}, {podSelector: {matchLabels: {app: a}}}",
            ["x/a", "y/a", "y/b"],
            id="either",
        ),
        pytest.param(
            "{podSelector: {matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}}",
            ["x/a"],
            id="NotIn holds for an absent key",
        ),
        pytest.param(
            "{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: In, values: [a, c]}]}}",
            ["x/a", "x/c", "y/a"],
            id="In",
        ),
        pytest.param(
            "{podSelector: {matchExpressions: [{key: env, operator: Exists}]}}", ["x/c"], id="Exists"
        ),
        pytest.param(
            "{podSelector: {matchExpressions: [{key: env, operator: DoesNotExist}]}}", ["x/a"], id="DoesNotExist"
        ),
        pytest.param(
            "{namespaceSelector: {matchLabels: {empty: ''}}, podSelector: {matchLabels: {app: b}}}",
            ["y/b"],
            id="an empty value is a value",
        ),
        pytest.param("{podSelector: {matchLabels: {app: nobody}}}", [], id="nobody"),
        pytest.param(
            "{namespaceSelector: {}, podSelector: {matchLabels: {app: host}}}", [], id="no pod on the host's network"
        ),
    ],
)  # fmt: skip
def test_a_peer_selects(lab: Policed, peers: str, sources: list[str]) -> None:
    lab.enforce(IN % peers)
    lab.reach.expect("80/tcp", opened(*sources))
    lab.reach.expect("53/udp", opened(*sources))


def test_an_ip_block_admits_addresses_but_for_its_exceptions(lab: Policed) -> None:
    # node-1's pods are 10.244.1.0/24, node-2's 10.244.2.0/24; the nodes 172.30.0.0/24, the outside 172.30.255.0/24.
    lab.enforce(IN % "{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.1.0/24, 172.30.255.0/24]}}")
    lab.reach.expect("80/tcp", opened("y/a", "node-1"), families=[4])
    lab.reach.expect("80/tcp", CLOSED, families=[6])


def test_overlapping_blocks_admit_what_any_of_them_admits(lab: Policed) -> None:
    blocks = "{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.1.0/24]}}, {ipBlock: {cidr: 10.244.1.2/31}}"
    lab.enforce(IN % f"{blocks}, {{ipBlock: {{cidr: 'fd00:10:244:2::/64'}}}}")
    inside = [name for name in ("x/a", "x/c", "y/b") if lab.reach.address(name, 4) in ("10.244.1.2", "10.244.1.3")]
    assert inside == ["x/a", "x/c"]
    lab.reach.expect("80/tcp", opened("y/a", "x/a", "x/c"), families=[4])
    lab.reach.expect("80/tcp", opened("y/a"), families=[6])


PORTS = "x/in: {podSelector: {matchLabels: {app: b}}, ingress: [{ports: [%s]}]}"


@pytest.mark.parametrize(
    ("ports", "reached"),
    [
        pytest.param("{port: 80}", ["80/tcp"], id="a number"),
        pytest.param("{port: 80, endPort: 81}", ["80/tcp", "81/tcp"], id="a range"),
        pytest.param("{port: web}", ["80/tcp"], id="the receiving pod's own name"),
        pytest.param("{protocol: UDP}", ["53/udp"], id="a protocol"),
        pytest.param("{port: 53, protocol: UDP}, {port: 81}", ["53/udp", "81/tcp"], id="a list"),
        pytest.param("{port: web, protocol: UDP}", [], id="a name of another protocol"),
        pytest.param("{port: 80, protocol: SCTP}", [], id="a number of another protocol"),
        pytest.param("", ["80/tcp", "81/tcp", "53/udp"], id="no ports are all"),
    ],
)
def test_ports(lab: Policed, ports: str, reached: list[str]) -> None:
    lab.enforce(PORTS % ports)
    everybody = [place for place in lab.reach.sources if place not in ("x/b", "node-2")]
    for port in ("80/tcp", "81/tcp", "53/udp"):
        lab.reach.expect(port, opened(*everybody) if port in reached else CLOSED)


def test_an_egress_port_s_name_is_each_peer_s_own(lab: Policed) -> None:
    lab.enforce(
        "x/out: {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress],"
        " egress: [{to: [{namespaceSelector: {}}], ports: [{port: web}]}]}"
    )
    at_80 = OPEN.replace("x/a       .   .   .   .   .", "x/a       .   .   .   x   x")
    at_81 = OPEN.replace("x/a       .   .   .   .   .", "x/a       .   x   x   .   .")
    lab.reach.expect("80/tcp", at_80)
    lab.reach.expect("81/tcp", at_81)


def test_several_policies_admit_what_any_of_them_admits(lab: Policed) -> None:
    lab.enforce(
        """
        x/deny: {podSelector: {}, policyTypes: [Ingress]}
        x/one:
            podSelector: {matchLabels: {app: b}}
            ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]
        x/two:
            podSelector: {matchLabels: {app: b}}
            ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}]}]
        """
    )
    table = """
         x/a x/b x/c y/a y/b
x/a       .   .   x   .   .
x/b       x   .   x   .   .
x/c       x   x   .   .   .
y/a       x   .   x   .   .
y/b       x   .   x   .   .
node-1    .   x   .   .   .
node-2    x   .   x   .   .
outside   x   x   x   .   .
"""
    lab.reach.expect("80/tcp", table)


def test_a_policy_of_both_types_opens_neither_direction_by_the_other(lab: Policed) -> None:
    # x/a may be reached by x/b, and x/b by x/a; but neither may send, and the pods of y may neither.
    lab.enforce(
        "x/both: {podSelector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]},"
        " policyTypes: [Ingress, Egress],"
        " ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}}]}]}"
    )
    table = """
         x/a x/b x/c y/a y/b
x/a       .   x   x   x   x
x/b       x   .   x   x   x
x/c       x   x   .   .   .
y/a       x   x   .   .   .
y/b       x   x   .   .   .
node-1    .   x   .   .   .
node-2    x   .   .   .   .
outside   x   x   .   .   .
"""
    lab.reach.expect("80/tcp", table)


def test_without_policy_types_egress_rules_make_it_both(lab: Policed) -> None:
    lab.enforce("x/some: {podSelector: {matchLabels: {app: b}}, egress: [{to: [{podSelector: {}}]}]}")
    table = opened().replace("x/b       .   .   .   .   .", "x/b       .   .   .   x   x")
    lab.reach.expect("80/tcp", table)


def test_an_empty_rule_admits_everything(lab: Policed) -> None:
    lab.enforce("x/all: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}")
    lab.reach.expect("80/tcp", OPEN)
    lab.reach.expect("53/udp", OPEN)


@pytest.mark.parametrize(
    "rules",
    [
        "{ports: [{port: 90, endPort: 80}]}",
        "{}, {from: [{ipBlock: {cidr: 10.0.0.0/33}}]}",
        "{}, {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}",
        "{from: [{podSelector: {matchExpressions: [{key: app, operator: Like}]}}]}",
        "{from: [{}]}",
    ],
)
def test_a_policy_with_a_fault_admits_nothing_to_its_pods_and_harms_no_others(lab: Policed, rules: str) -> None:
    lab.enforce(f"x/bad: {{podSelector: {{matchLabels: {{app: b}}}}, ingress: [{rules}]}}")
    lab.reach.expect("80/tcp", CLOSED)
    (problem,) = [text for text in lab.status("node-2")["problems"] if "x/bad" in text]
    assert "the policy admits nothing" in problem
