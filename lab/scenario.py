"""What the demo does, told as JSON lines on stdout; demo.py shows them to people.

    python -m kube_router.lab.scenario FOLDER

    {"step": words}                           begins, takes a while
    {"check": what, "expected", "seen", "ok"} one thing that was looked at
    {"end": true}                             all steps are through

It runs where the kernel has ip_vs (in the VM, or right here) and imports nothing for people's eyes: an emulated CPU
takes seconds for that. The journal of node-1 is left in FOLDER/node-1, for ``kr replay`` on the other side.
"""

import json
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from kube_router.events.errors import KernelError
from kube_router.lab import cluster, netns, probe
from kube_router.lab.objects import Json
from kube_router.lab.servers import spread

NAME = "demo"
QUESTIONS = 30
SETTLE_S = 30
POLL_S = 0.3
CONNECTIONS_MAX = 9
REBOOT = "ipvsadm -C; ip link del kube-dummy-if; nft flush ruleset; ip route flush proto 75"


def deployment(name: str, replicas: int) -> Json:
    """Return a Deployment of pods that serve TCP and HTTP on 8080."""
    container = {"name": name, "ports": [{"name": "http", "containerPort": 8080}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def service(name: str, **more: object) -> Json:
    """Return the Service before a Deployment's pods."""
    port: Json = {"name": "http", "port": 80, "targetPort": "http"}
    if "type" in more:
        port["nodePort"] = 30080
    spec = {"selector": {"app": name}, "ports": [port], **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


POLICY: Json = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "shop"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "shop"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "http"}]}],
    },
}
OBJECTS = [deployment("web", 3), service("web"), deployment("shop", 3), service("shop", type="NodePort")]


def tell(**line: object) -> None:
    """Write one line of the story."""
    print(json.dumps(line), flush=True)


def check(what: str, *, expected: str, seen: str, ok: bool) -> None:
    """Tell one thing that was looked at."""
    tell(check=what, expected=expected, seen=seen, ok=ok)


def check_spread(what: str, counts: probe.Counts, names: tuple[str, ...]) -> None:
    """Tell whether all was answered, and evenly, by these and no others."""
    share = QUESTIONS // len(names)
    even = set(counts.answers) == set(names) and all(abs(n - share) <= 1 for n in counts.answers.values())
    problems = f"; {spread(counts.errors)}" if counts.errors else ""
    expected = spread(dict.fromkeys(names, share))
    check(what, expected=expected, seen=spread(counts.answers) + problems, ok=even and not counts.errors)


def settle(look: Callable[[], bool]) -> float:
    """Wait until something holds, at most SETTLE_S; return how long it took."""
    start = time.monotonic()
    while not look() and time.monotonic() - start < SETTLE_S * cluster.slowness():
        time.sleep(POLL_S)
    return time.monotonic() - start


def play(folder: Path) -> None:
    """Play all of it. The lab is removed at the end, whatever happens."""
    cluster.down(NAME)
    tell(step="three nodes, six pods and their cables, in network namespaces")
    plan = cluster.new_lab(NAME, nodes=3, agent_args=("--bgp-graceful-restart",))
    lab = cluster.Cluster.up(plan, OBJECTS, agents=False)
    try:
        tell(step="an agent on each node: manifests → journal → IPVS, nftables and BGP")
        lab.start_agents()
        _route(lab)
        _balance(lab)
        _remove_a_backend(lab)
        _close_by_policy(lab)
        _reboot_without_api(lab)
        journal = lab.agent("node-1").journal
        lab.agent("node-1").stop()
        shutil.copytree(journal, folder / "node-1", dirs_exist_ok=True)
    finally:
        cluster.down(NAME)
    tell(end=True)


def _route(lab: cluster.Cluster) -> None:
    tell(step="nobody gave the nodes a route to each other's pods: they tell each other by BGP")
    targets = {pod: f"{lab.address_of(pod)}:8080" for pod in ("web-2", "web-3")}
    took = settle(lambda: all(not lab.probe("web-1", target).errors for target in targets.values()))
    for pod, target in targets.items():
        counts = lab.probe("web-1", target, count=3)
        what = f"pod web-1 to pod {pod} on another node, {took:.1f} s later"
        check(what, expected=f"{pod} 3", seen=spread(counts.answers | counts.errors), ok=counts.answers == {pod: 3})


def _balance(lab: cluster.Cluster) -> None:
    web = ("web-1", "web-2", "web-3")
    tell(step=f"{QUESTIONS} TCP connections to a ClusterIP, and to a NodePort from outside of the cluster")
    check_spread(
        f"ClusterIP {lab.address_of('web')}:80, from node-1", lab.probe("node-1", "web:80", count=QUESTIONS), web
    )
    from_pod = lab.probe("web-1", "shop:80/http", count=QUESTIONS)
    shop = ("shop-1", "shop-2", "shop-3")
    check_spread(f"ClusterIP {lab.address_of('shop')}:80 (HTTP), from a pod", from_pod, shop)
    check_spread("NodePort node-2:30080, from outside", lab.probe("outside", "node-2:30080", count=QUESTIONS), shop)


def _remove_a_backend(lab: cluster.Cluster) -> None:
    tell(step="a backend is removed while a client holds a connection to another one")
    web = probe.target(f"{lab.address_of('web')}:80")
    with closing(netns.run_in(lab.machines.namespace_of("node-1"), partial(_hold, web, "web-1"))) as held:
        lab.scale("web", 2)
        took = settle(lambda: set(lab.probe("node-1", "web:80", count=3).answers) == {"web-1", "web-2"})
        counts = lab.probe("node-1", "web:80", count=QUESTIONS)
        check_spread(f"one of three backends removed, {took:.1f} s later", counts, ("web-1", "web-2"))
        held.sendall(b"who\n")
        answer = held.recv(100).decode().strip()
        check("the connection that was held", expected="web-1", seen=answer or "closed", ok=answer == "web-1")


def _hold(where: probe.Target, name: str) -> socket.socket:
    """Return an open connection that this pod answers. KernelError if it is not among the first few."""
    for _ in range(CONNECTIONS_MAX):
        connection = socket.create_connection((where.address, where.port), timeout=probe.TIMEOUT_S)
        connection.sendall(b"who\n")
        if connection.recv(100).decode().strip() == name:
            return connection
        connection.close()
    raise KernelError(f"{name} did not answer one of {CONNECTIONS_MAX} connections to {where}")


def _close_by_policy(lab: cluster.Cluster) -> None:
    shop, node_port = ("shop-1", "shop-2", "shop-3"), "node-2:30080"
    tell(step="a NetworkPolicy lets only the web pods reach the shop")
    lab.apply([POLICY])
    took = settle(lambda: bool(lab.probe("outside", node_port).errors))
    counts = lab.probe("outside", node_port, count=3)
    what = f"NodePort {node_port}, from outside, {took:.1f} s later"
    check(what, expected="refused 3", seen=spread(counts.answers | counts.errors), ok=counts.errors == {"refused": 3})
    check_spread("the shop's Service, from a web pod", lab.probe("web-1", "shop:80/http", count=QUESTIONS), shop)
    lab.delete("NetworkPolicy", "shop")
    settle(lambda: not lab.probe("outside", node_port, count=3).errors)
    check_spread("without the policy, from outside", lab.probe("outside", node_port, count=QUESTIONS), shop)


def _reboot_without_api(lab: cluster.Cluster) -> None:
    both = ("web-1", "web-2")
    tell(step="node-1's agent is killed with -9")
    lab.kill_agent("node-1")
    check_spread("agent dead: traffic goes on", lab.probe("node-1", "web:80", count=QUESTIONS), both)
    tell(step="its API is gone and the node reboots: an empty kernel, and the manifests are away")
    away = lab.folder.manifests.with_name("manifests.away")
    lab.folder.manifests.rename(away)
    lab.machines.run("node-1", ["sh", "-c", REBOOT])
    counts = lab.probe("node-1", "web:80", count=2)
    check("kernel empty: nobody answers", expected="no answer", seen=spread(counts.answers), ok=not counts.answers)
    tell(step="its agent starts again, with nothing but its journal")
    lab.agent("node-1").start()
    took = settle(lambda: set(lab.probe("node-1", "web:80", count=2).answers) == set(both))
    counts = lab.probe("node-1", "web:80", count=QUESTIONS)
    check_spread(f"ClusterIP is back from the journal, {took:.1f} s after the start", counts, both)
    counts = lab.probe("outside", "node-1:30080", count=QUESTIONS)
    check_spread("NodePort is back too, from outside", counts, ("shop-1", "shop-2", "shop-3"))
    counts = lab.probe("web-1", f"{lab.address_of('web-2')}:8080", count=3)
    seen = spread(counts.answers | counts.errors)
    check(
        "and so are the routes to other nodes' pods", expected="web-2 3", seen=seen, ok=counts.answers == {"web-2": 3}
    )


def main(words: list[str]) -> int:
    """Play into the folder named."""
    play(Path(words[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
