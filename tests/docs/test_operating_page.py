"""docs/operating.md and the plugins' pages are true: their tables and samples are held against the code."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from harness.exported import core_metrics, firewall_metrics, proxy_metrics, routing_metrics

from kube_router.core.agent_options import option_groups
from kube_router.core.options import Option, file_values
from kube_router.core.registry import Registry
from kube_router.events.journal import SEGMENT_AGE_MAX_MS, SEGMENT_BYTES_MAX, SIZE_MAX, SNAPSHOT_TAIL_MIN
from kube_router.events.sources.reflector import Timing
from kube_router.events.sources.servers import BACK_S, PORT_NAME, SERVICE
from kube_router.plugins.firewall.model import TABLE as FIREWALL_TABLE
from kube_router.plugins.firewall.options import OPTIONS as FIREWALL_OPTIONS
from kube_router.plugins.firewall.plugin import Firewall
from kube_router.plugins.proxy.options import OPTIONS
from kube_router.plugins.proxy.plugin import Proxy
from kube_router.plugins.proxy.render import SETS, TABLE
from kube_router.plugins.proxy.rtnetlink import DUMMY
from kube_router.plugins.proxy.takeover import CHAINS, IPSETS
from kube_router.plugins.routing import forward, model, nftables
from kube_router.plugins.routing import takeover as routing_takeover
from kube_router.plugins.routing.options import OPTIONS as ROUTING_OPTIONS
from kube_router.plugins.routing.plugin import Routing

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()
PROXY = (ROOT / "plugins" / "proxy" / "README.md").read_text()
FIREWALL = (ROOT / "plugins" / "firewall" / "README.md").read_text()
ROUTING = (ROOT / "plugins" / "routing" / "README.md").read_text()


def test_what_the_page_says_of_the_choice_of_an_api_server_is_so() -> None:
    text = " ".join(OPERATING.split("\n## Which API server\n", 1)[1].split("\n## ", 1)[0].split())
    assert f"may take {Timing().connect_next_s:g} s where there is another way" in text
    assert (BACK_S, "Every ten minutes one request tries the first" in text) == (600, True)
    assert f"`{SERVICE}`: ready ones, port `{PORT_NAME}`" in text


def rows(page: str, section: str) -> Iterator[list[str]]:
    """Return the cells of each row of the tables in one section of a page."""
    text = page.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names(page: str) -> set[str]:
    return {name for row in rows(page, "Metrics") for name in re.findall(r"`((?:kube_router|process)_\w+)`", row[0])}


def test_every_metric_that_is_exported_is_on_the_operators_page_and_no_other() -> None:
    of_plugins = proxy_metrics().keys() | firewall_metrics().keys() | routing_metrics().keys()
    assert names(OPERATING) == core_metrics().keys() | of_plugins


def test_every_metric_of_a_plugin_is_on_its_page_and_no_other() -> None:
    assert names(PROXY) == proxy_metrics().keys()
    assert names(FIREWALL) == firewall_metrics().keys()
    assert names(ROUTING) == routing_metrics().keys()


def test_the_labels_on_the_operators_page_are_those_of_the_core_s_metrics() -> None:
    found = core_metrics()
    documented = {
        name: set(re.findall(r"`(\w+)`", row[1]))
        for row in rows(OPERATING, "Metrics")
        for name in re.findall(r"`(\w+)`", row[0])
    }
    assert {name: documented[name] for name in found} == found


def test_the_labels_of_the_proxy_s_metrics_are_on_its_page() -> None:
    labels = set().union(*proxy_metrics().values())
    assert labels == {"svc_namespace", "service_name", "service_vip", "protocol", "port"}
    for page in (OPERATING, PROXY):
        assert [label for label in labels if f"`{label}`" not in page] == []


def test_the_labels_of_the_firewall_s_metrics_are_on_its_page() -> None:
    labels = set().union(*firewall_metrics().values())
    assert labels == {"policy_namespace", "policy_name", "direction"}
    for page in (OPERATING, FIREWALL):
        assert [label for label in labels if f"`{label}`" not in page] == []


def test_each_metric_of_routing_has_the_labels_that_its_page_says() -> None:
    found = {
        name: set(re.findall(r"`(\w+)`", row[1]))
        for row in rows(ROUTING, "Metrics")
        for name in re.findall(r"`(kube_router_\w+)`", row[0])
    }
    assert found == routing_metrics()
    assert [label for label in set().union(*found.values()) if f"`{label}`" not in OPERATING] == []


@pytest.mark.parametrize(
    ("page", "options", "switches"),
    [
        (PROXY, OPTIONS, {"run-proxy", "run-service-proxy"}),
        (FIREWALL, FIREWALL_OPTIONS, {"run-firewall"}),
        (ROUTING, ROUTING_OPTIONS, {"run-routing", "run-router"}),
    ],
    ids=["proxy", "firewall", "routing"],
)
def test_every_option_of_a_plugin_is_on_its_page(page: str, options: Sequence[Option], switches: set[str]) -> None:
    documented = {name for row in rows(page, "Options") for name in re.findall(r"--([\w-]+)", row[0])}
    assert documented == {*switches, *(option.name for option in options)}


@pytest.mark.parametrize(
    ("page", "plugin"),
    [(PROXY, Proxy), (FIREWALL, Firewall), (ROUTING, Routing)],
    ids=["proxy", "firewall", "routing"],
)
def test_every_kind_a_plugin_needs_is_on_its_page(page: str, plugin: type[Proxy | Firewall | Routing]) -> None:
    text = page.split("\n## Events it needs\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| ([A-Z]\w+) \|", text, re.MULTILINE)) == {kind.__name__ for kind in plugin.needs}


def test_the_firewall_s_table_is_named_on_its_page() -> None:
    assert f"inet {FIREWALL_TABLE}" in FIREWALL


@pytest.mark.parametrize("name", [DUMMY, f"inet {TABLE}", *SETS, *CHAINS.values(), *IPSETS])
def test_every_kernel_object_of_the_proxy_is_named_on_its_page(name: str) -> None:
    assert name.removeprefix("inet6:") in PROXY


@pytest.mark.parametrize(
    "name",
    [
        *(
            model.BRIDGE,
            model.VXLAN,
            model.VXLAN6,
            f"`{model.ALIAS}`",
            f"`inet {nftables.TABLE}`",
            f"`{forward.COMMENT}`",
        ),
        *(f"protocol number {model.PROTOCOL}", f"metric {model.METRIC}", f"priority {model.RULE_PRIORITY}"),
        *(f"VNI {model.VNI}", f"lookup {model.OVERLAY_TABLE}", routing_takeover.PODS, routing_takeover.NODES),
    ],
)
def test_every_kernel_object_of_routing_is_named_on_its_page(name: str) -> None:
    assert name in ROUTING


def test_a_tunnel_is_named_as_routing_s_page_says() -> None:
    assert "`tun-` and 11 hexadecimal digits, of the SHA-256 of the other end's address" in ROUTING
    assert model.tunnel_name("172.30.1.12") == "tun-52dcfe0cf7b"


def test_the_sizes_on_the_page_are_those_of_the_journal() -> None:
    mib = 1 << 20
    assert f"({SIZE_MAX // mib} MiB)" in OPERATING
    assert (16 * mib, 3_600_000, 16 * mib) == (SEGMENT_BYTES_MAX, SEGMENT_AGE_MAX_MS, SNAPSHOT_TAIL_MIN)
    assert "at most 16 MiB or one hour" in OPERATING
    assert "outweigh it twice (16 MiB at least)" in OPERATING


# -- samples -----------------------------------------------------------------------------------------------------------


def samples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", OPERATING, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def options() -> list[Option]:
    groups, _ = option_groups(Registry().options())
    return [option for group in groups for option in group.options]


def test_the_config_file_on_the_page_is_read(options: list[Option], tmp_path: Path) -> None:
    (text,) = [sample for sample in samples("yaml") if "journal-size" in sample]
    (tmp_path / "kube-router.yaml").write_text(text)
    assert file_values(tmp_path / "kube-router.yaml", options) == {
        "journal-size": 256 << 20,
        "metrics-port": 20241,
        "masquerade-all": False,
    }
