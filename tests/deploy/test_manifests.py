"""What the manifests of deploy/ ask for: the flags there are, the rights the plugins need, and nothing beyond."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from harness.deploying import (
    DEPLOY,
    NAME,
    NAMESPACE,
    VARIANTS,
    Object,
    agent,
    containers,
    pod_spec,
    static_pod,
    variant,
)

from kube_router import __version__
from kube_router.core.agent_options import option_groups
from kube_router.core.options import Options, resolve
from kube_router.core.registry import Registry
from kube_router.events.sources.kubernetes import IDENTITY_PATH
from kube_router.lab.testkit import Bench
from kube_router.plugins.firewall.plugin import Firewall
from kube_router.plugins.proxy.plugin import Proxy
from kube_router.plugins.routing.plugin import Routing

STATIC = "static-pod"
READ = {"get", "list", "watch"}
ALL_THREE = {"firewall", "proxy", "routing"}
PLUGINS: Mapping[str, set[str]] = {
    "base": ALL_THREE,
    "firewall-only": {"firewall"},
    "proxy-only": {"proxy"},
    "router-only": {"routing"},
    "with-kubeconfig": ALL_THREE,
    "without-kube-proxy": ALL_THREE,
    "base-with-names": ALL_THREE,
    STATIC: ALL_THREE,
}
ROUTER_CAPABILITIES = {
    "load-modules": {"SYS_MODULE"},
    "install-cni": {"DAC_OVERRIDE"},
    "kube-router": {"NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW"},
}
NO_ROUTER_CAPABILITIES = {"load-modules": {"SYS_MODULE"}, "kube-router": {"NET_ADMIN", "NET_RAW"}}
CAPABILITIES: Mapping[str, Mapping[str, set[str]]] = {
    "base": ROUTER_CAPABILITIES,
    "firewall-only": NO_ROUTER_CAPABILITIES,
    "proxy-only": NO_ROUTER_CAPABILITIES,
    "router-only": ROUTER_CAPABILITIES,
    "with-kubeconfig": ROUTER_CAPABILITIES,
    "without-kube-proxy": ROUTER_CAPABILITIES,
    "base-with-names": {**ROUTER_CAPABILITIES, "plugin-names": set()},
    STATIC: ROUTER_CAPABILITIES,
}
HOST_PATHS = {"/var/lib/kube-router", "/run/xtables.lock", "/proc/sys/net", "/lib/modules"}
CNI_PATHS = {"/etc/cni/net.d", "/opt/cni/bin"}

every_variant = pytest.mark.parametrize("name", VARIANTS)
every_pod = pytest.mark.parametrize("name", [*VARIANTS, STATIC])


def spec_of(name: str) -> Object:
    return static_pod()["spec"] if name == STATIC else pod_spec(variant(name))


def options_of(name: str) -> Options:
    groups, _ = option_groups(Registry().options())
    return resolve(agent(spec_of(name))["args"], groups, environ={})


def rights(role: Object) -> Iterator[tuple[str, str, str, str]]:
    """Return all that a role allows: API group, resource, name ("": all) and verb."""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames", [""]):
                    for verb in rule["verbs"]:
                        yield group, resource, name, verb


def needed_rights(plugins: set[str]) -> set[tuple[str, str, str, str]]:
    """Return the rights to what these plugins say that they need, and to what names the cluster."""
    benches = [Bench(plugin) for plugin in plugins]
    resources = [bench.registry.catalogue().by_model(model) for bench in benches for model in bench.plugin.needs]
    read = {
        ("" if each.api_version == "v1" else each.api_version.partition("/")[0], each.name)
        for each in resources
        if not each.local
    }
    found = {(group, resource, "", verb) for group, resource in read for verb in READ}
    *_, identity, name = IDENTITY_PATH.split("/")
    return found if ("", identity) in read else found | {("", identity, name, "get")}


def test_there_is_no_variant_that_is_not_checked() -> None:
    assert set(PLUGINS) == set(CAPABILITIES) == {*VARIANTS, STATIC}
    assert {path.parent.name for path in (DEPLOY / "plugins").glob("*/kustomization.yaml")} == {
        "names",
        "base-with-names",
    }


@every_variant
def test_it_is_a_daemonset_and_its_rights_under_kube_routers_names(name: str) -> None:
    assert set(variant(name)) == {
        ("ServiceAccount", "kube-router"),
        ("ClusterRole", "kube-router"),
        ("ClusterRoleBinding", "kube-router"),
        ("DaemonSet", "kube-router"),
    }
    for (kind, _), each in variant(name).items():
        assert each["metadata"].get("namespace", "") == ("" if kind.startswith("Cluster") else "kube-system")
    binding = variant(name)["ClusterRoleBinding", NAME]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", NAME)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]


@every_variant
def test_its_pods_are_found_by_the_labels_of_kube_routers_manifests(name: str) -> None:
    daemonset = variant(name)["DaemonSet", NAME]
    labels = {"k8s-app": "kube-router", "tier": "node"}
    assert daemonset["spec"]["selector"] == {"matchLabels": labels}
    assert daemonset["spec"]["template"]["metadata"]["labels"] == labels


@every_variant
def test_nodes_are_updated_one_by_one_and_never_run_two_agents(name: str) -> None:
    strategy = variant(name)["DaemonSet", NAME]["spec"]["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}


@every_pod
def test_every_flag_is_one_the_agent_serves(name: str) -> None:
    assert options_of(name).warnings == ()


@every_pod
def test_it_runs_the_plugins_of_its_name(name: str) -> None:
    options = options_of(name)
    assert {plugin for plugin in ALL_THREE if options.flag(f"run-{plugin}")} == PLUGINS[name]


@every_variant
def test_it_may_read_what_its_plugins_need_and_write_nothing(name: str) -> None:
    granted = list(rights(variant(name)["ClusterRole", NAME]))
    assert set(granted) == needed_rights(PLUGINS[name])
    assert len(granted) == len(set(granted))


@pytest.mark.parametrize(("name", "kubeconfig"), [(name, name in ("with-kubeconfig", STATIC)) for name in PLUGINS])
def test_only_without_a_kubeconfig_it_has_the_token_of_its_service_account(name: str, kubeconfig: bool) -> None:
    spec = spec_of(name)
    assert options_of(name).text("kubeconfig") == ("/var/lib/kube-router/kubeconfig" if kubeconfig else "")
    assert spec.get("automountServiceAccountToken", True) is not kubeconfig
    assert spec.get("serviceAccountName") == (None if name == STATIC else NAME)


def test_without_kube_proxy_the_api_server_is_named() -> None:
    assert options_of("without-kube-proxy").text("master") == "https://control-plane.example:6443"


@every_pod
def test_containers_have_the_capabilities_they_need_and_no_other(name: str) -> None:
    found = {}
    for container, each in containers(spec_of(name)).items():
        capabilities = each["securityContext"]["capabilities"]
        assert capabilities["drop"] == ["ALL"]
        found[container] = set(capabilities.get("add", ()))
    assert found == CAPABILITIES[name]


@every_pod
def test_no_container_is_privileged_or_may_become_so(name: str) -> None:
    for each in containers(spec_of(name)).values():
        context = {key: value for key, value in each["securityContext"].items() if key != "capabilities"}
        assert context == {
            "runAsUser": 0,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
        }


@every_pod
def test_the_pod_shares_the_nodes_network_and_no_other_namespace_of_it(name: str) -> None:
    spec = spec_of(name)
    assert (spec["hostNetwork"], spec["hostPID"], spec["hostIPC"]) == (True, False, False)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@every_pod
def test_it_sees_of_the_nodes_files_what_it_needs(name: str) -> None:
    spec = spec_of(name)
    paths = {each["hostPath"]["path"] for each in spec["volumes"] if "hostPath" in each}
    assert paths == HOST_PATHS | (CNI_PATHS if "routing" in PLUGINS[name] else set())
    mounted = {mount["name"] for each in containers(spec).values() for mount in each["volumeMounts"]}
    assert mounted == {each["name"] for each in spec["volumes"]}


@every_pod
def test_only_what_loads_modules_sees_them_and_cannot_change_them(name: str) -> None:
    for container, each in containers(spec_of(name)).items():
        (mounts,) = [[it for it in each["volumeMounts"] if it["mountPath"] == "/lib/modules"]]
        assert [it["readOnly"] for it in mounts] == ([True] if container == "load-modules" else [])


@every_pod
def test_the_agent_is_told_its_node_and_where_it_may_write_sysctls(name: str) -> None:
    container = agent(spec_of(name))
    variables: dict[str, Any] = {
        each["name"]: each.get("value") or each["valueFrom"]["fieldRef"]["fieldPath"] for each in container["env"]
    }
    assert variables == {
        "NODE_NAME": "spec.nodeName",
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "KUBE_ROUTER_PROC_SYS": "/host/proc/sys",
        **(
            {"KUBE_ROUTER_CNI_CONF_FILE": "/etc/cni/net.d/10-kuberouter.conflist"} if "routing" in PLUGINS[name] else {}
        ),
    }
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert f"{variables['KUBE_ROUTER_PROC_SYS']}/net" in mounts


@every_pod
def test_what_the_agent_writes_is_on_volumes(name: str) -> None:
    options, container = options_of(name), agent(spec_of(name))
    writable = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
    for option in ("journal-dir", "control-socket"):
        path = options.text(option)
        assert any(path.startswith(f"{mount}/") for mount in writable), path


@every_pod
def test_probes_and_ports_are_where_the_agent_listens(name: str) -> None:
    options, container = options_of(name), agent(spec_of(name))
    ports = {each["name"]: (each["containerPort"], each["hostPort"]) for each in container["ports"]}
    assert ports == {
        "health": (options.number("health-port"),) * 2,
        "metrics": (options.number("metrics-port"),) * 2,
    }
    gets = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe: (each["path"], each["port"], each["host"]) for probe, each in gets.items()} == {
        "startupProbe": ("/healthz", 20244, "127.0.0.1"),
        "livenessProbe": ("/healthz", 20244, "127.0.0.1"),
        "readinessProbe": ("/readyz", 20244, "127.0.0.1"),
    }


@every_pod
def test_its_image_is_the_one_of_this_version_and_need_not_be_pulled(name: str) -> None:
    for container, each in containers(spec_of(name)).items():
        if not container.startswith("plugin-"):
            assert each["image"] == f"localhost/kube-router:{__version__}"
        assert each["imagePullPolicy"] == "IfNotPresent"


def test_the_static_pod_is_the_daemonsets_but_for_what_only_the_api_server_and_the_scheduler_know() -> None:
    wanted = dict(pod_spec(variant("with-kubeconfig")))
    for name in ("serviceAccountName", "nodeSelector", "tolerations"):
        del wanted[name]
    wanted["priority"] = 2000001000  # of system-node-critical
    pod = static_pod()
    assert pod["spec"] == wanted
    assert (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (NAMESPACE, NAME)
    assert pod["metadata"]["labels"] == {"k8s-app": "kube-router", "tier": "node"}


def test_no_manifest_is_without_a_word_of_what_it_is() -> None:
    for path in sorted(DEPLOY.glob("*/*/kustomization.yaml")):
        assert path.read_text().startswith("# "), path
        assert yaml.safe_load(path.read_text())["kind"] in ("Kustomization", "Component")


@every_pod
def test_the_agent_has_the_capabilities_that_its_plugins_state(name: str) -> None:
    stated: set[str] = set()
    for plugin in PLUGINS[name]:
        built = Bench(plugin).plugin
        assert isinstance(built, Firewall | Proxy | Routing)
        stated |= set(built.capabilities())
    assert stated <= set(agent(spec_of(name))["securityContext"]["capabilities"]["add"])
