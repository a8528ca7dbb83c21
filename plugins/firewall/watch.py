"""Notice when somebody else changes our table (I/O).

nftables tells of every commit: what it changed, then its generation. While a transaction of ours is under way, what
comes is kept, and judged when it is known between which generations ours was. Others may have committed meanwhile (the
proxy does, to its own table), but of those commits exactly one has touched our table, or somebody else has too.

Where a commit is too large for the socket's buffer (some fifty thousand elements: our own, as a rule) what was told of
it is lost. That is no reason to write the table anew, which would be as large; it has to be read.
"""

import logging
from collections.abc import Callable
from typing import Literal, Protocol

from kube_router.core.monitor import OVERRUN, Monitor, Notification
from kube_router.core.netlink import NETLINK_NETFILTER
from kube_router.core.nfnl import NFNLGRP_NFTABLES
from kube_router.plugins.firewall import nfgen

logger = logging.getLogger(__name__)

Doubt = Literal["", "lost", "foreign"]  # all was ours; notifications were lost; somebody else has changed our table


class Pending(Protocol):
    """What of a Monitor is asked at the end of our writes."""

    def pending(self) -> list[Notification]: ...


class Watch:
    """Knows the generations of our own commits from ``committed``, between ``begin`` and ``end`` of our writes."""

    def __init__(self) -> None:
        self.monitor: Pending | None = None  # what tells, while ``run`` runs
        self._touched = False  # by the commit that is being told
        self._suspects: list[int] = []  # generations of commits that touched our table
        self._own: list[tuple[int, int]] = []
        self._lost = False
        self._writing = False

    async def run(self, doubted: Callable[[Doubt], None]) -> None:
        """Call ``doubted`` whenever somebody else has, or may have, changed our table, until cancelled.

        Raises KernelError.
        """
        with Monitor(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)) as monitor:
            self.monitor = monitor
            try:
                while True:
                    self._take(await monitor.wait())
                    if not self._writing and (doubt := self._judge()):
                        doubted(doubt)
            finally:
                self.monitor = None

    def begin(self) -> None:
        """Our own writes begin."""
        self._writing = True

    def committed(self, first: int, last: int) -> None:
        """One commit of ours was between these generations. Called in the worker thread, before ``end``."""
        self._own.append((first, last))

    def end(self) -> Doubt:
        """Our own writes are done; return whether somebody else's were, or may have been, among them."""
        while self.monitor is not None and (found := self.monitor.pending()):
            self._take(found)
        self._writing = False
        doubt = self._judge()
        self._own.clear()
        return doubt

    def _judge(self) -> Doubt:
        """Return what is to be thought of what was told since the last call."""
        foreign, self._suspects = self._suspects, []
        lost, self._lost = self._lost, False
        for first, last in self._own:
            inside = [generation for generation in foreign if first <= generation <= last]
            if len(inside) == 1:
                foreign.remove(inside[0])
        if foreign:
            logger.warning("table_changed by='somebody else' generation=%d now='written anew'", foreign[0])
            return "foreign"
        return "lost" if lost else ""

    def _take(self, notifications: list[Notification]) -> None:
        for notification in notifications:
            if notification is OVERRUN:
                self._lost = True
            elif notification.kind == nfgen.NFT_MSG_NEWGEN:
                if self._touched:
                    self._suspects.append(nfgen.parse_generation(notification.body))
                self._touched = False
            elif nfgen.is_about_us(notification.body):
                self._touched = True
