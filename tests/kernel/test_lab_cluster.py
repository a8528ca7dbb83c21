"""A lab's machines on this kernel: namespaces, cables, pods and their servers, without any agent."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.machine import until

from kube_router.events.errors import ConfigError, KernelError
from kube_router.lab import agents, cluster, netns, probe, servers
from kube_router.lab.objects import Json
from kube_router.lab.store import LabFolder
from kube_router.lab.topology import IPV4, IPV6

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]
NAME = f"t{os.getpid()}"
PORTS = [{"containerPort": 8080}, {"containerPort": 5353, "protocol": "UDP"}]


def deployment(replicas: int, name: str = "web") -> Json:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "ports": PORTS}]}}
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas, "template": template}}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[cluster.Cluster]:
    monkeypatch.setenv("KR_LAB_DIR", str(tmp_path))
    objects = [deployment(4)]
    plan = cluster.new_lab(NAME, objects, nodes=2, subnets=2, families=(IPV4, IPV6), plugins=())
    yield cluster.Cluster.up(plan, objects, agents=False)
    cluster.down(NAME)


@pytest.mark.parametrize("place", ["outside", "node-1", "web-1"])
def test_every_pod_answers_from_everywhere_over_each_protocol_and_family(lab: cluster.Cluster, place: str) -> None:
    for pod in lab.machines.pods.values():
        name = servers.spoken_name(pod.key)
        for ip in pod.ips:
            host = f"[{ip}]" if ":" in ip else ip
            for port in ("8080", "8080/http", "5353/udp"):
                assert lab.probe(place, f"{host}:{port}", count=2) == probe.Counts({name: 2}, {})


def test_a_pod_says_from_which_address_it_is_asked(lab: cluster.Cluster) -> None:
    other = lab.machines.pods["default/web-2"]
    assert other.node == "node-2"
    for target in (f"{other.ips[0]}:8080", f"{other.ips[0]}:8080/http", f"{other.ips[0]}:5353/udp"):
        assert lab.probe("web-1", target, question="client").answers == {"10.244.1.2": 1}


def test_what_goes_wrong_is_counted_by_a_word(lab: cluster.Cluster) -> None:
    pod = lab.machines.pods["default/web-1"]
    assert lab.probe("outside", f"{pod.ips[0]}:81", count=2).errors == {"refused": 2}
    assert lab.probe("outside", "203.0.113.1:80").errors == {"unreachable": 1}
    assert probe.probe(probe.target("127.0.0.1:9/udp"), namespace=lab.topology.outside).errors == {"refused": 1}


def test_pods_come_and_go_and_the_others_keep_their_connections(lab: cluster.Cluster) -> None:
    stays = lab.machines.pods["default/web-1"]
    connection = netns.run_in(lab.topology.outside, lambda: socket.create_connection((stays.ips[0], 8080), timeout=5))
    with connection:
        lab.scale("web", 1)
        reopened = cluster.Cluster.open(NAME)
        assert list(reopened.machines.pods) == ["default/web-1"]
        reopened.scale("web", 3)
        connection.sendall(b"who\n")
        assert connection.recv(100) == b"web-1\n"
    assert set(reopened.machines.pods) == {"default/web-1", "default/web-2", "default/web-3"}
    assert reopened.probe("node-1", "10.244.2.2:8080").answers == {"web-2": 1}


def test_the_manifests_are_what_the_controllers_derived(lab: cluster.Cluster) -> None:
    before = {path.name: path.read_bytes() for path in lab.folder.manifests.iterdir()}
    assert sorted(before) == [
        "namespace.default.yaml",
        "node.node-1.yaml",
        "node.node-2.yaml",
        *(f"pod.default.web-{number}.yaml" for number in (1, 2, 3, 4)),
    ]
    cluster.Cluster.open(NAME).apply([])
    assert {path.name: path.read_bytes() for path in lab.folder.manifests.iterdir()} == before


def test_a_lab_is_not_built_twice_and_places_it_has_not_are_named(lab: cluster.Cluster) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        cluster.Cluster.up(lab.lab, [])
    with pytest.raises(ConfigError, match="has no web-9; there are outside, node-1, node-2, web-1"):
        lab.probe("web-9", "10.0.0.1:1")


def test_down_removes_ours_and_only_ours_even_with_processes_inside(lab: cluster.Cluster, tmp_path: Path) -> None:
    foreign = f"kr-{NAME}x-node-1"
    netns.add([foreign])
    try:
        inside = agents.spawn(["ip", "netns", "exec", lab.topology.outside, "sleep", "60"], log=tmp_path / "log")
        until(lambda: netns.is_in(inside, lab.topology.outside), what="the process to be inside")
        ours = len([name for name in netns.names() if name.startswith(f"kr-{NAME}-")])
        assert cluster.down(NAME) == ours == 8
        assert {name for name in netns.names() if name.startswith(f"kr-{NAME}")} == {foreign}
        assert not Path(f"/proc/{inside}").exists()
        assert cluster.down(NAME) == 0
    finally:
        netns.remove([foreign])


def test_what_a_crash_left_half_built_is_removed_by_the_next_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KR_LAB_DIR", str(tmp_path))
    netns.add([f"kr-{NAME}-fabric", f"kr-{NAME}-pod.default.old"])
    try:
        lab = cluster.Cluster.up(cluster.new_lab(NAME, nodes=1, plugins=()), [deployment(1)], agents=False)
        assert f"kr-{NAME}-pod.default.old" not in netns.names()
        assert lab.probe("node-1", "10.244.1.2:8080").answers == {"web-1": 1}
    finally:
        cluster.down(NAME)


def test_a_failing_line_of_ip_is_named() -> None:
    with pytest.raises(KernelError, match="link set nowhere up"):
        netns.ip_batch(["link show lo", "link set nowhere up"])


def test_a_lab_that_cannot_be_read_can_still_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KR_LAB_DIR", str(tmp_path))
    folder = LabFolder(NAME)
    folder.path.mkdir(parents=True)
    (folder.path / "lab.json").write_text("{")
    with pytest.raises(ConfigError, match="kr lab down removes the lab"):
        folder.load()
    cluster.down(NAME)
    assert not folder.path.exists()


def test_a_process_that_ignores_the_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    pid = agents.spawn(["sh", "-c", "trap '' TERM; sleep 60 & wait; wait"], log=tmp_path / "log")
    netns.end([pid], number=signal.SIGTERM, grace_s=0.2)
    assert not Path(f"/proc/{pid}").exists()
