"""docs/bgp.md is true: its annotations, flags and samples are held against the code, its recipes against the programs.

What its commands print is of a lab; the words in it are looked for in the code that prints them.
"""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from kube_router.core.agent_options import option_groups
from kube_router.core.options import flag_values
from kube_router.core.registry import Registry
from kube_router.events.faults import Faults
from kube_router.events.model import Node
from kube_router.events.normalize_node import BFD_FIELDS, PASSWORD, PEER_FIELDS, normalize_node
from kube_router.plugins.routing import annotations, claims, external, settings, values
from kube_router.plugins.routing.bgp import caps, model, restart
from kube_router.plugins.routing.wanted import OVERHEAD

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bgp.md").read_text()
ROUTING = ROOT / "plugins" / "routing"
OURS = annotations.OURS


def blocks(language: str, after: str = "") -> list[str]:
    text = PAGE.partition(after)[2] if after else PAGE
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def every_annotation() -> set[str]:
    """Return the annotations that the plugin's source names, without the prefix."""
    constants = [value for room in (annotations, claims, external) for value in vars(room).values()]
    found = {value for value in constants if isinstance(value, str) and value.startswith(OURS) and value != OURS}
    text = "".join(path.read_text() for path in ROUTING.glob("*.py"))
    return {name.removeprefix(OURS) for name in found} | set(re.findall(r'OURS \+ "([\w.-]+)"', text))


@pytest.mark.parametrize("name", sorted(every_annotation()))
def test_every_annotation_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_every_annotation_on_the_page_is_one() -> None:
    tables = PAGE.split("\n## Annotations\n")[1].split("\n## ")[0]
    rows = [
        line.split(" | ")[0] for line in tables.splitlines() if line.startswith("| `") and "`kube-router" not in line
    ]
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == every_annotation()


def test_the_sample_of_peers_is_read_without_a_fault_and_shows_every_field() -> None:
    (text,) = blocks("yaml")
    listed = yaml.safe_load(text)
    assert {name for peer in listed for name in peer} == {*PEER_FIELDS, PASSWORD, "bfd"}
    assert {name for peer in listed for name in peer.get("bfd", ())} <= BFD_FIELDS
    assert annotated(peers=text) == ["172.30.0.2 65001 ''", "172.30.0.3 65003 's3cret'"]


def test_the_example_of_each_annotation_is_read_without_a_fault() -> None:
    table = PAGE.split("\n## Annotations\n")[1].split("\n\nOn the Service")[0]
    rows = (re.findall(r"`([^`]+)`", line) for line in table.splitlines() if line.startswith("| `"))
    examples = {row[0]: row[-1] for row in rows if not row[0].startswith("kube")}
    lists = {name: text for name, text in examples.items() if name.startswith("peer.")}
    assert annotated(**lists) == ["172.30.0.2 65001 ''", "172.30.0.3 65003 's3cret'"]
    assert annotated(peers=examples["peers"]) == ["172.30.0.2 65001 ''"]
    faults = Faults("Node", "node-1")
    node = Node(name="node-1", annotations={OURS + name: text for name, text in examples.items()})
    assert annotations.communities(node, faults).large == ((64512, 1, 2),)
    assert annotations.import_reject(node, faults)
    assert annotations.local_addresses(node, faults) == ("172.30.0.11", "fd30::b")
    assert annotations.node_asn(node, faults, consequence="") == 65101
    assert annotations.pod_cidrs(node, faults)
    assert annotations.prepend(node, faults) == (64512, 2)
    assert annotations.reflection(node, faults) == ("server", 42)
    assert faults.found() == ()


def annotated(**texts: str) -> list[str]:
    """Return the peers that annotations of these names yield, as the agent sees them."""
    secrets: dict[str, str] = {}

    def redact(text: str) -> str:
        return secrets.setdefault(text, f"digest-{len(secrets)}")

    written = {OURS + name: text for name, text in texts.items()}
    raw = yaml.safe_dump({"metadata": {"name": "node-1", "annotations": written}}).encode()
    found = normalize_node(to_json(raw), redact)
    faults = Faults("Node", "node-1")
    assert isinstance(found.obj, Node)
    known = {digest: text for text, digest in secrets.items()}
    peers = external.annotated_peers(found.obj, known.get, faults)
    assert (faults.found(), found.problems) == ((), ())
    return [f"{peer.address} {peer.asn} {peer.password!r}" for peer in peers]


def to_json(text: bytes) -> bytes:
    return json.dumps(yaml.safe_load(text)).encode()


# -- flags and figures -------------------------------------------------------------------------------------------------


def test_every_flag_on_the_page_exists() -> None:
    groups, _ = option_groups(Registry().options())
    known = {name for group in groups for option in group.options for name in (option.name, *option.aliases)}
    of_commands = {"in", "out", "peer", "route", "at", "from", "kind", "since", "plan", "blame", "diff", "overwrite"}
    written = set(re.findall(r"(?<![\w-])--([a-z][\w-]+)", PAGE))
    assert written - known - of_commands == set()


def test_the_flags_of_the_sample_are_understood() -> None:
    groups, _ = option_groups(Registry().options())
    (text,) = blocks("sh")
    program, command, *flags = text.split()
    assert (program, command) == ("kr", "run")
    assert flag_values(flags, [option for group in groups for option in group.options])


def test_the_overlay_s_share_of_the_mtu_is_as_the_table_says() -> None:
    for encapsulation in ("ipip", "fou", "vxlan"):
        shares = " / ".join(str(OVERHEAD[encapsulation, version]) for version in (4, 6))
        assert re.search(rf"^\| `{encapsulation}` \|.*\| {shares} \|", PAGE, re.MULTILINE)


def test_times_and_limits_on_the_page_are_those_of_the_code() -> None:
    defaults = settings.RoutingOptions()
    assert (defaults.bgp_graceful_restart_time_s, defaults.bgp_graceful_restart_deferral_s) == (90, 6 * 60)
    assert (model.PeerConfig(address="", asn=0, internal=True).hold_time_s, restart.QUIET_S) == (90, 10)
    assert (settings.DEFAULT_ASN, model.BGP_PORT, values.PASSWORD_BYTES_MAX) == (64512, 179, 80)
    ecmp = model.SpeakerConfig(asn=0, router_id=0).ecmp_max
    assert f"up to {ecmp} next hops" in PAGE
    assert caps.MESSAGE_MAX == 4096


@pytest.mark.parametrize(
    "words", re.findall(r"^\| `([^`]+)`", PAGE.split("\n## When something is wrong\n")[1], re.MULTILINE)
)
def test_what_the_troubleshooting_table_quotes_is_said_somewhere(words: str) -> None:
    sources = [*ROUTING.rglob("*.py"), *(ROOT / "cli").glob("*.py"), *(ROOT / "core").glob("*.py")]
    text = re.sub(r'"\s*f?"', "", "".join(path.read_text() for path in sources))
    said = [
        part.strip(" :()")
        for part in re.split(r"…| N |^N |'| \(|port 179|ipip|IPv4", words)
        if len(part.strip(" :()")) > 4
    ]
    assert said
    assert [part for part in said if part not in text] == []


# -- recipes -----------------------------------------------------------------------------------------------------------

BIRD, FRR = blocks("text", after="\n## The router on the other side\n")[:2]
(GOBGP,) = blocks("toml")


@pytest.mark.parametrize(
    ("package", "text", "command"),
    [
        pytest.param("bird2", BIRD, ["/usr/sbin/bird", "-p", "-c"], id="bird"),
        pytest.param("frr", FRR, ["/usr/lib/frr/bgpd", "-C", "-f"], id="frr"),
        pytest.param("gobgpd", GOBGP, ["/usr/bin/gobgpd", "-d", "-f"], id="gobgp"),
    ],
)
def test_a_recipe_is_understood_by_the_program_it_is_for(package: str, text: str, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}: apt-get install {package}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # FRR reads it as its own user
        file = Path(folder, "recipe.toml")
        file.write_text(text)
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, timeout=30, check=False)
    notes = "Graceful restart configuration changed, reset all peers to take effect\n"  # FRR, of every such file
    assert (done.returncode, done.stderr.replace(notes, "")) == (0, "")
