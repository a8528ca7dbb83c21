"""Established flows that a new policy denies, ended (I/O).

The entry goes, and the flow's next packet is judged anew. Conntrack would take one of TCP from either end for a new
flow's first (``nf_conntrack_tcp_loose``), and a server's next packet, an acknowledgement perhaps, would turn the flow
round: egress of the server, to which what the client sends is an answer. So the rules of ``--netpol-strict`` have to
refuse TCP packets that are ``new`` and no SYN. UDP has no beginning: a server that goes on sending to a denied client
is judged by the server's egress, and by the client's ingress.
"""

import errno
import logging
from collections.abc import Callable, Collection

from kube_router.core import ctnetlink, nlmsg
from kube_router.core.netlink import NETLINK_NETFILTER, Netlink
from kube_router.events.errors import KernelError
from kube_router.plugins.firewall.flows import Judge, denied_flows

logger = logging.getLogger(__name__)


def cut_flows(local_pods: Collection[str], judge: Judge, *, fenced: Callable[[], bool] = lambda: False) -> int:
    """Return how many flows were ended: those of this node's pods that ``judge`` does not allow.

    For when the new rules are in the kernel, which judge what comes next. ``judge`` is asked once for flows that are
    alike. Raises ``KernelError`` where a flow could not be ended, after having tried all; one that has ended meanwhile
    is as good as ended.
    """
    cut = 0
    refused = []
    with Netlink(NETLINK_NETFILTER) as link:
        for family in sorted({nlmsg.AF_INET6 if ":" in address else nlmsg.AF_INET for address in local_pods}):
            bodies = link.dump(ctnetlink.get_flows(family))
            denied = denied_flows(ctnetlink.parse_flows(bodies, family), local_pods, judge)
            failures = link.write([ctnetlink.delete_flow(flow) for flow in denied], fenced=fenced)
            cut += len(denied) - len(failures)
            refused += [failure for failure in failures if failure.errno not in (errno.ENOENT, errno.ECANCELED)]
    if cut:
        logger.info(f"flows_cut count={cut}")
    if refused:
        raise KernelError(
            f"{len(refused)} flows that policy denies go on: the kernel did not end them: {refused[0]}",
            refused[0].errno,
        )
    return cut
