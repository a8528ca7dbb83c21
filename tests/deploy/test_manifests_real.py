"""A real API server takes the manifests and the chart, grants reads only, and need not allow privileged pods."""

import re
from collections.abc import Callable, Iterator

import pytest
from harness.client import Client
from harness.deploying import DEPLOY, NAME, NAMESPACE, STATIC_POD, VARIANTS
from harness.helm import CHART, Values, helm
from harness.remote import Plane

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(900)]

BASE = DEPLOY / "kustomize" / "base"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{NAME}"
READ = {"get", "list", "watch"}
Rights = set[tuple[str, str, str]]


@pytest.fixture
def cluster(control_plane: Plane) -> Iterator[Plane]:
    """A control plane without kube-router, before the test and after it."""
    yield control_plane
    objects = [f"{kind}/{NAME}" for kind in ("daemonset", "serviceaccount", "clusterrole", "clusterrolebinding")]
    control_plane.kubectl("delete", *objects, f"--namespace={NAMESPACE}", "--ignore-not-found", "--wait")


def rights(cluster: Plane, user: str) -> Rights:
    """Return what a user may do with objects: resource, name ("": all), verb."""
    found: Rights = set()
    for line in cluster.kubectl("auth", "can-i", "--list", f"--as={user}", f"--namespace={NAMESPACE}").splitlines():
        lists = [each.split() for each in re.findall(r"\[([^]]*)\]", line)]
        if not lists:
            continue  # the heading
        urls, names, verbs = lists
        if not urls:
            found |= {(line.split()[0], name, verb) for name in names or [""] for verb in verbs}
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_the_api_server_takes_it(cluster: Plane, name: str) -> None:
    said = cluster.kubectl("apply", "--dry-run=server", "-k", str(VARIANTS[name]), "--validate=strict")
    kinds = {line.split("/")[0].split(".")[0] for line in said.splitlines() if "created (server dry run)" in line}
    assert kinds == {"serviceaccount", "clusterrole", "clusterrolebinding", "daemonset"}


def test_the_api_server_takes_the_static_pod_as_the_kubelet_shows_it(cluster: Plane) -> None:
    # What the kubelet shows of a static pod is admitted like any pod: the priority has to be that of its class.
    said = cluster.kubectl("create", "--dry-run=server", "-f", str(STATIC_POD), "--validate=strict")
    assert said == "pod/kube-router created (server dry run)\n"


def test_applied_again_it_changes_nothing(cluster: Plane, api: Client) -> None:
    cluster.kubectl("apply", "-k", str(BASE))
    before = api.get("DaemonSet", NAME, namespace=NAMESPACE)
    assert cluster.kubectl("diff", "-k", str(BASE)) == ""
    cluster.kubectl("apply", "-k", str(BASE))
    after = api.get("DaemonSet", NAME, namespace=NAMESPACE)
    assert after["metadata"]["generation"] == before["metadata"]["generation"] == 1


def test_the_user_of_a_kubeconfig_gets_the_same_rights_by_a_binding(cluster: Plane) -> None:
    cluster.kubectl("apply", "-f", str(BASE / "rbac.yaml"))
    user, nobody = "node-agent", "nobody"
    cluster.kubectl("create", "clusterrolebinding", "kube-router-nodes", f"--clusterrole={NAME}", f"--user={user}")
    try:
        mine = rights(cluster, user) - rights(cluster, nobody)
    finally:
        cluster.kubectl("delete", "clusterrolebinding", "kube-router-nodes")
    assert mine == rights(cluster, ACCOUNT) - rights(cluster, f"{ACCOUNT}-nobody")
    assert ("pods", "", "watch") in mine


@pytest.mark.parametrize(
    ("name", "resources"),
    [
        (
            "base",
            {
                "endpointslices.discovery.k8s.io",
                "namespaces",
                "networkpolicies.networking.k8s.io",
                "nodes",
                "pods",
                "services",
            },
        ),
        ("firewall-only", {"namespaces", "networkpolicies.networking.k8s.io", "nodes", "pods"}),
        ("proxy-only", {"endpointslices.discovery.k8s.io", "nodes", "services"}),
        ("router-only", {"endpointslices.discovery.k8s.io", "nodes", "services"}),
    ],
)
def test_its_account_may_do_what_every_account_may_and_read(cluster: Plane, name: str, resources: set[str]) -> None:
    cluster.kubectl("apply", "-k", str(VARIANTS[name]))
    more = rights(cluster, ACCOUNT) - rights(cluster, f"{ACCOUNT}-nobody")
    identity = set() if "namespaces" in resources else {("namespaces", "kube-system", "get")}
    assert more == {(resource, "", verb) for resource in resources for verb in READ} | identity


Install = Callable[..., str]


@pytest.fixture
def install(cluster: Plane) -> Iterator[Install]:
    """Install the chart with options and values, and say what helm says; it is gone after the test."""
    kubeconfig = f"--kubeconfig={cluster.access.kubeconfig}"

    def run(*options: str, values: Values | None = None) -> str:
        done = helm("install", NAME, str(CHART), kubeconfig, *options, values=values)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    helm("uninstall", NAME, kubeconfig, "--ignore-not-found", "--wait")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "set master to the control plane's address"),
        ({"features": {"router": False}}, "net.ipv4.ip_forward=1"),
    ],
)
def test_the_charts_notes_say_what_is_left_to_do(install: Install, values: Values, said: str) -> None:
    assert said in install("--dry-run=server", values=values).partition("NOTES:")[2]


def test_the_charts_notes_say_nothing_that_is_done(install: Install) -> None:
    values = {"master": "https://control-plane.example:6443"}
    notes = install("--dry-run=server", values=values).partition("NOTES:")[2]
    assert "rollout status" in notes
    assert "set master" not in notes
    assert "ip_forward" not in notes
