"""Steps → kernel (I/O).

A step that fails does not keep the others from being done. What somebody else has already done is done: removing what
is gone is a success, and adding what is ours already becomes setting it.
"""

import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, cast

from kube_router.core import modules
from kube_router.core.netlink import NETLINK_GENERIC, NETLINK_ROUTE, Failure, Netlink
from kube_router.events.errors import KernelError
from kube_router.plugins.routing import fou, observe, render, rtlink, rtnetlink
from kube_router.plugins.routing.model import (
    AddDevice,
    AddFouPort,
    AddRoute,
    AddRule,
    DeviceStep,
    EntryStep,
    FouStep,
    RemoveDevice,
    RemoveForward,
    RemoveFouPort,
    RemoveNeighbour,
    RemoveRoute,
    RemoveRule,
    RenameDevice,
    RouteStep,
    SetDevice,
    SetForward,
    SetNeighbour,
    SetRoute,
    Step,
)

logger = logging.getLogger(__name__)

WORDS: dict[type, str] = {
    AddRoute: "route added",
    SetRoute: "route set",
    RemoveRoute: "route removed",
    AddRule: "rule added",
    RemoveRule: "rule removed",
    RenameDevice: "device renamed",
    AddDevice: "device added",
    SetDevice: "device set",
    RemoveDevice: "device removed",
    SetNeighbour: "neighbour set",
    RemoveNeighbour: "neighbour removed",
    SetForward: "forward set",
    RemoveForward: "forward removed",
    AddFouPort: "fou port added",
    RemoveFouPort: "fou port removed",
}
# What the kernel says where there is nothing to do: what is to be removed is gone, or a rule is there already.
DONE: dict[type, Collection[int]] = {
    RemoveRoute: (errno.ESRCH,),
    AddRule: (errno.EEXIST,),
    RemoveRule: (errno.ENOENT,),
    RemoveDevice: (errno.ENODEV,),
    RemoveNeighbour: (errno.ENOENT, errno.ENODEV),
    RemoveForward: (errno.ENOENT, errno.ENODEV),
    RemoveFouPort: (errno.ENOENT,),
}
_KINDS: dict[type, str] = {
    **dict.fromkeys((AddRoute, SetRoute, RemoveRoute), "route"),
    **dict.fromkeys((RenameDevice, AddDevice, SetDevice, RemoveDevice), "device"),
    **dict.fromkeys((SetNeighbour, RemoveNeighbour, SetForward, RemoveForward), "entry"),
    **dict.fromkeys((AddFouPort, RemoveFouPort), "fou"),
    **dict.fromkeys((AddRule, RemoveRule), "rule"),
}
MODULES = {"ipip": "ipip", "fou": "ipip", "ip6tnl": "ip6_tunnel", "fou6": "ip6_tunnel", "vxlan": "vxlan"}


class Failed(NamedTuple):
    """A step that was not done, and why."""

    step: Step
    error: KernelError


@dataclass(slots=True)
class Applied:
    """What came of some steps: kernel writes by what they were, and the steps that were not done."""

    changes: Counter[str] = field(default_factory=Counter)
    failed: list[Failed] = field(default_factory=list)

    def done(self, step: Step) -> None:
        self.changes[WORDS[type(step)]] += 1

    def refused(self, step: Step, why: str, number: int) -> None:
        """Note that a step was not done, with the command that would have done it."""
        what, _, done = WORDS[type(step)].rpartition(" ")
        self.failed.append(Failed(step, KernelError(f"{what} not {done}: {render.command(step)}: {why}", number)))


Fenced = Callable[[], bool]


def apply(steps: Sequence[Step], *, fenced: Fenced) -> Applied:
    """Do the steps in order. Asks ``fenced`` before each batch; from then on no more is done, and the rest fails.

    Raises ``KernelError`` only where the kernel cannot be talked to at all.
    """
    applied = Applied()
    with Netlink(NETLINK_ROUTE) as link:
        for kind, group in groupby(steps, key=lambda step: _KINDS[type(step)]):
            some = list(group)
            if fenced():
                for step in some:
                    applied.refused(step, "given up, for the plugin was restarted meanwhile", errno.ECANCELED)
            elif kind == "route":
                _apply_routes(link, cast(list[RouteStep], some), applied, fenced)
            elif kind == "device":
                _apply_devices(link, cast(list[DeviceStep], some), applied, fenced)
            elif kind == "entry":
                _apply_entries(link, cast(list[EntryStep], some), applied, fenced)
            elif kind == "rule":
                _apply_rules(link, cast(list[AddRule | RemoveRule], some), applied, fenced)
            else:
                _apply_fou(cast(list[FouStep], some), applied, fenced)
    applied.changes = +applied.changes
    return applied


def _write(link: Netlink, steps: Sequence[Step], messages: Sequence[bytes], applied: Applied, fenced: Fenced) -> None:
    failures = {failure.at: failure for failure in link.write(messages, fenced=fenced)}
    for at, step in enumerate(steps):
        failure = failures.get(at)
        if failure is None:
            applied.done(step)
        elif failure.errno not in DONE.get(type(step), ()):
            applied.refused(step, str(failure), failure.errno)


# -- routes and rules --------------------------------------------------------------------------------------------------


class _Indexes(dict[str, int]):
    """The numbers of interfaces, asked for once each. ``[]`` raises ``KernelError`` for one that is not there."""

    def __missing__(self, name: str) -> int:
        try:
            self[name] = socket.if_nametoindex(name)
        except OSError as e:
            raise KernelError(f"there is no interface {name}", errno.ENODEV) from e
        return self[name]


def _apply_routes(link: Netlink, steps: list[RouteStep], applied: Applied, fenced: Fenced) -> None:
    packer = rtnetlink.RoutePacker(_Indexes().__getitem__)
    able: list[RouteStep] = []
    messages: list[bytes] = []
    for step in steps:
        try:
            messages.append(packer.message(step))
        except KernelError as e:
            applied.refused(step, str(e), e.errno)
        else:
            able.append(step)
    applied.changes.update(WORDS[type(step)] for step in able)
    present: list[AddRoute] = []
    for failure in link.write(messages, fenced=fenced):
        step = able[failure.at]
        applied.changes[WORDS[type(step)]] -= 1
        if isinstance(step, AddRoute) and failure.errno == errno.EEXIST:
            present.append(step)
        elif failure.errno not in DONE.get(type(step), ()):
            applied.refused(step, _route_words(failure), failure.errno)
    if present:
        _settle(link, present, applied, fenced)


def _settle(link: Netlink, steps: list[AddRoute], applied: Applied, fenced: Fenced) -> None:
    """Set those routes that are there and ours after all; the others somebody else made with our metric."""
    ours = observe.routes(link, observe.interface_names(link))
    again: list[RouteStep] = []
    for step in steps:
        if step.id in ours:
            again.append(SetRoute(*step))
        else:
            why = f"EEXIST, somebody else has a route to {step.id.destination} with the same metric; it stays"
            applied.refused(step, why, errno.EEXIST)
    if again:
        _apply_routes(link, again, applied, fenced)  # settings alone: it cannot come here a third time


def _route_words(failure: Failure) -> str:
    if failure.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"{failure}: no interface that is up reaches the next hop directly"
    return str(failure)


def _apply_rules(link: Netlink, steps: list[AddRule | RemoveRule], applied: Applied, fenced: Fenced) -> None:
    def message(step: AddRule | RemoveRule) -> bytes:
        return rtnetlink.add_rule(step.rule) if isinstance(step, AddRule) else rtnetlink.delete_rule(step.rule)

    _write(link, steps, list(map(message, steps)), applied, fenced)


# -- devices and what hangs on them ------------------------------------------------------------------------------------


def _apply_devices(link: Netlink, steps: list[DeviceStep], applied: Applied, fenced: Fenced) -> None:
    for step in steps:  # one by one: each is some milliseconds of the kernel's
        if fenced():
            applied.refused(step, "given up, for the plugin was restarted meanwhile", errno.ECANCELED)
            continue
        try:
            failure = _change_device(link, step)
        except KernelError as e:
            applied.refused(step, str(e), e.errno)
            continue
        if failure is None:
            applied.done(step)
            logger.info(f"device_changed what={WORDS[type(step)]!r} name={step.name}")
        elif failure.errno not in DONE.get(type(step), ()):
            applied.refused(step, _device_words(step, failure), failure.errno)


def _change_device(link: Netlink, step: DeviceStep) -> Failure | None:
    match step:
        case RenameDevice(name, wanted):
            return _rename(link, name, wanted)
        case RemoveDevice(name):
            messages: Sequence[bytes] = [rtlink.delete_device(name)]
        case AddDevice(name, tunnel):
            if tunnel.kind in ("fou", "fou6"):
                _load_fou(six=tunnel.kind == "fou6")
            messages = rtlink.add_device(name, tunnel)
        case SetDevice(name, tunnel, new_mac):
            if tunnel.kind in ("fou", "fou6"):
                _load_fou(six=tunnel.kind == "fou6")
            messages = rtlink.set_device(name, tunnel, new_mac=new_mac)
    return next(iter(link.write(messages)), None)


def _rename(link: Netlink, name: str, wanted: str) -> Failure | None:
    """Rename a device, with its routes where the kernel can, else down for a moment."""
    ifindex = _Indexes()[name]
    failures = link.write([rtlink.rename(ifindex, wanted)])
    if failures and failures[0].errno == errno.EBUSY:
        failures = link.write([rtlink.set_up(ifindex, up=False), rtlink.rename(ifindex, wanted)])
    return failures[0] if failures else None


def _device_words(step: DeviceStep, failure: Failure) -> str:
    if isinstance(step, AddDevice) and failure.errno == errno.EOPNOTSUPP:
        module = MODULES[step.tunnel.kind]
        return f"{failure}: the kernel has no {step.tunnel.kind} tunnels: {modules.remedy(module)}"
    if isinstance(step, AddDevice) and failure.errno == errno.EEXIST:
        return f"{failure}: somebody else has an interface of this name, or a tunnel with these ends"
    return str(failure)


def _load_fou(*, six: bool) -> None:
    """Load FOU, which nothing in the kernel asks for by itself. What is then lacking, it will say."""
    module = "fou6" if six else "fou"
    if trouble := modules.load(module):
        logger.warning(f"module_not_loaded name={module} error={trouble!r}")


def _apply_entries(link: Netlink, steps: list[EntryStep], applied: Applied, fenced: Fenced) -> None:
    indexes = _Indexes()
    able: list[EntryStep] = []
    messages: list[bytes] = []
    for step in steps:
        try:
            messages.append(_entry_message(step, indexes))
        except KernelError as e:
            if not isinstance(step, RemoveNeighbour | RemoveForward):
                applied.refused(step, str(e), e.errno)
        else:
            able.append(step)
    _write(link, able, messages, applied, fenced)


def _entry_message(step: EntryStep, indexes: _Indexes) -> bytes:
    match step:
        case SetNeighbour(neighbour, mac):
            return rtlink.set_neighbour(neighbour, mac, indexes[neighbour.device])
        case RemoveNeighbour(neighbour):
            return rtlink.delete_neighbour(neighbour, indexes[neighbour.device])
        case SetForward(forward, remote):
            return rtlink.set_forward(forward, remote, indexes[forward.device])
        case RemoveForward(forward):
            return rtlink.delete_forward(forward, indexes[forward.device])


def _apply_fou(steps: list[FouStep], applied: Applied, fenced: Fenced) -> None:
    if any(isinstance(step, AddFouPort) for step in steps):
        _load_fou(six=any(step.port.family == 6 for step in steps))
    with Netlink(NETLINK_GENERIC) as link:
        try:
            family = link.family(fou.FAMILY)
        except KernelError as e:
            what = f"the kernel has no FOU: {modules.remedy('fou')}" if e.errno == errno.ENOENT else str(e)
            for step in steps:
                if isinstance(step, AddFouPort):
                    applied.refused(step, what, e.errno)
            return
        pack = {AddFouPort: fou.add_port, RemoveFouPort: fou.delete_port}
        _write(link, steps, [pack[type(step)](family, step.port) for step in steps], applied, fenced)
