"""The node around the routes: kube-bridge, forwarding, and filters that would drop what is routed (I/O).

Forwarding turns a host into a router, and a router takes no router advertisements unless told so (``accept_ra`` 2):
a node whose IPv6 default route was advertised would lose it when that runs out. So a link that takes them now, being a
node's or having such a route, is told first. kube-bridge is not: a pod must not be able to advertise itself.

``rp_filter`` counts as the greater of the interface's own and ``all``. Where that is 1 (strict), replies that come in
by another link than the one they would leave by are dropped; the interface's own is made 2 (loose). 0 and 2 are left.

A sysctl that is not there is not needed: IPv6 may be compiled out, an interface may be gone. Interfaces, and so
sysctls, are the calling thread's network namespace's. Blocking, for the plugin's worker thread.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from kube_router.core import nlmsg
from kube_router.core.bridge import prepare_bridge
from kube_router.core.netlink import NETLINK_ROUTE, Netlink
from kube_router.core.sysctl import ROOT, trouble, write_sysctl
from kube_router.events.errors import KernelError
from kube_router.plugins.routing import inherited, rtlink, rtnetlink
from kube_router.plugins.routing.bgp.model import Family
from kube_router.plugins.routing.model import BRIDGE, TUNNEL_NAME, VXLAN, VXLAN6
from kube_router.plugins.routing.rtlink import Link

logger = logging.getLogger(__name__)

FORWARD4, FORWARD6, DISABLED6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/all/disable_ipv6"
STRICT, LOOSE = "1", "2"


def prepare(
    links: Iterable[str], *, families: Collection[Family], bridge_mtu: int = 0, root: Path = ROOT
) -> tuple[Counter[str], list[str]]:
    """Make kube-bridge and set sysctls; return the writes that took, and in words what stayed undone.

    ``links`` are the interfaces that have the node's addresses; ``bridge_mtu`` 0 leaves the MTU as it is. Raises
    ``KernelError`` where the kernel does not answer.
    """
    named = list(links)
    with Netlink(NETLINK_ROUTE) as link:
        changes, troubles = _make_bridge(link, bridge_mtu)
        routers = _taught_by_routers(link) if Family.IPV6 in families else []
    sysctls = _Sysctls(root)
    if Family.IPV4 in families:
        sysctls.set(FORWARD4, "1")
    if Family.IPV6 in families:
        sysctls.set(DISABLED6, "0")
        sysctls.keep_routes_of([*named, *routers])
        sysctls.set(FORWARD6, "1")
    sysctls.loosen([BRIDGE, *named, *_tunnels(root)])
    written, missing = prepare_bridge(root=root)
    changes["sysctl set"] += sysctls.written + written
    return +changes, [*troubles, *sysctls.troubles, *missing]


def loosen(links: Iterable[str], *, root: Path = ROOT) -> tuple[int, list[str]]:
    """Make strict reverse path filters loose, as for a tunnel that was just made; return as ``prepare`` does."""
    sysctls = _Sysctls(root)
    sysctls.loosen(links)
    return sysctls.written, sysctls.troubles


def bridge_mtu() -> int:
    """Return the MTU that kube-bridge has, 0 where there is none. Raises ``KernelError``."""
    with Netlink(NETLINK_ROUTE) as link:
        return next((each.mtu for each in _links(link) if each.name == BRIDGE), 0)


def _links(link: Netlink) -> list[Link]:
    return [rtlink.parse_link(body) for body in link.dump(rtlink.get_links())]


def _make_bridge(link: Netlink, mtu: int) -> tuple[Counter[str], list[str]]:
    """Make kube-bridge be there, up and of this MTU, each where it is not."""
    there = next((each for each in _links(link) if each.name == BRIDGE), None)
    wanted: list[tuple[str, bytes]] = []
    if there is None:
        wanted.append(("interface added", rtlink.add_bridge(BRIDGE, mtu)))
    else:
        if not there.up:
            wanted.append(("interface set up", rtlink.set_up(there.ifindex)))
        if mtu and there.mtu != mtu:
            wanted.append(("MTU set", rtlink.set_mtu(there.ifindex, mtu)))
    failures = {failure.at: failure for failure in link.write([request for _, request in wanted])}
    done = [what for at, (what, _) in enumerate(wanted) if at not in failures]
    if done:
        logger.info("bridge_prepared name=%s mtu=%d what=%r", BRIDGE, mtu, ", ".join(done))
    troubles = [f"{BRIDGE}: {wanted[at][0]} (MTU {mtu}): {failure}" for at, failure in failures.items()]
    return Counter(done), troubles


def _taught_by_routers(link: Netlink) -> list[str]:
    """Return the interfaces, but for kube-bridge, that have a default route which a router advertised."""
    try:
        through = inherited.advertised(link.dump(rtnetlink.get_routes(nlmsg.AF_INET6, rtnetlink.EVERY_PROTOCOL)))
    except KernelError as error:  # a kernel without IPv6
        logger.debug("routes_not_read error=%r", str(error))
        return []
    return [each.name for each in _links(link) if each.ifindex in through and each.name != BRIDGE] if through else []


def _tunnels(root: Path) -> list[str]:
    names = (path.name for path in (root / "net/ipv4/conf").glob("*"))
    return sorted(name for name in names if name in (VXLAN, VXLAN6) or TUNNEL_NAME.fullmatch(name))


class _Sysctls:
    """Sysctls under a root, read and written where they are there; what was refused is told in words."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.written = 0
        self.troubles: list[str] = []

    def set(self, name: str, value: str) -> None:
        try:
            self.written += write_sysctl(self._root / name, value)
        except FileNotFoundError:
            return
        except OSError as error:
            self.troubles.append(trouble(name, value, error))

    def keep_routes_of(self, links: Iterable[str]) -> None:
        """Let those links that take router advertisements go on doing so when they forward."""
        for name in dict.fromkeys(links):
            of = f"net/ipv6/conf/{name}"
            if self._value(f"{of}/accept_ra") == "1" and self._value(f"{of}/forwarding") == "0":
                self.set(f"{of}/accept_ra", "2")

    def loosen(self, links: Iterable[str]) -> None:
        for_all = self._value("net/ipv4/conf/all/rp_filter")
        for name in dict.fromkeys(links):
            own = f"net/ipv4/conf/{name}/rp_filter"
            value = self._value(own)
            if value and max(value, for_all) == STRICT:
                self.set(own, LOOSE)

    def _value(self, name: str) -> str:
        """Return a sysctl's value, "" where it is not there or cannot be read."""
        try:
            return (self._root / name).read_text().strip()
        except OSError:
            return ""
