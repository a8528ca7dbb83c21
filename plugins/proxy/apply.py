"""Steps → kernel (I/O).

A step that fails does not keep the others from being done. What somebody else has already done is done: removing what
is gone is a success, and adding what is there becomes setting it.
"""

import errno
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, cast

from kube_router.core.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Failure, Netlink
from kube_router.core.nft import Nft
from kube_router.events.errors import KernelError
from kube_router.plugins.proxy import conntrack, host, ipvs, render, rtnetlink
from kube_router.plugins.proxy.model import (
    AddAddress,
    AddressStep,
    AddServer,
    AddService,
    Disown,
    FlushFlows,
    IpvsStep,
    Own,
    RemoveAddress,
    RemoveServer,
    RemoveService,
    SetServer,
    SetService,
    SetSource,
    Step,
    WriteTable,
)

logger = logging.getLogger(__name__)

KERNEL_ROUTE_WAIT_S, KERNEL_ROUTE_POLL_S = 1.0, 0.002
WORDS: dict[type, str] = {
    AddService: "service added",
    SetService: "service set",
    RemoveService: "service removed",
    AddServer: "server added",
    SetServer: "server set",
    RemoveServer: "server removed",
    AddAddress: "address added",
    SetSource: "source set",
    RemoveAddress: "address removed",
}
# What the kernel says where there is nothing to remove.
GONE: dict[type, Collection[int]] = {
    RemoveService: (errno.ESRCH,),
    RemoveServer: (errno.ENOENT, errno.ESRCH),
    RemoveAddress: (errno.EADDRNOTAVAIL, errno.ESRCH),
}
_KINDS: dict[type, str] = {
    **dict.fromkeys((WriteTable, Own, Disown), "nft"),
    **dict.fromkeys((AddAddress, SetSource, RemoveAddress), "address"),
    FlushFlows: "flows",
}
NftStep = WriteTable | Own | Disown


class Failed(NamedTuple):
    """A step that was not done, and why."""

    step: Step
    error: KernelError


@dataclass(slots=True)
class Applied:
    """What came of some steps: kernel writes by what they were, and the steps that were not done."""

    changes: Counter[str] = field(default_factory=Counter)
    failed: list[Failed] = field(default_factory=list)


def apply(steps: Sequence[Step], nft: Nft, *, fenced: Callable[[], bool]) -> Applied:
    """Do the steps in order. Asks ``fenced`` before each batch; from then on no more is done, and the rest fails.

    Raises ``KernelError`` only where the kernel cannot be talked to at all.
    """
    applied = Applied()
    for kind, group in groupby(steps, key=_kind):
        some = list(group)
        if fenced():
            gave_up = KernelError("given up, for the plugin was restarted meanwhile", errno.ECANCELED)
            applied.failed += [Failed(step, gave_up) for step in some]
        elif kind == "ipvs":
            _apply_ipvs(cast(list[IpvsStep], some), applied, fenced)
        elif kind == "address":
            _apply_addresses(cast(list[AddressStep], some), applied, fenced)
        elif kind == "flows":
            _apply_flows(cast(list[FlushFlows], some), applied, fenced)
        else:
            _apply_nft(cast(list[NftStep], some), applied, nft)
    applied.changes = +applied.changes
    return applied


def _kind(step: Step) -> str:
    return _KINDS.get(type(step), "ipvs")


# -- IPVS --------------------------------------------------------------------------------------------------------------


def _apply_ipvs(steps: list[IpvsStep], applied: Applied, fenced: Callable[[], bool]) -> None:
    with host.ipvs_link() as (link, packer):
        failures = link.write([render.ipvs_message(packer, step) for step in steps], fenced=fenced)
        applied.changes.update(map(WORDS.__getitem__, map(type, steps)))
        again: list[IpvsStep] = []
        for failure in failures:
            step = steps[failure.at]
            applied.changes[WORDS[type(step)]] -= 1
            if failure.errno in GONE.get(type(step), ()):
                continue
            if failure.errno == errno.EEXIST and isinstance(step, AddService):
                again.append(SetService(step.id, step.settings))
            elif failure.errno == errno.EEXIST and isinstance(step, AddServer):
                again.append(SetServer(step.id, step.server, step.settings))
            else:
                applied.failed.append(Failed(step, _ipvs_error(step, failure)))
    if again:
        _apply_ipvs(again, applied, fenced)  # settings alone: it cannot come here a third time


def _ipvs_error(step: IpvsStep, failure: Failure) -> KernelError:
    reason = str(failure)
    if failure.errno == errno.ESRCH:
        reason = "ESRCH, no such virtual service"
    elif failure.errno == errno.ENOENT and isinstance(step, AddService | SetService):
        reason = (
            f"ENOENT, the kernel has no scheduler {step.settings.scheduler}: modprobe ip_vs_{step.settings.scheduler}"
        )
    elif failure.errno == errno.ENOENT:
        reason = "ENOENT, no such real server"
    what = f"{step.id.address}:{step.id.port}/{step.id.protocol}"
    if isinstance(step, AddServer | SetServer | RemoveServer):
        what = f"{step.server.address}:{step.server.port} of {what}"
    return KernelError(f"{WORDS[type(step)].replace(' ', ' not ')}: {what}: {reason}", failure.errno)


# -- service addresses -------------------------------------------------------------------------------------------------


def _apply_addresses(steps: list[AddressStep], applied: Applied, fenced: Callable[[], bool]) -> None:
    index = host.interface_index(rtnetlink.DUMMY)
    if not index:
        missing = KernelError(f"there is no interface {rtnetlink.DUMMY}", errno.ENODEV)
        applied.failed += [Failed(step, missing) for step in steps]
        return
    with Netlink(NETLINK_ROUTE) as link:
        requests = [(step, message) for step in steps for message in render.address_messages(step, index)]
        refused: dict[AddressStep, Failure] = {}
        present: set[str] = set()
        for failure in link.write([message for _, message in requests], fenced=fenced):
            step = requests[failure.at][0]
            if isinstance(step, AddAddress) and failure.errno == errno.EEXIST:
                present.add(step.address)
            elif failure.errno not in GONE.get(type(step), ()):
                refused.setdefault(step, failure)
        _drop_kernel_routes(link, [step for step in steps if step not in refused], index, present)
    for step in steps:
        if step in refused:
            text = f"{WORDS[type(step)].replace(' ', ' not ')}: {step.address}: {refused[step]}"
            applied.failed.append(Failed(step, KernelError(text, refused[step].errno)))
        else:
            applied.changes[WORDS[type(step)]] += 1


def _drop_kernel_routes(link: Netlink, steps: list[AddressStep], index: int, present: set[str]) -> None:
    """Delete the IPv6 routes that the kernel made itself, waiting for those of addresses that are new."""
    todo = [s for s in steps if isinstance(s, AddAddress | SetSource) and ":" in s.address and s.source]
    addresses = [step.address for step in todo]
    new = {step.address for step in todo if isinstance(step, AddAddress)} - present
    deadline = time.monotonic() + KERNEL_ROUTE_WAIT_S
    while addresses:
        requests = [rtnetlink.delete_route(a, index, protocol=rtnetlink.RTPROT_KERNEL) for a in addresses]
        addresses = [a for a in (addresses[failure.at] for failure in link.write(requests)) if a in new]
        if time.monotonic() > deadline:
            break
        if addresses:
            time.sleep(KERNEL_ROUTE_POLL_S)
    if addresses:  # the next observation will show what they lack
        logger.warning(f"kernel_route_not_seen addresses={','.join(addresses)} waited_s={KERNEL_ROUTE_WAIT_S}")


# -- nftables and conntrack --------------------------------------------------------------------------------------------


def _apply_nft(steps: list[NftStep], applied: Applied, nft: Nft) -> None:
    for step in steps:
        try:
            match step:
                case WriteTable(masquerade, owned):
                    nft.run(render.write_table(masquerade, owned))
                    applied.changes["table written"] += 1
                case Own(ids):
                    nft.run(render.own(ids))
                    applied.changes["owned added"] += len(ids)
                case Disown(ids):
                    nft.run(render.disown(ids))
                    applied.changes["owned removed"] += len(ids)
        except KernelError as e:
            applied.failed.append(Failed(step, e))


def _apply_flows(steps: list[FlushFlows], applied: Applied, fenced: Callable[[], bool]) -> None:
    """Delete UDP flows. One that has ended meanwhile is as good as deleted."""
    try:
        with Netlink(NETLINK_NETFILTER) as link:
            for family in host.FAMILIES:
                targets = [(step.id, step.server) for step in steps if ipvs.packed(step.id.address)[0] == family]
                if not targets:
                    continue
                bodies = link.dump(conntrack.get_flows(family, {id for id, _ in targets}))
                requests = conntrack.delete_flows(bodies, family, targets)
                applied.changes["flow flushed"] += len(requests) - len(link.write(requests, fenced=fenced))
    except KernelError as e:
        applied.failed += [Failed(step, KernelError(f"UDP flows not flushed: {e}", e.errno)) for step in steps]
