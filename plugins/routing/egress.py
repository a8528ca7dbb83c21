"""Keeps the table that masquerades pods' traffic out of the cluster what is wanted (I/O).

While what the kernel holds is known a change is an edit of elements. After a start, an error or somebody else's change
the table is listed first. One that is not ours to the last rule is written anew as a whole, in one transaction, and so
is one that refuses an edit, lest it be refused for ever.

Before the cluster is in sync nothing is taken away: an earlier run may have known of nodes that the journal does not.

Blocking, for the plugin's worker thread.
"""

import logging
from collections import Counter
from collections.abc import Iterable

from kube_router.core import leftovers, nfnl
from kube_router.core.nft import Nft
from kube_router.events.errors import KernelError
from kube_router.plugins.routing import nftables
from kube_router.plugins.routing.nftables import TABLE, Members

logger = logging.getLogger(__name__)


class Egress:
    """The table, as far as we know it. Used by one thread at a time."""

    def __init__(self, nft: Nft | None = None) -> None:
        self._nft = nft or Nft()
        self._is_known = False
        self._actual: Members | None = None  # None: there is no table

    @property
    def nft_backend(self) -> str:
        """What runs nftables transactions, for ``kr status``; "" before the first."""
        return self._nft.backend

    def doubt(self) -> None:
        """Note that somebody else may have changed the table: it will be looked at."""
        self._is_known = False

    def bring(
        self,
        *,
        pods4: Iterable[str],
        pods6: Iterable[str],
        nodes4: Iterable[str],
        nodes6: Iterable[str],
        enabled: bool,
        in_sync: bool,
    ) -> Counter[str]:
        """Make the table hold these CIDRs of pods and addresses of nodes, or where not enabled be gone; return writes.

        Raises KernelError; the table then holds what it held. ValueError for what is no CIDR or address.
        """
        wanted = None
        if enabled:
            wanted = nftables.members(pods4=pods4, pods6=pods6, nodes4=nodes4, nodes6=nodes6)
        try:
            return self._bring(wanted, in_sync=in_sync)
        except KernelError:
            self._is_known = False
            raise

    def cleanup(self) -> None:
        """Remove our table. Raises KernelError."""
        self._is_known = False
        self._nft.run(nftables.delete_table())

    def _bring(self, wanted: Members | None, *, in_sync: bool) -> Counter[str]:
        is_whole = self._is_known or self._look()
        if not in_sync and self._actual is not None:
            wanted = nftables.both(wanted or Members(), self._actual)
        actual = self._actual
        changes: Counter[str] = Counter()
        if wanted is None:
            if actual is not None:
                self._nft.run(nftables.delete_table())
                changes["table removed"] = 1
        elif actual is None or not is_whole:
            self._nft.run(nftables.write_table(wanted))
            changes += Counter({"table written": 1, "element added": wanted.total})
        elif wanted != actual:
            changes += self._edit(wanted, actual)
        self._actual, self._is_known = wanted, True
        return changes

    def _look(self) -> bool:
        """Take in what the kernel holds; return whether the table is as we write it, but for its elements."""
        self._actual = None
        if (nfnl.NFPROTO_INET, TABLE) not in leftovers.nft_tables():
            return True
        listed = nftables.read_table(self._nft.list_json(f"list table inet {TABLE}"))
        self._actual = listed.members
        if not listed.is_whole:
            logger.warning("table_differs table=%s now='written anew'", TABLE)
        return listed.is_whole

    def _edit(self, wanted: Members, actual: Members) -> Counter[str]:
        try:
            self._nft.run(nftables.write_edit(wanted, actual))
        except KernelError as error:
            logger.warning("edit_refused table=%s error=%r now='written anew'", TABLE, str(error))
            self._nft.run(nftables.write_table(wanted))
            return Counter({"table written": 1, "element added": wanted.total})
        return +Counter({
            "element added": nftables.added(wanted, actual), "element removed": nftables.added(actual, wanted)
        })  # fmt: skip
