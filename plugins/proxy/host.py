"""The node around IPVS: its netlink family, kube-dummy-if, sysctls, /proc (I/O).

Sysctls are the network namespace's own. They are set where they differ, and counted; one that is missing is told, not
fatal. ``rp_filter`` is only loosened where it is exactly 1: 0 and 2 let the replies of a service through already, and
are somebody's choice.
"""

import errno
import logging
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kube_router.core import modules, nlmsg, sysctl
from kube_router.core.bridge import prepare_bridge
from kube_router.core.netlink import NETLINK_GENERIC, Netlink
from kube_router.core.sysctl import ROOT
from kube_router.events.errors import KernelError
from kube_router.plugins.proxy import ipvs, rtnetlink
from kube_router.plugins.proxy.rtnetlink import DUMMY

logger = logging.getLogger(__name__)

FAMILIES = (nlmsg.AF_INET, nlmsg.AF_INET6)
SYSCTLS = {
    "net/ipv4/vs/conntrack": "1",  # our table's rules look at the connection's tuple
    "net/ipv4/vs/expire_nodest_conn": "1",  # a removed server's connections end with the next packet
    "net/ipv4/vs/expire_quiescent_template": "1",  # persistence does not lead to a server of weight 0
    "net/ipv4/vs/conn_reuse_mode": "0",  # a client that reuses its port keeps its server, without a second's delay
    "net/ipv4/conf/all/arp_ignore": "1",  # no node answers for a service address on its other interfaces,
    "net/ipv4/conf/all/arp_announce": "2",  # nor asks in the name of one
}
STRICT, LOOSE = "1", "2"
NO_IPVS = f"the kernel has no IPVS: {modules.remedy('ip_vs')}"


@contextmanager
def ipvs_link() -> Iterator[tuple[Netlink, ipvs.Packer]]:
    """Yield a socket to IPVS and the packer for it; the kernel loads the module if it has one.

    Raises ``KernelError`` where the kernel has no IPVS.
    """
    with Netlink(NETLINK_GENERIC) as link:
        try:
            family = link.family(ipvs.FAMILY)
        except KernelError as e:
            if e.errno != errno.ENOENT:
                raise
            raise KernelError(NO_IPVS, e.errno) from e
        yield link, ipvs.Packer(family)


def read_ip_vs() -> list[str]:
    """Return the lines of this namespace's /proc/net/ip_vs."""
    try:
        with open("/proc/thread-self/net/ip_vs", encoding="ascii", buffering=1 << 20) as table:
            return table.readlines()
    except OSError as e:
        raise KernelError(f"cannot read /proc/net/ip_vs: {e.strerror}", e.errno or 0) from e


def interface_index(name: str) -> int:
    """Return an interface's index, 0 where there is none of this name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def make_dummy(link: Netlink) -> int:
    """Make kube-dummy-if, and set it up; return how many writes that took."""
    index = interface_index(DUMMY)
    if index and any(map(rtnetlink.is_up, link.request(rtnetlink.get_link(index)))):
        return 0
    failures = link.write([rtnetlink.set_up(index) if index else rtnetlink.add_dummy()])
    if failures:
        raise KernelError(f"cannot make the interface {DUMMY}: {failures[0]}", failures[0].errno)
    logger.info(f"interface_set_up name={DUMMY} new={not index}")
    return 1


def interfaces_with(link: Netlink, addresses: Iterable[str]) -> list[str]:
    """Return the names of the interfaces that have one of the addresses."""
    wanted = set(addresses)
    found: dict[str, None] = {}
    for family in FAMILIES if wanted else ():
        for address, index in rtnetlink.parse_addresses(link.dump(rtnetlink.get_addresses(family)), family):
            if address in wanted:
                found[socket.if_indextoname(index)] = None
    return list(found)


def write_sysctls(interfaces: Iterable[str], *, root: Path = ROOT) -> tuple[int, list[str]]:
    """Return how many sysctls were written, the bridge's among them, and in words which are missing or refused."""
    written, troubles = sysctl.write_sysctls(SYSCTLS, root=root)
    at_bridge, of_bridge = prepare_bridge(root=root)
    for interface in interfaces:
        name = f"net/ipv4/conf/{interface}/rp_filter"
        try:
            if (root / name).read_text().strip() == STRICT:
                written += sysctl.write_sysctl(root / name, LOOSE)
        except FileNotFoundError:
            continue  # an interface that is not there needs no filter loosened
        except OSError as e:
            troubles.append(sysctl.trouble(name, LOOSE, e))
    return written + at_bridge, troubles + of_bridge
