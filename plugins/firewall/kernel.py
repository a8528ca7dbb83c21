"""The firewall's part of this node's kernel: one nftables table, observed, replaced, edited, removed (I/O).

Blocking, for the plugin's worker thread. Every write is one transaction and ends with a stamp: the generation after
it, and the digest of what the table then holds. Whoever finds both unchanged, tomorrow or after a restart, knows that
the table is as it was left, without looking at it.
"""

import errno
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kube_router.core import nfnl, rcu
from kube_router.core.netlink import NETLINK_NETFILTER, Netlink
from kube_router.core.nft import Nft
from kube_router.events.errors import KernelError
from kube_router.plugins.firewall import nfgen, read, render
from kube_router.plugins.firewall.model import TABLE, Ruleset
from kube_router.plugins.firewall.nfgen import Count, Stamp
from kube_router.plugins.firewall.plan import Edit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at the kernel shows."""

    generation: int
    there: bool = False
    stamp: Stamp | None = None

    def is_untouched(self, digest: int) -> bool:
        """Whether the table holds what has this digest, and nothing of nftables has changed since it was written."""
        return self.stamp == Stamp(self.generation, digest)


class Kernel:
    """What the firewall may do to the kernel.

    ``committed`` is told, after each commit of ours, the first and the last generation that it may have been.
    """

    def __init__(self, *, committed: Callable[[int, int], None] = lambda first, last: None) -> None:
        self._nft = Nft()
        self._committed = committed
        # Kept open: closing such a socket waits for what the last commit left to be destroyed, some 10 ms.
        self._link: Netlink | None = None

    @property
    def nft_backend(self) -> str:
        """What runs nftables transactions, for ``kr status``; "" before the first."""
        return self._nft.backend

    def observe(self) -> Seen:
        """Return whether our table is there, and what its stamp says. Raises KernelError."""
        link = self._netlink()
        generation = _generation(link)
        if (nfnl.NFPROTO_INET, TABLE) not in nfnl.parse_tables(link.dump(nfnl.get_tables())):
            return Seen(generation)
        try:
            stamp = nfgen.parse_stamp(link.dump(nfgen.get_stamp()))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            stamp = None  # somebody took the set away
        return Seen(generation, there=True, stamp=stamp)

    def read(self) -> Ruleset | None:
        """Return what our table holds, None where it holds something that we never write. Raises KernelError."""
        text = self._nft.list_text(f"list table inet {TABLE}")
        try:
            return read.parse_table(text)
        except read.NotOurs as error:
            logger.warning("table_not_ours table=%r what=%r", TABLE, str(error))
            return None

    def replace(self, ruleset: Ruleset) -> None:
        """Make our table hold exactly this, whatever it held. Raises KernelError; nothing is changed then."""
        self._commit(ruleset.digest, lambda stamp: render.write_table(ruleset, stamp))

    def edit(self, edit: Edit, digest: int) -> None:
        """Make an edit, after which the table has this digest. Raises KernelError; nothing is changed then."""
        self._commit(digest, lambda stamp: render.write_edit(edit, stamp))

    def wait_for_packets(self) -> None:
        """Wait until no packet is under way that has seen the table as it was before the last edit."""
        rcu.wait_for_packets()

    def cleanup(self) -> None:
        """Remove our table. Raises KernelError."""
        self._nft.run(render.delete_table())

    def _commit(self, digest: int, write: Callable[[str], str]) -> None:
        """Run a transaction stamped with its own generation; one that somebody else took meanwhile leaves it stale.

        A stale stamp costs the next start a look at the table.
        """
        link = self._netlink()
        generation = _generation(link) + 1
        self._nft.run(write(render.stamp_text(generation, digest)))
        self._committed(generation, _generation(link))

    def _netlink(self) -> Netlink:
        if self._link is None:
            self._link = Netlink(NETLINK_NETFILTER)
        return self._link


def counters() -> Mapping[str, Count]:
    """Return our table's counters by name, none where there is no table. Raises KernelError."""
    with Netlink(NETLINK_NETFILTER) as link:
        try:
            return dict(nfgen.parse_counters(link.dump(nfgen.get_counters())))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return {}
            raise


def _generation(link: Netlink) -> int:
    return nfgen.parse_generation(link.request(nfgen.get_generation())[0])
