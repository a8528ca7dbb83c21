"""The operators' pages are true: what they name exists, what they show is accepted by the programs it is for."""

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from harness.exported import series
from harness.pages import anchors
from harness.promtool import promtool

from kube_router.cli import main
from kube_router.core.agent_options import option_groups
from kube_router.core.options import Option, flag_values
from kube_router.core.registry import Registry
from kube_router.plugins.firewall.model import TABLE as FIREWALL_TABLE
from kube_router.plugins.proxy.render import TABLE
from kube_router.plugins.routing import model, nftables

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMES = ("install", "migration", "monitoring", "operating", "security", "sizing", "troubleshooting", "upgrade")
PAGES = {name: (DOCS / f"{name}.md").read_text() for name in NAMES}
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
# Flags of kubectl, helm, ctr, kube-proxy and kube-router (Go).
OTHERS = {
    "cleanup", "clusterrole", "from-literal", "namespace", "previous", "set", "since", "user", "overwrite",
}  # fmt: skip

every_page = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(name="options", scope="module")
def _options() -> list[Option]:
    groups, _ = option_groups(Registry().options())
    return [option for group in groups for option in group.options]


def samples(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


def section(page: str, title: str) -> str:
    return PAGES[page].split(f"# {title}\n", 1)[1].split("\n## ", 1)[0]


# -- what is named exists ----------------------------------------------------------------------------------------------


def flags_of(command: click.Command) -> Iterator[str]:
    """Return the flags of one of kr's commands and of those below it."""
    yield from (flag.lstrip("-") for each in command.params for flag in (*each.opts, *each.secondary_opts))
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from flags_of(below)


def commands() -> dict[str, click.Command]:
    return {name: main._load(name, lazy.place) for name, lazy in main.COMMANDS.items()}


@every_page
def test_every_flag_exists(name: str, options: list[Option]) -> None:
    known = {flag for option in options for flag in (option.name, *option.aliases)}
    known |= {flag for command in commands().values() for flag in flags_of(command)}
    written = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", PAGES[name]))
    assert written - known - OTHERS - {"run-NAME"} == set()


@every_page
def test_every_command_exists(name: str) -> None:
    called = set(re.findall(r"(?:`|-- |^ {4}|\n)kr ([a-z]+)", PAGES[name]))
    assert called - main.COMMANDS.keys() == set()


@every_page
def test_every_file_of_deploy_is_there(name: str) -> None:
    named = re.findall(r"(?<![\w./])deploy/[\w./-]+", PAGES[name])
    assert [path for path in named if not (ROOT / path.rstrip(".")).exists()] == []


@every_page
def test_every_metric_is_exported(name: str) -> None:
    exported = series().keys()
    named = re.findall(r"`((?:kube_router|process)_\w+)(?:\{[^`]*)?`", PAGES[name])
    shorter = {each.removesuffix("_bucket") for each in exported}
    assert [metric for metric in named if metric not in exported | shorter] == []


@every_page
def test_every_alert_exists(name: str) -> None:
    assert set(re.findall(r"\bKubeRouter[A-Z]\w+", PAGES[name])) - ALERTS.keys() == set()


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_link_leads_to_a_heading_that_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text())
    targets = [(page.parent / file if file else page, anchor) for file, anchor in links if "://" not in file]
    assert [f"{file.name}#{anchor}" for file, anchor in targets if anchor not in anchors(file)] == []


def test_the_link_check_sees_headings_as_they_are_linked() -> None:
    found = anchors(DOCS / "troubleshooting.md")
    assert {"kuberouteragentdown", "by-symptom", "what-to-send"} <= found
    assert "kube-router-agent-down" not in found


# -- monitoring --------------------------------------------------------------------------------------------------------


def test_the_table_of_severities_is_that_of_the_alerts() -> None:
    rows = re.findall(r"^\| `(critical|warning|info)` \| (.*) \|$", PAGES["monitoring"], re.MULTILINE)
    told = {alert: severity for severity, names in rows for alert in re.findall(r"`(\w+)`", names)}
    assert told == {alert: rule["labels"]["severity"] for alert, rule in ALERTS.items()}


def test_prometheus_takes_the_scrape_configuration(tmp_path: Path) -> None:
    (text,) = [sample for sample in samples("monitoring", "yaml") if "scrape_configs" in sample]
    (dropped,) = [sample for sample in samples("monitoring", "yaml") if sample.startswith("metric_relabel_configs")]
    config = yaml.safe_load(text)
    config["scrape_configs"][0] |= yaml.safe_load(dropped)
    # Debian's Prometheus is built without Kubernetes' service discovery; the rest of the configuration is the same.
    assert config["scrape_configs"][0].pop("kubernetes_sd_configs") == [
        {"role": "pod", "namespaces": {"names": ["kube-system"]}}
    ]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "deploy" / "monitoring" / "alerts.yaml", tmp_path)
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_what_is_dropped_is_in_no_alert() -> None:
    (dropped,) = [sample for sample in samples("monitoring", "yaml") if sample.startswith("metric_relabel_configs")]
    pattern = re.compile(yaml.safe_load(dropped)["metric_relabel_configs"][0]["regex"])
    assert [name for name in series() if pattern.fullmatch(name)]
    asked = {name for rule in ALERTS.values() for name in re.findall(r"kube_router_\w+", rule["expr"])}
    assert [name for name in asked if pattern.fullmatch(name)] == []


def test_the_head_makes_a_prometheusrule_of_the_alerts() -> None:
    (script,) = [sample for sample in samples("monitoring", "sh") if "PrometheusRule" in sample]
    done = subprocess.run(
        ["bash", "-c", script.replace("| kubectl apply -f -", "")],
        capture_output=True, text=True, cwd=ROOT, timeout=30, check=True,
    )  # fmt: skip
    made = yaml.safe_load(done.stdout)
    assert (made["kind"], made["metadata"]["name"]) == ("PrometheusRule", "kube-router")
    assert {rule["alert"] for group in made["spec"]["groups"] for rule in group["rules"]} == ALERTS.keys()


def test_scraping_finds_the_pods_of_the_manifests() -> None:
    (monitor,) = [yaml.safe_load(sample) for sample in samples("monitoring", "yaml") if "PodMonitor" in sample]
    pod = yaml.safe_load((ROOT / "deploy/kustomize/base/daemonset.yaml").read_text())["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= ports


# -- installing, leaving -----------------------------------------------------------------------------------------------


def test_the_systemd_unit_starts_the_agent_with_flags_that_exist(options: list[Option]) -> None:
    (unit,) = samples("install", "ini")
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's keys have capitals
    parser.read_string(unit)
    program, command, *flags = shlex.split(parser["Service"]["ExecStart"])
    assert (program, command) == ("/opt/kube-router/bin/kr", "run")
    assert flag_values(flags, options) == {
        "kubeconfig": "/etc/kubernetes/kubelet.conf",
        "config": "/etc/kube-router.yaml",
    }


def test_the_variants_on_the_page_are_those_that_there_are() -> None:
    told = re.findall(r"^\| `deploy/kustomize/([\w-]+)` \|", PAGES["install"], re.MULTILINE)
    there = [path.parent.name for path in (ROOT / "deploy" / "kustomize").glob("*/kustomization.yaml")]
    assert sorted(told) == sorted(there)


def test_the_overlay_on_the_page_patches_the_agent_s_flags() -> None:
    (text,) = samples("install", "yaml")
    overlay = yaml.safe_load(text)
    assert [path for path in overlay["resources"] if not (ROOT / path / "kustomization.yaml").exists()] == []
    (patch,) = yaml.safe_load(overlay["patches"][0]["patch"])
    daemonset = yaml.safe_load((ROOT / "deploy/kustomize/base/daemonset.yaml").read_text())
    assert daemonset["spec"]["template"]["spec"]["containers"][0]["args"]
    assert patch["path"] == "/spec/template/spec/containers/0/args/-"
    assert overlay["patches"][0]["target"] == {"kind": daemonset["kind"], "name": daemonset["metadata"]["name"]}


def test_what_we_leave_is_removed_by_the_commands_on_the_page() -> None:
    (script,) = samples("migration", "sh")
    for table in (TABLE, FIREWALL_TABLE, nftables.TABLE):
        assert f"nft delete table inet {table}\n" in script
    for program in ("ip", "ip -6"):
        assert f"\n{program} route flush proto {model.PROTOCOL}\n" in script


# -- kr status ---------------------------------------------------------------------------------------------------------


def test_the_sample_of_a_phone_is_what_is_printed_there() -> None:
    (sample,) = re.findall(r"^ {4}\$ kubectl .* -- kr status\n((?: {4}.*\n)+)", PAGES["operating"], re.MULTILINE)
    printed = (ROOT / "tests" / "golden" / "cli" / "status-journal-40.txt").read_text().splitlines()
    shown = [line.removeprefix("    ") for line in sample.splitlines()]
    assert shown == printed[: len(shown)]


@pytest.mark.parametrize("state", ["in sync", "presumed from the journal", "backing off", "waiting for the first list"])
def test_every_state_of_a_plugin_is_among_the_first_lines(state: str) -> None:
    assert state in (ROOT / "core" / "runner.py").read_text()
    assert re.search(rf"^\| `[^`]*{state}[^`]*` \|", section("operating", "kr status"), re.MULTILINE)


# -- security ----------------------------------------------------------------------------------------------------------


def containers() -> list[dict[str, Any]]:
    pod = yaml.safe_load((ROOT / "deploy/kustomize/base/daemonset.yaml").read_text())["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def test_the_capabilities_on_the_page_are_those_of_the_manifests() -> None:
    told: dict[str, set[str]] = {}
    container = ""
    for first, second in re.findall(
        r"^\| (?:`([\w-]+)`[^|]*|)\s*\| `([A-Z_]+)` \|",
        section("security", "What runs with which rights"),
        re.MULTILINE,
    ):
        container = first or container
        told.setdefault(container, set()).add(second)
    assert told == {each["name"]: set(each["securityContext"]["capabilities"]["add"]) for each in containers()}


def test_nothing_in_the_manifests_may_more_than_the_page_says() -> None:
    for container in containers():
        context = container["securityContext"]
        assert (context["privileged"], context["allowPrivilegeEscalation"]) == (False, False)
        assert (context["readOnlyRootFilesystem"], context["capabilities"]["drop"]) == (True, ["ALL"])


def test_the_paths_of_the_host_on_the_page_are_those_of_the_manifests() -> None:
    pod = yaml.safe_load((ROOT / "deploy/kustomize/base/daemonset.yaml").read_text())["spec"]["template"]["spec"]
    mounted = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    table = section("security", "What runs with which rights").split("| path |")[1]
    assert set(re.findall(r"`(/[\w./-]+)`", table.split("\n\n")[0])) == mounted


# -- troubleshooting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    re.findall(r"^\| `([^`]+)`(?: in the log| at start)? \|", section("troubleshooting", "By symptom"), re.MULTILINE),
)
def test_what_the_table_of_symptoms_quotes_is_said_somewhere(words: str) -> None:
    rooms = ("core", "events", "plugins", "cli")
    text = "".join(path.read_text() for room in rooms for path in (ROOT / room).rglob("*.py"))
    text = re.sub(r'"\s*f?"', "", text)
    parts = [part.strip(" :") for part in re.split(r"…| for |='[^']*'|=", words) if len(part.strip(" :")) > 3]
    assert parts
    assert [part for part in parts if part not in text] == []
