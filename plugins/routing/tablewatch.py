"""Notice when somebody else takes our nftables table away, or something in it (I/O).

Whoever loads a ruleset begins with ``flush ruleset`` as a rule, and takes the masquerading of pods with it. nftables
tells of every removal, also of our own; ours are told apart by when they come: the kernel notifies before it answers,
so what has come when our writes are done was, or may have been, ours. What somebody adds is found when all is compared.
"""

import logging
from collections.abc import Callable

from kube_router.core.monitor import OVERRUN, Monitor, Notification
from kube_router.core.netlink import NETLINK_NETFILTER
from kube_router.core.nfnl import NFNLGRP_NFTABLES, is_removal
from kube_router.plugins.routing.nftables import TABLE

logger = logging.getLogger(__name__)

DRAINS_MAX = 64  # as many times what is read at once: more than the buffer holds


class TableWatch:
    """Between ``begin`` and ``end`` what is removed is taken for our own doing."""

    def __init__(self) -> None:
        self._monitor: Monitor | None = None
        self._writing = False

    async def run(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever something of ours was removed, until cancelled. Raises ``KernelError``."""
        with Monitor(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)) as monitor:
            self._monitor = monitor
            try:
                while True:
                    found = await monitor.wait()
                    if not self._writing and any(map(_is_loss, found)):
                        logger.warning("taken_away what='something of table %s' now='put back'", TABLE)
                        changed()
            finally:
                self._monitor = None

    def begin(self) -> None:
        """Our own writes begin."""
        self._writing = True

    def end(self) -> None:
        """Our own writes are done: what has come until now may have been they."""
        for _ in range(DRAINS_MAX if self._monitor is not None else 0):
            if self._monitor is None or not self._monitor.pending():
                break
        self._writing = False


def _is_loss(notification: Notification) -> bool:
    return notification is OVERRUN or is_removal(*notification, TABLE)
