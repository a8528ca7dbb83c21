"""Applied over an installation of kube-router's own manifests, ours take its place under its names."""

from collections.abc import Iterator
from typing import Any

import pytest
from harness import binaries
from harness.client import Client
from harness.controlplane import ControlPlane
from harness.deploying import DEPLOY, NAME, NAMESPACE, agent, containers, pod_spec, variant
from harness.helm import CHART, helm

from kube_router import __version__

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(900)]

BASE = DEPLOY / "kustomize" / "base"
# The shape of kube-router's own manifests: what a takeover has to undo is in it.
KUBE_ROUTER = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: kube-router, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kube-router}
rules:
  - {apiGroups: [""], resources: [namespaces, pods, services, nodes, endpoints], verbs: [list, get, watch]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}
  - {apiGroups: [""], resources: [services/status], verbs: [update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kube-router}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kube-router}
subjects: [{kind: ServiceAccount, name: kube-router, namespace: kube-system}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-router, namespace: kube-system, labels: {k8s-app: kube-router, tier: node}}
spec:
  selector: {matchLabels: {k8s-app: kube-router, tier: node}}
  template:
    metadata: {labels: {k8s-app: kube-router, tier: node}}
    spec:
      priorityClassName: system-node-critical
      serviceAccountName: kube-router
      hostNetwork: true
      hostPID: true
      hostIPC: true
      initContainers:
        - name: install-cni
          image: docker.io/cloudnativelabs/kube-router
          command: [/bin/sh, -c, "true"]
          volumeMounts: [{name: cni-conf-dir, mountPath: /etc/cni/net.d}]
      containers:
        - name: kube-router
          image: docker.io/cloudnativelabs/kube-router
          args: [--run-router=true, --run-firewall=true, --run-service-proxy=true]
          securityContext: {privileged: true}
          volumeMounts:
            - {name: lib-modules, mountPath: /lib/modules, readOnly: true}
            - {name: cni-conf-dir, mountPath: /etc/cni/net.d}
            - {name: xtables-lock, mountPath: /run/xtables.lock}
      volumes:
        - {name: lib-modules, hostPath: {path: /lib/modules}}
        - {name: cni-conf-dir, hostPath: {path: /etc/cni/net.d}}
        - {name: xtables-lock, hostPath: {path: /run/xtables.lock, type: FileOrCreate}}
"""


class Permissive(ControlPlane):
    """A control plane that takes privileged pods, for kube-router's are."""

    def _api_argv(self) -> list[str]:
        return [*super()._api_argv(), "--allow-privileged"]


@pytest.fixture(scope="module")
def permissive() -> Iterator[ControlPlane]:
    with Permissive(binaries.binaries()) as plane:
        yield plane


@pytest.fixture
def cluster(permissive: ControlPlane) -> Iterator[ControlPlane]:
    """A control plane without kube-router, before the test and after it."""
    yield permissive
    objects = [f"{kind}/{NAME}" for kind in ("daemonset", "serviceaccount", "clusterrole", "clusterrolebinding")]
    permissive.kubectl("delete", *objects, f"--namespace={NAMESPACE}", "--ignore-not-found", "--wait")


@pytest.fixture
def api(permissive: ControlPlane) -> Iterator[Client]:
    with permissive.client() as client:
        yield client


def daemonset(api: Client) -> Any:
    return api.get("DaemonSet", NAME, namespace=NAMESPACE)


def assert_is_ours(spec: Any) -> None:
    """Check what kube-router's manifests set otherwise, and what its agent is told."""
    assert "hostPID" not in spec  # false is left out
    assert "hostIPC" not in spec
    wanted = containers(pod_spec(variant("base")))
    assert set(containers(spec)) == set(wanted)
    for name, container in containers(spec).items():
        assert container["image"] == f"localhost/kube-router:{__version__}"
        assert container.get("args") == wanted[name].get("args")
        assert container.get("command") == wanted[name].get("command")
        assert container["securityContext"] == wanted[name]["securityContext"]
    told = {each["name"]: each.get("value") for each in agent(spec)["env"]}
    assert told["KUBE_ROUTER_PROC_SYS"] == "/host/proc/sys"
    mounts = {each["mountPath"] for each in agent(spec)["volumeMounts"]}
    assert mounts >= {each["mountPath"] for each in agent(pod_spec(variant("base")))["volumeMounts"]}


@pytest.mark.parametrize("how", ["apply", "create"])  # created, nothing tells which fields the old manifests had set
def test_applied_over_kube_router_it_takes_its_place(cluster: ControlPlane, api: Client, how: str) -> None:
    cluster.kubectl(how, "-f", "-", stdin=KUBE_ROUTER)
    old = daemonset(api)
    cluster.kubectl("apply", "-k", str(BASE))
    new = daemonset(api)
    assert new["metadata"]["uid"] == old["metadata"]["uid"]
    assert_is_ours(new["spec"]["template"]["spec"])


def test_applied_over_kube_router_its_rights_to_write_are_gone(cluster: ControlPlane) -> None:
    def may_write() -> str:
        account = f"--as=system:serviceaccount:{NAMESPACE}:{NAME}"
        return cluster.kubectl("auth", "can-i", "--list", account, f"--namespace={NAMESPACE}")

    cluster.kubectl("apply", "-f", "-", stdin=KUBE_ROUTER)
    assert "update" in may_write()
    cluster.kubectl("apply", "-k", str(BASE))
    assert "update" not in may_write()


def test_the_chart_takes_its_place_when_told_to(cluster: ControlPlane, api: Client) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=KUBE_ROUTER)
    old = daemonset(api)
    kubeconfig = f"--kubeconfig={cluster.access.kubeconfig}"
    done = helm("install", NAME, str(CHART), kubeconfig)
    assert "invalid ownership metadata" in done.stderr
    done = helm("install", NAME, str(CHART), kubeconfig, "--take-ownership")
    try:
        assert done.returncode == 0, done.stderr
        new = daemonset(api)
        assert new["metadata"]["uid"] == old["metadata"]["uid"]
        assert_is_ours(new["spec"]["template"]["spec"])
    finally:
        helm("uninstall", NAME, kubeconfig, "--ignore-not-found", "--wait")
