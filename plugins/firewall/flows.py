"""Which established flows a new policy denies, for ``--netpol-strict`` (pure).

Established packets pass before any policy is asked, so a flow outlives the policy that let it in. With its entry in the
connection tracking table gone, its next packet is judged as a new flow's first. Only such flows are ended: of the
thousands that share source, destination, port and protocol one is judged.

A flow is judged by what the policies see. Its source is the original direction's, also where it was masqueraded later.
Its destination and port are those after address translation, the reply's source. Only TCP, UDP and SCTP have a port to
be judged by. A flow that another one brought about (an FTP transfer) is allowed as related to it, and ends with it.

Where both ends are pods of other nodes, or no pods at all, nobody here is asked. What an answer is, says the ``Judge``:
this file knows nothing of policies.
"""

from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_address
from typing import NamedTuple

from kube_router.core.ctnetlink import SCTP, TCP, UDP, Flow

PROTOCOLS = {TCP: "TCP", UDP: "UDP", SCTP: "SCTP"}


class Question(NamedTuple):
    """May this source reach this port? Of the two ends at least one is a pod of this node."""

    source: str
    destination: str
    port: int
    protocol: str
    source_is_local: bool  # so that its egress is judged here
    destination_is_local: bool  # so that its ingress is judged here


Judge = Callable[[Question], bool]

_Key = tuple[bytes, bytes, int, int]


def denied_flows(flows: Iterable[Flow], local_pods: Collection[str], judge: Judge) -> list[Flow]:
    """Return those flows that ``judge`` does not allow, and those that they brought about, in the order given.

    ``local_pods`` are the addresses, in canonical text, of the pods of this node that policies apply to.
    """
    local = {ip_address(address).packed for address in local_pods}
    answers: dict[_Key, bool] = {}
    denied: set[bytes] = set()
    candidates: list[Flow] = []
    for flow in flows:
        source, destination = flow.original.source, flow.reply.source
        if flow.protocol not in PROTOCOLS or (source not in local and destination not in local):
            continue
        if flow.raw_master is not None:
            candidates.append(flow)
            continue
        key = (source, destination, flow.reply.source_port, flow.protocol)
        allowed = answers.get(key)
        if allowed is None:
            allowed = answers[key] = judge(_question(key, local))
        if not allowed:
            denied.add(flow.raw_original)
            candidates.append(flow)
    return [flow for flow in candidates if flow.raw_master is None or flow.raw_master in denied]


def _question(key: _Key, local: Collection[bytes]) -> Question:
    source, destination, port, protocol = key
    return Question(
        str(ip_address(source)),
        str(ip_address(destination)),
        port,
        PROTOCOLS[protocol],
        source in local,
        destination in local,
    )
