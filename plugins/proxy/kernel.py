"""The proxy's part of this node's kernel: prepared, observed, changed, taken over, cleaned (I/O).

Blocking, for the plugin's worker thread. Sockets are opened for each call, in the network namespace of its thread; only
the nftables context stays.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from kube_router.core.bridge import BRIDGE
from kube_router.core.netlink import NETLINK_ROUTE, Netlink
from kube_router.core.nft import Nft
from kube_router.events.errors import KernelError
from kube_router.plugins.proxy import host, observe, render, rtnetlink, takeover
from kube_router.plugins.proxy.apply import Applied, Failed, apply
from kube_router.plugins.proxy.model import Actual, RemoveService, Step

logger = logging.getLogger(__name__)

__all__ = ["Applied", "Failed", "Kernel"]


class Kernel:
    """What the proxy may do to the kernel."""

    def __init__(self) -> None:
        self._nft = Nft()

    @property
    def nft_backend(self) -> str:
        """What runs nftables transactions, for ``kr status``; "" before the first."""
        return self._nft.backend

    def prepare(self, node_ips: Iterable[str] = ()) -> Counter[str]:
        """Load IPVS, make kube-dummy-if and set the sysctls; return the writes that took, none the second time.

        Raises ``KernelError`` where the kernel has no IPVS or cannot make the interface.
        """
        with host.ipvs_link():
            pass  # the sysctls come with the module
        with Netlink(NETLINK_ROUTE) as link:
            made = host.make_dummy(link)
            interfaces = ["all", BRIDGE, rtnetlink.DUMMY, *host.interfaces_with(link, node_ips)]
        written, troubles = host.write_sysctls(interfaces)
        for trouble in troubles:
            logger.warning(f"sysctl_not_set what={trouble!r}")
        return +Counter({"interface set up": made, "sysctl set": written})

    def observe(self) -> Actual:
        """Return what the kernel holds. Raises ``KernelError``."""
        services = observe.services()
        table, owned = observe.table()
        addresses = observe.addresses()
        first_time = not table and not owned
        leftovers = takeover.leftover_services(services.keys() - owned, addresses=addresses, first_time=first_time)
        return Actual(services, owned, addresses, table, leftovers)

    def apply(self, steps: Sequence[Step], *, fenced: Callable[[], bool] = lambda: False) -> Applied:
        """Do the steps in order, as far as ``fenced`` allows. Raises where the kernel cannot be talked to at all."""
        return apply(steps, self._nft, fenced=fenced)

    def take_over(self) -> tuple[Counter[str], list[str]]:
        """Remove kube-router's (Go) rules, chains and ipsets; return what was removed, and in words what could not be.

        For when ours is in place and in sync. Its IPVS services are adopted or removed by the plan.
        """
        try:
            return takeover.remove(takeover.leftovers())
        except KernelError as error:
            return Counter(), [str(error)]

    def cleanup(self) -> Counter[str]:
        """Remove what is ours and only that: owned services, kube-dummy-if with its routes, the table.

        The sysctls stay, since nobody knows what else relies on them. Raises ``KernelError``.
        """
        _, owned = observe.table()
        applied = self.apply([RemoveService(id) for id in sorted(owned)])
        if applied.failed:  # without the table nobody could tell any more that these are ours
            raise applied.failed[0].error
        with Netlink(NETLINK_ROUTE) as link:
            index = host.interface_index(rtnetlink.DUMMY)
            if index and not link.write([rtnetlink.delete_link(index)]):
                applied.changes["interface removed"] += 1
        self._nft.run(render.delete_table())
        return applied.changes
