"""Notice when somebody else takes away what is ours, and when the node's own links or addresses change.

Our own writes never take away what is wanted: a removal of a wanted route, rule or device is somebody else's, whenever
it comes. What is made or changed is told from our own by when it comes, as the kernel notifies before it acknowledges:
what has come when our writes return may have been ours, and is passed over.

Of IPv4 routes that go because their interface went down, or lost the address that they name as source, the kernel does
not tell at all. So every interface that routes use is watched: when it comes up, or an address of the node goes,
everything is compared.
"""

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from kube_router.core.monitor import OVERRUN, Monitor, Notification
from kube_router.core.netlink import NETLINK_ROUTE, Netlink
from kube_router.core.nlmsg import Malformed
from kube_router.plugins.routing import rtlink, rtnetlink
from kube_router.plugins.routing.model import RouteId, Rule, is_own_link

logger = logging.getLogger(__name__)

RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE = 1, 5, 7, 8
RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE = 9, 11, 19
GROUPS = (
    RTNLGRP_LINK,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV4_RULE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV6_RULE,
)


GATEWAYS_S = 2.0  # another routing daemon may change its routes all the time: no more often is that told
DRAINS_MAX = 64  # as many times what is read at once: more than the buffer holds


class _Seen(NamedTuple):
    """What of an interface matters."""

    name: str
    up: bool
    mtu: int


class _Found(NamedTuple):
    """What a notification means: what of ours was taken away, in words, and whether the node's own links changed, or a
    gateway.
    """

    loss: str = ""
    host: bool = False
    gateway: bool = False


NOTHING = _Found()


class Watch:
    """``wanted`` says of a route or rule whether it has to be there, ``uses`` of an interface whether plans need it.

    Others, such as the pods' ends of their cables, come and go without a word.
    """

    def __init__(self, *, wanted: Callable[[RouteId | Rule], bool], uses: Callable[[str], bool]) -> None:
        self._wanted, self._uses = wanted, uses
        self._monitor: Monitor | None = None
        self._changed = self._host_changed = _nobody
        self._links: dict[int, _Seen] = {}
        self._writing = False
        self._told_at, self._due = -math.inf, math.inf  # when a gateway's change was told, and is to be
        self._waiting: anyio.CancelScope | None = None

    async def run(self, changed: Callable[[], None], host_changed: Callable[[], None]) -> None:
        """Call ``changed`` or ``host_changed`` whenever that is so, until cancelled. Raises ``KernelError``."""
        self._changed, self._host_changed = changed, host_changed
        with Monitor(NETLINK_ROUTE, GROUPS) as monitor:
            self._monitor = monitor
            self._links = _links()  # of what is told from now on, what was so already is no news
            try:
                while True:
                    with anyio.CancelScope(deadline=self._due) as self._waiting:
                        self._take(await monitor.wait())
                    self._tell_of_gateways()
                    await checkpoint()
            finally:
                self._monitor = None

    def begin(self) -> None:
        """Our own writes begin. The kernel does not even tell of routes that are made, for these may be many."""
        if self._monitor is not None:
            self._monitor.ignore(rtnetlink.RTM_NEWROUTE)
            self._drain(self._monitor)
        self._writing = True

    def end(self) -> None:
        """Our own writes are done: what was made or changed until now may have been they; what was removed was not."""
        if self._monitor is not None:
            self._drain(self._monitor)
            self._monitor.ignore(0)
        self._writing = False

    def _drain(self, monitor: Monitor) -> None:
        for _ in range(DRAINS_MAX):
            if not (found := monitor.pending()):
                return
            self._take(found)

    def _take(self, notifications: list[Notification]) -> None:
        found = [self._read(notification) for notification in notifications]
        losses = [its.loss for its in found if its.loss]
        if losses:
            more = f" and {len(losses) - 1} more" if len(losses) > 1 else ""
            logger.warning(f"taken_away what={losses[0] + more!r} now='put back'")
            self._changed()
        if any(its.host for its in found):
            self._host_changed()
        if any(its.gateway for its in found):
            self._due = max(self._told_at + GATEWAYS_S, anyio.current_time())
            if self._waiting is not None:
                self._waiting.deadline = self._due

    def _tell_of_gateways(self) -> None:
        if anyio.current_time() >= self._due:
            self._told_at, self._due = anyio.current_time(), math.inf
            self._host_changed()

    def _read(self, notification: Notification) -> _Found:
        if notification is OVERRUN:
            return _Found("notifications were lost", host=True)
        try:
            return self._meaning(*notification)
        except Malformed as e:
            logger.warning(f"notification_not_understood kind={notification.kind} error={str(e)!r}")
            return NOTHING

    def _meaning(self, kind: int, body: memoryview) -> _Found:
        if kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE):
            return self._route(kind, body)
        if kind == rtnetlink.RTM_DELRULE:
            rule = rtnetlink.parse_rule(body)
            return _Found(f"rule from {rule.source}") if rule is not None and self._wanted(rule) else NOTHING
        if kind in (rtlink.RTM_NEWLINK, rtlink.RTM_DELLINK):
            return self._link(kind, body)
        if kind in (rtlink.RTM_NEWADDR, rtlink.RTM_DELADDR):
            return self._address(kind, body)
        return NOTHING

    def _route(self, kind: int, body: memoryview) -> _Found:
        removed = kind == rtnetlink.RTM_DELROUTE
        if self._writing and not removed:
            return NOTHING
        id, ours = rtnetlink.route_id(body)
        if not ours:
            return _Found(gateway=rtnetlink.parse_gateway(body, {}) is not None)
        if not self._wanted(id):
            return NOTHING
        return _Found(f"route to {id.destination} {'removed' if removed else 'changed'}")

    def _link(self, kind: int, body: memoryview) -> _Found:
        its = rtlink.parse_link(body)
        if not its.name or body[0]:  # what a bridge says of its ports
            return NOTHING
        own, used = is_own_link(its.name), self._uses(its.name)
        if kind == rtlink.RTM_DELLINK:
            self._links.pop(its.ifindex, None)
            return _Found(f"interface {its.name} removed", host=not own) if used else NOTHING
        before = self._links.get(its.ifindex)
        now = self._links[its.ifindex] = _Seen(its.name, its.up, its.mtu)
        if before == now or not used or (own and self._writing):
            return NOTHING
        took = own or before is None or before.up != now.up  # another MTU of a link that is the node's is no loss
        return _Found(_link_words(before, now) if took else "", host=not own)

    def _address(self, kind: int, body: memoryview) -> _Found:
        found = rtlink.parse_address(body)
        if found is None:
            return NOTHING
        ifindex, address = found
        seen = self._links.get(ifindex)
        if seen is not None and is_own_link(seen.name):
            return NOTHING
        return _Found(f"address {address} removed" if kind == rtlink.RTM_DELADDR else "", host=True)


def _links() -> dict[int, _Seen]:
    with Netlink(NETLINK_ROUTE) as link:
        found = map(rtlink.parse_link, link.dump(rtlink.get_links()))
        return {its.ifindex: _Seen(its.name, its.up, its.mtu) for its in found}


def _nobody() -> None:
    """Stand in for who is told, until there is one."""


def _link_words(before: _Seen | None, now: _Seen) -> str:
    if not now.up:
        return f"interface {now.name} is down"
    if before is None or not before.up:
        return f"interface {now.name} is up"
    return f"interface {now.name} changed"
