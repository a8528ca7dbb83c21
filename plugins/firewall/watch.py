"""Notice when somebody else changes our table (I/O).

nftables tells of every commit: what it changed, then its generation. Commits that crossed each other are nobody's for
sure and count as somebody else's. While a transaction of ours is under way, what comes is kept and judged when its own
generation is known.
"""

import logging
from collections.abc import Callable

from kube_router.core.monitor import OVERRUN, Monitor, Notification
from kube_router.core.netlink import NETLINK_NETFILTER
from kube_router.plugins.firewall import nfgen

logger = logging.getLogger(__name__)

NFNLGRP_NFTABLES = 7
LOST = -1  # stands for the generations of commits of which the notifications were lost


class Watch:
    """Knows the generations of our own commits from ``committed``, between ``begin`` and ``end`` of our writes."""

    def __init__(self) -> None:
        self._monitor: Monitor | None = None
        self._touched = False  # by the commit that is being told
        self._suspects: list[int] = []  # generations of commits that touched our table
        self._own: set[int] = set()
        self._writing = False

    async def run(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever somebody else has changed our table, until cancelled. Raises KernelError."""
        with Monitor(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)) as monitor:
            self._monitor = monitor
            try:
                while True:
                    self._take(await monitor.wait())
                    if not self._writing and self.foreign():
                        changed()
            finally:
                self._monitor = None

    def begin(self) -> None:
        """Our own writes begin."""
        self._writing = True

    def committed(self, generation: int) -> None:
        """A commit of ours had this generation. Called in the worker thread, between ``begin`` and ``end``."""
        self._own.add(generation)

    def end(self) -> bool:
        """Our own writes are done; return whether somebody else's were among them."""
        while self._monitor is not None and (found := self._monitor.pending()):
            self._take(found)
        self._writing = False
        foreign = self.foreign()
        self._own.clear()
        return foreign

    def foreign(self) -> bool:
        """Return whether somebody else has changed our table since the last call."""
        suspects, self._suspects = self._suspects, []
        foreign = [generation for generation in suspects if generation not in self._own]
        if foreign:
            logger.warning("table_changed by='somebody else' generation=%d now='written anew'", foreign[0])
        return bool(foreign)

    def _take(self, notifications: list[Notification]) -> None:
        for notification in notifications:
            if notification is OVERRUN:
                self._suspects.append(LOST)
            elif notification.kind == nfgen.NFT_MSG_NEWGEN:
                if self._touched:
                    self._suspects.append(nfgen.parse_generation(notification.body))
                self._touched = False
            elif nfgen.is_about_us(notification.body):
                self._touched = True
