"""The Helm chart says what the manifests say, and refuses values that mean nothing."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from harness.deploying import NAME, VARIANTS, Objects, agent, containers, pod_spec, variant
from harness.helm import CHART, CLUSTER, Values, helm, template

from kube_router import __version__

pytestmark = pytest.mark.timeout(900)  # the first one builds helm

OFF = {"firewall": False, "router": False, "serviceProxy": False}
VALUES: Mapping[str, Values] = {
    "base": {},
    "firewall-only": {"features": {**OFF, "firewall": True}},
    "proxy-only": {"features": {**OFF, "serviceProxy": True}},
    "router-only": {"features": {**OFF, "router": True}},
    "with-kubeconfig": {"kubeconfig": "/var/lib/kube-router/kubeconfig"},
    "without-kube-proxy": {"master": "https://control-plane.example:6443"},
    "base-with-names": {"plugins": [{"name": "names", "image": "localhost/kube-router-names:1.0.0"}]},
}
HELMS_LABELS = {"helm.sh/chart": "kube-router-3.0.0-dev0", "app.kubernetes.io/managed-by": "Helm"}


def without_helms_labels(objects: Objects) -> Objects:
    """Return the objects as others write them. Each has Helm's labels, on itself only."""
    found = {}
    for key, each in objects.items():
        labels = each["metadata"]["labels"]
        assert {name: labels[name] for name in HELMS_LABELS} == HELMS_LABELS
        kept = {name: value for name, value in labels.items() if name not in HELMS_LABELS}
        metadata = {name: value for name, value in each["metadata"].items() if name != "labels"}
        found[key] = {**each, "metadata": metadata | ({"labels": kept} if kept else {})}
    return found


def unordered(value: Any, *, field: str = "") -> Any:
    """Return the value with its lists in one order, but for a command, whose words have theirs."""
    if isinstance(value, Mapping):
        return {name: unordered(each, field=name) for name, each in value.items()}
    if isinstance(value, list) and field != "command":
        return sorted(map(unordered, value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


def test_there_are_values_for_every_variant() -> None:
    assert set(VALUES) == set(VARIANTS)


@pytest.mark.parametrize("name", VALUES)
def test_its_objects_are_those_of_the_variant(name: str) -> None:
    made = {key: unordered(each) for key, each in without_helms_labels(template(VALUES[name])).items()}
    assert made == {key: unordered(each) for key, each in variant(name).items()}


@pytest.mark.parametrize("name", VALUES)
def test_helm_has_nothing_to_say_against_it(name: str) -> None:
    done = helm("lint", "--strict", "--quiet", str(CHART), CLUSTER, values=VALUES[name])
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_its_version_is_the_agents_as_helm_writes_versions() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == ("3.0.0-dev0", "3.0.0.dev0")
    assert chart["appVersion"] == __version__


def test_the_image_of_another_registry_is_that_of_every_container_of_ours() -> None:
    spec = pod_spec(template({"image": {"repository": "registry.example/net/kube-router", "tag": "3.1.0"}}))
    assert {each["image"] for each in containers(spec).values()} == {"registry.example/net/kube-router:3.1.0"}


def test_other_ports_are_flags_ports_and_probes_alike() -> None:
    container = agent(pod_spec(template({"healthPort": 30244, "metrics": {"port": 30241}})))
    assert {"--health-port=30244", "--metrics-port=30241"} <= set(container["args"])
    assert [each["containerPort"] for each in container["ports"]] == [30244, 30241]
    probes = [container[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert [each["httpGet"]["port"] for each in probes] == [30244, 30244, 30244]


def test_without_metrics_no_port_is_taken_for_them() -> None:
    made = template({"metrics": {"port": 0, "podMonitor": {"enabled": True}}})
    container = agent(pod_spec(made))
    assert "--metrics-port=0" in container["args"]
    assert [each["name"] for each in container["ports"]] == ["health"]
    assert not [kind for kind, _ in made if kind == "PodMonitor"]


def test_flags_rights_and_resources_of_the_operator_come_besides() -> None:
    rule = {"apiGroups": ["example.org"], "resources": ["widgets"], "verbs": ["get", "list", "watch"]}
    limits = {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}
    made = template({"extraArgs": ["--cluster-asn=64513"], "extraRules": [rule], "resources": limits})
    assert agent(pod_spec(made))["args"][-1] == "--cluster-asn=64513"
    assert rule in made["ClusterRole", NAME]["rules"]
    assert agent(pod_spec(made))["resources"] == {
        "requests": {"cpu": "1", "memory": "150Mi"},
        "limits": {"memory": "2Gi"},
    }


def test_a_pod_monitor_scrapes_the_pods_that_there_are() -> None:
    made = template({"metrics": {"podMonitor": {"enabled": True, "labels": {"release": "monitoring"}}}})
    monitor, daemonset = made["PodMonitor", NAME], made["DaemonSet", NAME]
    assert monitor["metadata"]["labels"]["release"] == "monitoring"
    assert monitor["spec"]["selector"] == daemonset["spec"]["selector"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in agent(pod_spec(made))["ports"]}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        pytest.param({"feature": {}}, "feature", id="unknown"),
        pytest.param({"features": {"routing": True}}, "routing", id="unknown feature"),
        pytest.param({"features": {"router": "yes"}}, "router", id="no switch"),
        pytest.param({"extraArgs": ["--run-firewall=false"]}, "extraArgs", id="a switch that belongs elsewhere"),
        pytest.param({"extraArgs": ["cluster-asn=1"]}, "extraArgs", id="no flag"),
        pytest.param({"kubeconfig": "/etc/kubernetes/kubelet.conf"}, "kubeconfig", id="a file the pod does not see"),
        pytest.param({"master": "https://me:secret@example:6443"}, "master", id="credentials"),
        pytest.param({"metrics": {"port": 65536}}, "port", id="no port"),
        pytest.param(
            {"extraRules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}]}, "verbs", id="a write"
        ),
        pytest.param({"plugins": [{"name": "names"}]}, "image", id="a plugin of no image"),
    ],
)
def test_values_that_mean_nothing_are_refused_by_name(values: Values, named: str) -> None:
    done = helm("template", "kube-router", str(CHART), CLUSTER, values=values)
    assert done.returncode != 0
    assert named in done.stderr


def test_every_value_has_a_place_in_the_schema_and_a_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)  # helm itself adds global


def test_its_page_names_every_value_and_the_chart_takes_its_example() -> None:
    page = (CHART / "README.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [*values]
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    container = agent(pod_spec(template(yaml.safe_load(example))))
    assert container["image"] == f"registry.example/kube-router:{__version__}"
    assert container["args"][-2:] == ["--master=https://control-plane.example:6443", "--cluster-asn=64513"]
