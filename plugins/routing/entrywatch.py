"""Notice when somebody else takes neighbours or forwards of our vxlan devices away (I/O).

``ip neigh flush`` is what people do when a network misbehaves, and it takes permanent entries too. The kernel tells of
neighbours of all interfaces; that one was learned or confirmed happens all the time and is not even received. What we
remove ourselves is not wanted any more. What somebody changes is found when all is compared.
"""

import logging
import socket
from collections.abc import Callable

from anyio.lowlevel import checkpoint

from kube_router.core import nlmsg
from kube_router.core.monitor import OVERRUN, Monitor, Notification
from kube_router.core.netlink import NETLINK_ROUTE
from kube_router.core.nlmsg import Malformed
from kube_router.plugins.routing.model import Forward, Neighbour
from kube_router.plugins.routing.rtlink import AF_BRIDGE, NDA_DST, NDA_LLADDR, NDMSG, RTM_DELNEIGH, RTM_NEWNEIGH
from kube_router.plugins.routing.rtnetlink import unpacked

logger = logging.getLogger(__name__)

RTNLGRP_NEIGH = 3


class EntryWatch:
    """``wanted`` says of an entry whether it has to be there."""

    def __init__(self, wanted: Callable[[Neighbour | Forward], bool]) -> None:
        self._wanted = wanted

    async def run(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever one of ours was removed, until cancelled. Raises ``KernelError``."""
        with Monitor(NETLINK_ROUTE, (RTNLGRP_NEIGH,)) as monitor:
            monitor.ignore(RTM_NEWNEIGH)
            while True:
                if losses := [words for each in await monitor.wait() if (words := self._loss(each))]:
                    more = f" and {len(losses) - 1} more" if len(losses) > 1 else ""
                    logger.warning("taken_away what=%r now='put back'", losses[0] + more)
                    changed()
                await checkpoint()

    def _loss(self, notification: Notification) -> str:
        """Return in words what of ours was removed, "" for nothing."""
        if notification is OVERRUN:
            return "notifications were lost"
        try:
            entry = _entry(notification)
        except Malformed as error:
            logger.warning("notification_not_understood kind=%d error=%r", notification.kind, str(error))
            return ""
        if entry is None or not self._wanted(entry):
            return ""
        kind, (device, what) = type(entry).__name__.lower(), entry
        return f"{kind} {what} of {device} removed"


def _entry(notification: Notification) -> Neighbour | Forward | None:
    if notification.kind != RTM_DELNEIGH:
        return None
    body = notification.body
    if len(body) < NDMSG.size:
        raise Malformed("a neighbour shorter than its header")
    family, index, *_ = NDMSG.unpack_from(body)
    its = nlmsg.attributes(body, NDMSG.size)
    try:
        device = socket.if_indextoname(index)
    except OSError:  # the device has gone, of which watch.py tells
        return None
    if family == AF_BRIDGE:
        return Forward(device, bytes(its[NDA_LLADDR]).hex(":")) if NDA_LLADDR in its else None
    return Neighbour(device, unpacked(bytes(its[NDA_DST]))) if NDA_DST in its else None
