"""``kr explain``: questions in people's words, one or many, from manifests and from a journal."""

import json
from pathlib import Path

import pytest
from harness.command import kr
from harness.journaling import start
from hypothesis import given
from hypothesis import strategies as st

from kube_router.cli.explain import question
from kube_router.events.errors import ConfigError
from kube_router.events.event import Delete, Put
from kube_router.events.model import NetworkPolicy, Pod, Selector

MANIFESTS = """
kind: Namespace
metadata: {name: prod, labels: {team: a}}
---
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.1.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
kind: Pod
metadata: {name: web, namespace: prod, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.1.1.2}, {ip: 'fd00:1::2'}]}
---
kind: Pod
metadata: {name: db, namespace: prod, labels: {app: db}}
spec: {nodeName: n2, containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
status: {phase: Running, podIPs: [{ip: 10.1.2.2}, {ip: 'fd00:2::2'}]}
---
kind: Pod
metadata: {name: open, namespace: prod, labels: {app: open}}
spec: {nodeName: n2, containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
status: {phase: Running, podIPs: [{ip: 10.1.2.3}]}
---
kind: Pod
metadata: {name: host, namespace: prod}
spec: {nodeName: n1, hostNetwork: true, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 192.0.2.1}]}
---
kind: Pod
metadata: {name: done, namespace: prod}
spec: {nodeName: n1, containers: [{name: c}]}
status: {phase: Succeeded, podIPs: [{ip: 10.1.1.9}]}
---
kind: Pod
metadata: {name: new, namespace: prod}
spec: {nodeName: n1, containers: [{name: c}]}
status: {phase: Pending}
---
kind: Service
metadata: {name: db, namespace: prod}
spec: {type: NodePort, clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5], ports: [{name: sql, port: 5432, nodePort: 30432}]}
---
kind: EndpointSlice
metadata: {name: db-1, namespace: prod, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [10.1.2.2], conditions: {ready: true}}
- {addresses: [10.1.2.3], conditions: {ready: true}}
- {addresses: [10.1.9.9], conditions: {ready: false}}
---
kind: Service
metadata: {name: nobody, namespace: prod}
spec: {clusterIP: 10.96.0.6, clusterIPs: [10.96.0.6], ports: [{port: 80}]}
---
kind: NetworkPolicy
metadata: {name: db, namespace: prod}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - ports: [{port: 9}]
  - from: [{podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.128/25]}}]
    ports: [{port: sql}, {port: 6000, endPort: 6010}]
"""
API = {"NetworkPolicy": "networking.k8s.io/v1", "EndpointSlice": "discovery.k8s.io/v1"}


@pytest.fixture(scope="module", name="manifests")
def _manifests(tmp_path_factory: pytest.TempPathFactory) -> str:
    documents = []
    for text in MANIFESTS.split("---\n"):
        kind = text.strip().splitlines()[0].removeprefix("kind: ")
        documents.append(f"apiVersion: {API.get(kind, 'v1')}\n{text}")
    path = tmp_path_factory.mktemp("explain") / "all.yaml"
    path.write_text("---\n".join(documents))
    return str(path)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("prod/web prod/db:5432", 0, "rule 2: from pods with app=web, port sql/TCP"),
        ("prod/web prod/db:sql", 0, "allowed  prod/web (10.1.1.2) → prod/db (10.1.2.2) 5432/TCP"),
        ("prod/web prod/db:6005", 0, "rule 2: from pods with app=web, port 6000-6010/TCP"),
        ("prod/web prod/db:9", 0, "rule 1: from everybody, port 9/TCP"),
        ("prod/web prod/db:80", 1, "denied: isolated by NetworkPolicy prod/db"),
        ("prod/web prod/db:5432/udp", 1, "ingress  denied: isolated by NetworkPolicy prod/db"),
        ("prod/web [fd00:2::2]:5432", 0, "prod/web (fd00:1::2) → prod/db (fd00:2::2) 5432/TCP"),
        ("198.51.100.7 prod/db:sql", 0, "rule 2: from 198.51.100.0/24 except 198.51.100.128/25, port sql/TCP"),
        ("198.51.100.200 prod/db:sql", 1, "egress   not judged: no pod that policies apply to"),
        ("prod/db prod/web:http", 1, "egress   denied: isolated by NetworkPolicy prod/db"),
        ("prod/db prod/db:80", 0, "a pod always reaches itself"),
        ("192.0.2.2 prod/db:80", 0, "a node always reaches the pods on it"),
        ("prod/host prod/db:80", 1, "denied   192.0.2.1 → prod/db (10.1.2.2) 80/TCP"),
        ("prod/db prod/web/icmp", 0, "ICMP is not judged"),
        ("prod/db prod/web/icmp --netpol-judge-icmp", 1, "egress   denied"),
        ("prod/web 10.1.1.77:80", 0, "allowed"),
        ("prod/db2 prod/web:80", 2, "there is no Pod 'prod/db2', and it is no address"),
        ("web prod/db:80", 2, "there is no Pod 'default/web'"),
        ("prod/done prod/db:80", 2, "there is no Pod 'prod/done'"),  # finished: nobody is told of such pods
        ("prod/new prod/db:80", 2, "Pod prod/new has no address yet"),
        ("prod/web prod/db:nix", 2, "Pod prod/db has no port named 'nix' for TCP"),
        ("prod/web 192.0.2.9:sql", 2, "port 'sql' is a name, and 192.0.2.9 is no pod that could have it"),
        ("prod/web prod/db:70000", 2, "port 70000 is neither a number from 1 to 65535 nor a name"),
        ("prod/open [fd00:2::2]:80", 2, "no address family in common"),
        ("prod/web prod/db", 2, "'prod/db' has no port"),
        ("prod/web", 2, "two words are needed"),
        ("prod/web svc/prod/none:80", 2, "there is no Service 'prod/none'"),
        ("prod/web 10.96.0.5:81", 2, "10.96.0.5 is the address of Service prod/db, which has no port 81/TCP"),
        ("prod/web svc/prod/db:81", 2, "Service prod/db has no port 81/TCP"),
        ("prod/web prod/db:80 --netpol-judge-icpm", 2, "unknown flag --netpol-judge-icpm"),
    ],
)
def test_a_question_is_answered(manifests: str, words: str, status: int, told: str) -> None:
    done = kr("explain", "--from", manifests, *words.split())
    assert (done.status, told in done.out + done.err) == (status, True), done


def test_a_service_is_allowed_only_if_all_its_endpoints_are(manifests: str) -> None:
    for name in ("10.96.0.5:5432", "svc/prod/db:sql", "192.0.2.1:30432"):
        done = kr("explain", "--from", manifests, "prod/web", name)
        assert done.status == 0
        assert done.out.splitlines()[0] == "allowed  prod/web (10.1.1.2) → Service prod/db 5432/TCP"
        assert [line for line in done.out.splitlines() if "→ prod/" in line] == [
            "  allowed  prod/web (10.1.1.2) → prod/db (10.1.2.2) 5432/TCP",
            "  allowed  prod/web (10.1.1.2) → prod/open (10.1.2.3) 5432/TCP",
        ]
    done = kr("explain", "--from", manifests, "prod/open", "10.96.0.5:5432")
    assert done.status == 1
    assert done.out.splitlines()[0].startswith("denied ")


def test_a_service_without_endpoints_is_reached_by_nobody(manifests: str) -> None:
    done = kr("explain", "--from", manifests, "prod/web", "10.96.0.6:80")
    assert (done.status, "nobody answers" in done.out) == (1, True)


def test_an_answer_names_the_version_that_decided(manifests: str) -> None:
    done = kr("explain", "--from", manifests, "-o", "json", "prod/web", "prod/db:sql")
    answer = json.loads(done.out)
    ingress = answer["ingress"]
    assert (ingress["policy"], ingress["rule"], ingress["matched"]) == (
        "prod/db",
        2,
        "from pods with app=web, port sql/TCP",
    )
    assert isinstance(ingress["seq"], int)
    assert answer["egress"] == {"allowed": True, "why": "not isolated", "of": "prod/web", "isolated_by": []}


def test_probes_are_answered_line_by_line_and_a_bad_one_is_told_in_its_place(manifests: str, tmp_path: Path) -> None:
    probes = tmp_path / "probes"
    probes.write_text(
        '{"src": "prod/web", "dst": "prod/db", "port": "sql"}\n'
        "\n"
        "not json\n"
        "[1]\n"
        '{"src": "prod/db", "dst": "prod/web", "port": 80, "protocol": "UDP"}\n'
        '{"src": "prod/web", "dst": "prod/db", "port": 0}\n'
        '{"dst": "prod/db", "port": 1}\n'
    )
    done = kr("explain", "--from", manifests, "--probes", str(probes))
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert done.status == 1
    assert [answer.get("allowed") for answer in answers] == [True, None, None, False, None, None]
    assert [answer["error"] for answer in answers if "error" in answer] == [
        "'not json' is no probe: JSON is malformed: invalid character (byte 4)",
        "'[1]' is no probe: Expected `object`, got `array`",
        "port 0 is neither a number from 1 to 65535 nor a name",
        """'{"dst": "prod/db", "port": 1}' is no probe: Object missing required field `src`""",
    ]
    assert (
        kr(
            "explain", "--from", manifests, "--probes", "-", stdin=b'{"src":"1.2.3.4","dst":"1.2.3.5","port":1}\n'
        ).status
        == 0
    )


def test_a_journal_is_asked_at_any_moment(tmp_path: Path) -> None:
    web = Pod(namespace="prod", name="web", labels={"app": "web"}, ips=("10.1.1.2",), node_name="n1")
    db = Pod(namespace="prod", name="db", labels={"app": "db"}, ips=("10.1.1.3",), node_name="n1")
    closed = NetworkPolicy(namespace="prod", name="closed", pod_selector=Selector(match_labels={"app": "db"}))
    with start(tmp_path) as journal:
        for number, (resource, obj) in enumerate((("pods", web), ("pods", db), ("networkpolicies", closed)), 1):
            journal.append([Put(seq=number, t=number * 1000, r=resource, key=obj.key, rv=f"rv{number}", obj=obj)])
        journal.append([Delete(seq=4, t=4000, r="networkpolicies", key="prod/closed")])
    asked = ("explain", "--from", str(tmp_path), "prod/web", "prod/db:80")
    assert [kr(*asked, "--at", at).status for at in ("2", "3", "4")] == [0, 1, 0]
    told = kr(*asked, "--at", "3").out
    assert "NetworkPolicy prod/closed (seq 3, resourceVersion rv3, 1970-01-01T00:00:03.000Z)" in told
    assert kr(*asked, "--at", "1970-01-01T00:00:03Z").status == 1
    assert kr(*asked).status == 0


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_words_raise_anything_but_what_is_told(source: str, destination: str) -> None:
    try:
        asked = question(source, destination)
    except ConfigError:
        return
    assert set(asked) <= {"src", "dst", "port", "protocol"}
