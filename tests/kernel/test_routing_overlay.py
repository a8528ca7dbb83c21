"""Pods of two subnets talk through tunnels that the network between them knows nothing of: ipip, ip6tnl, and FoU."""

import signal
from functools import partial

import pytest
from harness.machine import until
from harness.routinglab import Routed, routed
from harness.zygote import Zygote

pytestmark = [pytest.mark.guest, pytest.mark.timeout(60)]


def test_pods_talk_through_tunnels_in_packets_as_large_as_they_send() -> None:
    with routed("rtun", nodes=2, subnets=2, agents=False) as lab, Zygote() as zygote:
        start(lab, zygote, "--overlay-encap=ipip")
        pods_talk(lab, kinds=("ipip remote 172.30.1.12", "ip6tnl ip6ip6 remote fd30:0:0:1::c"), mtu=1460)
        for agent in lab.lab.agents.values():
            agent.stop(signal.SIGKILL)
        start(lab, zygote, "--overlay-encap=fou")  # in place: one and the same device becomes the other
        pods_talk(lab, kinds=("encap gue encap-sport auto encap-dport 5555",) * 2, mtu=1448)


def start(lab: Routed, zygote: Zygote, flag: str) -> None:
    """Start the agents of all nodes with one flag more, by forking: all they import takes long in the VM."""
    for agent in lab.lab.agents.values():
        agent.journal.mkdir(parents=True, exist_ok=True, mode=0o700)
        agent.cni.parent.mkdir(exist_ok=True)
        flags = agent.argv()[agent.argv().index("run") + 1 :]
        environ = {"KUBE_ROUTER_CNI_CONF_FILE": str(agent.cni)}
        pid = zygote.start([*flags, flag], netns=agent.namespace, log=agent.log, environ=environ)
        (agent.folder / "agent.pid").write_text(f"{pid}\n")
        until(agent.pid, what=f"the agent of {agent.node} to enter its node")
    for node in lab.nodes:
        lab.lab.wait_for_agent(node)


def pods_talk(lab: Routed, *, kinds: tuple[str, str], mtu: int) -> None:
    """See that they do in both families, through tunnels of these kinds; ``mtu`` is what is left to them."""
    for node in lab.nodes:
        until(partial(tunnels, lab, node), what=f"routes of {node}", timeout_s=20)
    until(partial(told_mtu, lab, mtu), what=f"an MTU of {mtu}")
    for kind, name in zip(kinds, ("ipip", "ip6tnl"), strict=True):
        found = lab.run("node-1", f"ip -d link show type {name}")
        assert kind in found, found
    for pod in lab.pods:
        lab.run(pod, f"ip link set eth0 mtu {mtu}")
    for family, header in ((4, 28), (6, 48)):
        assert lab.pings("x/a", "x/b", family=family, size=mtu - header), f"IPv{family}"
    lab.reach.expect("80/tcp", "    x/a x/b\nx/a . .\nx/b . .")


def tunnels(lab: Routed, node: str) -> bool:
    hops = [hop.split()[-1] for route in lab.routes(node) for hop in route.hops]
    return len(hops) == 2 and all(hop.startswith("tun-") for hop in hops)


def told_mtu(lab: Routed, mtu: int) -> bool:
    """Return whether the nodes tell their pods this MTU."""
    told = {plugin["mtu"] for node in lab.nodes for plugin in lab.cni(node)["plugins"] if "mtu" in plugin}
    return told == {mtu}
