"""Notice when somebody else takes away what is ours: service addresses, their routes, kube-dummy-if, our table.

rtnetlink and nftables tell of every change, also of our own. Ours are told apart by when they come: the kernel
notifies before a change is acknowledged, so what has come when our writes return was, or may have been, ours, and is
dropped. IPVS tells nothing; what happens to it is found at the next full comparison (``--ipvs-sync-period``).
"""

import logging
from collections.abc import Callable

import anyio

from kube_router.core import nlmsg
from kube_router.core.monitor import OVERRUN, Monitor, Notification
from kube_router.core.netlink import NETLINK_NETFILTER, NETLINK_ROUTE
from kube_router.core.nfnl import NFNLGRP_NFTABLES, is_removal
from kube_router.plugins.proxy.ipvs import unpacked
from kube_router.plugins.proxy.render import TABLE
from kube_router.plugins.proxy.rtnetlink import DUMMY

logger = logging.getLogger(__name__)

RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE = 1, 5, 7, 9, 11
RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE = 16, 17, 21, 25
IFLA_IFNAME, IFA_ADDRESS, RTA_DST = 3, 1, 1
IFINFOMSG_SIZE, IFADDRMSG_SIZE, RTMSG_SIZE = 16, 8, 12
IFF_UP = 1

Wanted = Callable[[str], bool]


class Watch:
    """``wanted`` says of an address whether it has to be there."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._monitors: list[Monitor] = []
        self._writing = False

    async def run(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever something of ours was taken away, until cancelled. Raises KernelError."""
        groups = (RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE)
        with Monitor(NETLINK_ROUTE, groups) as routes, Monitor(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)) as tables:
            self._monitors = [routes, tables]
            try:
                async with anyio.create_task_group() as tasks:
                    for monitor in self._monitors:
                        tasks.start_soon(self._listen, monitor, changed)
            finally:
                self._monitors = []

    def begin(self) -> None:
        """Our own writes begin."""
        self._writing = True

    def end(self) -> None:
        """Our own writes are done: what has come until now may have been they."""
        for monitor in self._monitors:
            while monitor.pending():
                pass
        self._writing = False

    async def _listen(self, monitor: Monitor, changed: Callable[[], None]) -> None:
        while True:
            found = await monitor.wait()
            losses = [] if self._writing else [loss for one in found if (loss := self._loss(one))]
            if losses:
                logger.warning("taken_away what=%r now='put back'", losses[0])
                changed()

    def _loss(self, notification: Notification) -> str:
        """Return in words what of ours a notification says is gone, "" for nothing."""
        kind, body = notification
        if notification is OVERRUN:
            return "notifications were lost"
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            return _lost_link(kind, body)
        if kind in (RTM_DELADDR, RTM_DELROUTE):
            size, what = (IFADDRMSG_SIZE, "address") if kind == RTM_DELADDR else (RTMSG_SIZE, "route")
            raw = nlmsg.attributes(body, size).get(IFA_ADDRESS if kind == RTM_DELADDR else RTA_DST)
            address = unpacked(body[0], bytes(raw)) if raw is not None else ""
            return f"{what} {address}" if address and self._wanted(address) else ""
        return f"something of table {TABLE}" if is_removal(kind, body, TABLE) else ""


def _lost_link(kind: int, body: memoryview) -> str:
    name = nlmsg.attributes(body, IFINFOMSG_SIZE).get(IFLA_IFNAME)
    if name is None or nlmsg.string(name) != DUMMY:
        return ""
    if kind == RTM_DELLINK:
        return f"interface {DUMMY}"
    flags = nlmsg.number(body[8:12])
    return "" if flags & IFF_UP else f"interface {DUMMY} is down"
