"""Pods and namespaces change while the policies stay: who is judged by what is judged anew, with real packets.

The lab is harness/policed.py's, and each test begins and ends with its pods. Nothing but x/b's own node and itself is
always let in to it; which of the others are is in each table.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from harness.policed import LABELS, Policed, policed, world
from harness.reach import Reach

from kube_router.lab.objects import Json, key, kind

pytestmark = [pytest.mark.root, pytest.mark.slow]

FROM_A = "x/in: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}"
FROM_Y = (
    "x/in: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}]}]}"
)
A_ONLY = """
         x/a x/b x/c y/a y/b
x/a       .   .   .   .   .
x/b       .   .   .   .   .
x/c       .   x   .   .   .
y/a       .   x   .   .   .
y/b       .   x   .   .   .
node-1    .   x   .   .   .
node-2    .   .   .   .   .
outside   .   x   .   .   .
"""


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Policed]:
    with policed("changes") as made:
        yield made


def written(what: str, name: str) -> Json:
    """Return an object of the lab as it is at the beginning."""
    (found,) = [obj for obj in world() if (kind(obj), key(obj)) == (what, name)]
    return found


def labelled(what: str, name: str, labels: Mapping[str, str]) -> Json:
    obj = written(what, name)
    return {**obj, "metadata": {**obj["metadata"], "labels": dict(labels)}}


@contextmanager
def changed(lab: Policed, *objects: Json) -> Iterator[None]:
    """Let these objects be there for the block, and after it what was there before."""
    there = {(kind(obj), key(obj)): obj for obj in world()}
    lab.lab.apply(objects)
    try:
        yield
    finally:
        for obj in objects:
            if (before := there.get((kind(obj), key(obj)))) is not None:
                lab.lab.apply([before])
            else:
                lab.lab.delete(kind(obj), key(obj))


def test_a_pod_that_gets_a_peer_s_labels_is_let_in_and_one_that_loses_them_no_more(lab: Policed) -> None:
    lab.enforce(FROM_A)
    lab.reach.expect("80/tcp", A_ONLY)
    table = """
         x/a x/b x/c y/a y/b
x/a       .   x   .   .   .
x/b       .   .   .   .   .
x/c       .   .   .   .   .
y/a       .   x   .   .   .
y/b       .   x   .   .   .
node-1    .   x   .   .   .
node-2    .   .   .   .   .
outside   .   x   .   .   .
"""
    with changed(lab, labelled("Pod", "x/a", {}), labelled("Pod", "x/c", {"app": "a"})):
        lab.reach.expect("80/tcp", table)
    lab.reach.expect("80/tcp", A_ONLY)


def test_a_pod_that_a_policy_begins_to_select_is_isolated_and_one_it_no_longer_selects_is_open(lab: Policed) -> None:
    lab.enforce(FROM_A)
    table = """
         x/a x/b x/c y/a y/b
x/a       .   .   .   .   .
x/b       .   .   x   .   .
x/c       .   .   .   .   .
y/a       .   .   x   .   .
y/b       .   .   x   .   .
node-1    .   .   .   .   .
node-2    .   .   x   .   .
outside   .   .   x   .   .
"""
    with changed(lab, labelled("Pod", "x/b", {}), labelled("Pod", "x/c", {"app": "b"})):
        lab.reach.expect("80/tcp", table)
    lab.reach.expect("80/tcp", A_ONLY)


def test_a_namespace_s_labels_change_who_its_pods_are(lab: Policed) -> None:
    lab.enforce(FROM_Y)
    of_y = """
         x/a x/b x/c y/a y/b
x/a       .   x   .   .   .
x/b       .   .   .   .   .
x/c       .   x   .   .   .
y/a       .   .   .   .   .
y/b       .   .   .   .   .
node-1    .   x   .   .   .
node-2    .   .   .   .   .
outside   .   x   .   .   .
"""
    of_x = """
         x/a x/b x/c y/a y/b
x/a       .   .   .   .   .
x/b       .   .   .   .   .
x/c       .   .   .   .   .
y/a       .   x   .   .   .
y/b       .   x   .   .   .
node-1    .   x   .   .   .
node-2    .   .   .   .   .
outside   .   x   .   .   .
"""
    lab.reach.expect("80/tcp", of_y)
    with changed(lab, labelled("Namespace", "x", {"team": "y"}), labelled("Namespace", "y", {"team": "x"})):
        lab.reach.expect("80/tcp", of_x)
    lab.reach.expect("80/tcp", of_y)


def test_a_new_pod_is_isolated_and_a_peer_as_its_labels_say(lab: Policed) -> None:
    lab.enforce(FROM_A)
    twin = written("Pod", "x/b")
    twin = {**twin, "metadata": {"namespace": "x", "name": "b2", "labels": LABELS["x/b"]}}
    twin = {**twin, "spec": {**twin["spec"], "nodeName": "node-1"}}
    peer = written("Pod", "x/a")
    peer = {**peer, "metadata": {"namespace": "x", "name": "a2", "labels": LABELS["x/a"]}}
    with changed(lab, twin, peer):
        there = Reach(lab.lab, ("x/a", "x/a2", "x/c", "y/a", "node-1", "node-2", "outside"), ("x/b", "x/b2", "x/a2"))
        there.expect(
            "80/tcp",
            """
                     x/b x/b2 x/a2
            x/a       .   .    .
            x/a2      .   .    .
            x/c       x   x    .
            y/a       x   x    .
            node-1    x   .    .
            node-2    .   x    .
            outside   x   x    .
            """,
        )
    lab.reach.expect("80/tcp", A_ONLY)


def test_a_terminating_pod_is_still_isolated_and_still_a_peer(lab: Policed) -> None:
    lab.enforce(FROM_A)
    ending = []
    for name in ("x/a", "x/b"):
        pod = written("Pod", name)
        metadata = {**pod["metadata"], "deletionTimestamp": "2026-11-24T10:00:00Z", "deletionGracePeriodSeconds": 30}
        ending.append({**pod, "metadata": metadata})
    with changed(lab, *ending):
        for _ in range(5):
            lab.reach.expect("80/tcp", A_ONLY)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_is_nobody_and_its_address_is_whose_it_is_now(lab: Policed, phase: str) -> None:
    """x/c has the addresses that a finished pod of app b had, y/b those of one of app a; neither is taken for it."""
    lab.enforce(FROM_A)
    finished = []
    for name, heir in (("b", "x/c"), ("a", "y/b")):
        ips = [lab.reach.address(heir, family) for family in (4, 6)]
        finished.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"namespace": "x", "name": f"a-done-{name}", "labels": {"app": name}},
                "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "none"}]},
                "status": {"phase": phase, "podIPs": [{"ip": ip} for ip in ips]},
            }
        )
    with changed(lab, *finished):
        shown = [obj for obj in lab.lab.objects if key(obj) == "x/a-done-b"]
        assert [pod["status"]["podIP"] for pod in shown] == [lab.reach.address("x/c", 4)]
        lab.enforce(f"{FROM_A}\nx/more: {{podSelector: {{matchLabels: {{app: nobody}}}}}}")
        lab.reach.expect("80/tcp", A_ONLY)


def test_a_named_port_follows_the_pod_s_own_declaration(lab: Policed) -> None:
    lab.enforce("x/in: {podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: web}]}]}")
    pod = written("Pod", "x/b")
    ports = [{"containerPort": 80}, {"containerPort": 81, "name": "web"}, {"containerPort": 53, "protocol": "UDP"}]
    other = {**pod, "spec": {**pod["spec"], "containers": [{"name": "c", "image": "none", "ports": ports}]}}
    there = Reach(lab.lab, ("x/a", "node-2", "outside"), ("x/b",))
    is_open = "x/b\nx/a .\nnode-2 .\noutside ."
    is_closed = "x/b\nx/a x\nnode-2 .\noutside x"
    there.expect("80/tcp", is_open)
    there.expect("81/tcp", is_closed)
    with changed(lab, other):
        there.expect("81/tcp", is_open)
        there.expect("80/tcp", is_closed)
    there.expect("80/tcp", is_open)
