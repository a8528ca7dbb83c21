"""Wanted against actual → steps (pure).

What adds and changes comes first, in the order in which packets need it: ports before the devices that use them,
devices before what goes through them, a table's routes before the rules that lead to it. Removals come last, in the
opposite order, and only once the cluster is in sync: until then a route that nobody wants may be one that a peer is
about to confirm (graceful restart), or one of an earlier run.

A device whose parameters differ is changed in place, so that its routes stay; only what the kernel cannot change, a
vxlan's port, or ipip become ip6tnl, takes a new device. Its routes are then written again, whatever the kernel has kept
of them. kube-router (Go) names a tunnel to the same other end differently, and the kernel allows but one: it is
renamed.
"""

from collections.abc import Iterable, Mapping

from kube_router.core.delta import compare
from kube_router.plugins.routing.model import (
    Actual,
    AddDevice,
    AddFouPort,
    AddRoute,
    AddRule,
    Device,
    RemoveDevice,
    RemoveForward,
    RemoveFouPort,
    RemoveNeighbour,
    RemoveRoute,
    RemoveRule,
    RenameDevice,
    Route,
    RouteId,
    SetDevice,
    SetForward,
    SetNeighbour,
    SetRoute,
    Step,
    Tunnel,
    Wanted,
)

KERNEL_KINDS = {"fou": "ipip", "fou6": "ip6tnl"}


def plan(wanted: Wanted, actual: Actual, *, in_sync: bool) -> list[Step]:
    """Return the steps that turn all of ``actual`` into ``wanted``; none where they agree."""
    present = actual.fou_ports | actual.foreign_fou_ports
    steps: list[Step] = [AddFouPort(port) for port in sorted(wanted.fou_ports - present)]
    devices, gone = _devices(wanted.devices, actual.devices, in_sync=in_sync)
    steps += devices
    bare = gone | {step.name for step in devices if isinstance(step, SetDevice) and step.new_mac}
    neighbours = compare(wanted.neighbours, {key: mac for key, mac in actual.neighbours.items() if key[0] not in bare})
    forwards = compare(wanted.forwards, {key: to for key, to in actual.forwards.items() if key[0] not in gone})
    steps += [SetForward(*item) for item in (*forwards.added.items(), *forwards.changed.items())]
    steps += [SetNeighbour(*item) for item in (*neighbours.added.items(), *neighbours.changed.items())]
    routes = compare(wanted.routes, actual.routes)
    steps += [AddRoute(*item) for item in routes.added.items()]
    steps += [SetRoute(*item) for item in routes.changed.items()]
    steps += [SetRoute(*item) for item in _lost(wanted.routes, actual.routes, gone)]
    steps += [AddRule(rule) for rule in sorted(wanted.rules - actual.rules)]
    if not in_sync:
        return steps
    steps += [RemoveRule(rule) for rule in sorted(actual.rules - wanted.rules)]
    steps += [RemoveRoute(id) for id in routes.removed]
    steps += [RemoveNeighbour(key) for key in neighbours.removed]
    steps += [RemoveForward(key) for key in forwards.removed]
    removed = {step.name for step in devices if isinstance(step, RemoveDevice | RenameDevice)}
    steps += [RemoveDevice(name) for name in sorted(actual.devices.keys() - wanted.devices.keys() - removed)]
    steps += [RemoveFouPort(port) for port in sorted(actual.fou_ports - wanted.fou_ports)]
    return steps


def plan_routes(
    routes: Mapping[RouteId, Route], actual: Actual, changed: Iterable[RouteId], *, in_sync: bool
) -> list[Step]:
    """Return the steps for some routes only, ``routes`` being all that are wanted.

    Right only while ``actual`` is known to be exact, and devices, rules and what else there is are as wanted.
    """
    steps: list[Step] = []
    removals: list[Step] = []
    for id in changed:
        want, have = routes.get(id), actual.routes.get(id)
        if want is None:
            if have is not None and in_sync:
                removals.append(RemoveRoute(id))
        elif have is None:
            steps.append(AddRoute(id, want))
        elif have != want:
            steps.append(SetRoute(id, want))
    return steps + removals


def carry_out(actual: Actual, steps: Iterable[Step]) -> None:
    """Change ``actual`` as the kernel does when it is given the steps."""
    for step in steps:
        match step:
            case AddRoute(id, route) | SetRoute(id, route):
                actual.routes[id] = route
            case RemoveRoute(id):
                actual.routes.pop(id, None)
            case SetNeighbour(neighbour, mac):
                actual.neighbours[neighbour] = mac
            case RemoveNeighbour(neighbour):
                actual.neighbours.pop(neighbour, None)
            case SetForward(forward, remote):
                actual.forwards[forward] = remote
            case RemoveForward(forward):
                actual.forwards.pop(forward, None)
            case AddRule(rule):
                actual.rules.add(rule)
            case RemoveRule(rule):
                actual.rules.discard(rule)
            case AddFouPort(port):
                actual.fou_ports.add(port)
            case RemoveFouPort(port):
                actual.fou_ports.discard(port)
            case _:
                _carry_out_device(actual, step)


def _carry_out_device(actual: Actual, step: RenameDevice | AddDevice | SetDevice | RemoveDevice) -> None:
    match step:
        case RenameDevice(name, wanted):
            actual.devices[wanted] = actual.devices.pop(name)
        case AddDevice(name, tunnel):
            actual.devices[name] = Device(tunnel)
        case SetDevice(name, tunnel, new_mac):
            if new_mac:
                actual.neighbours = {key: mac for key, mac in actual.neighbours.items() if key.device != name}
            have = actual.devices.get(name)
            actual.devices[name] = Device(tunnel if have is None else _settled(tunnel, have.tunnel))
        case RemoveDevice(name):
            actual.devices.pop(name, None)
            actual.neighbours = {key: mac for key, mac in actual.neighbours.items() if key.device != name}
            actual.forwards = {key: remote for key, remote in actual.forwards.items() if key.device != name}


# -- devices -----------------------------------------------------------------------------------------------------------


def _devices(
    wanted: Mapping[str, Tunnel], actual: Mapping[str, Device], *, in_sync: bool
) -> tuple[list[Step], frozenset[str]]:
    """Return the steps for devices that are wanted, and the names of those that are made anew."""
    unwanted = sorted(actual.keys() - wanted.keys())
    strays = {_ends(actual[name].tunnel): name for name in unwanted if actual[name].tunnel.remote}
    steps: list[Step] = []
    gone: set[str] = set()
    for name, tunnel in wanted.items():
        have, stray = actual.get(name), strays.pop(_ends(tunnel), "")
        if have is None and stray:
            steps += [RenameDevice(stray, name), SetDevice(name, tunnel)]
        elif have is None:
            steps.append(AddDevice(name, tunnel))
        elif have == (_settled(tunnel, have.tunnel), True, True):
            continue
        elif stray and not in_sync:
            continue  # two devices claim these ends, and none may be removed yet
        else:
            steps += [RemoveDevice(stray)] if stray else []
            if _changeable(have.tunnel, tunnel):
                steps.append(SetDevice(name, tunnel, new_mac=have.tunnel.mac != tunnel.mac))
            elif in_sync:
                steps += [RemoveDevice(name), AddDevice(name, tunnel)]
                gone.add(name)
    return steps, frozenset(gone)


def _kernel_kind(tunnel: Tunnel) -> str:
    return KERNEL_KINDS.get(tunnel.kind, tunnel.kind)


def _ends(tunnel: Tunnel) -> tuple[str, str, str]:
    """Return what the kernel has but one tunnel of."""
    return _kernel_kind(tunnel), tunnel.local, tunnel.remote


def _settled(wanted: Tunnel, have: Tunnel) -> Tunnel:
    """Return what is wanted with the kernel's choice where we have none."""
    return wanted if wanted.mtu else wanted._replace(mtu=have.mtu)


def _changeable(have: Tunnel, want: Tunnel) -> bool:
    return _kernel_kind(have) == _kernel_kind(want) and (want.kind != "vxlan" or have.port == want.port)


def _lost(
    wanted: Mapping[RouteId, Route], actual: Mapping[RouteId, Route], gone: frozenset[str]
) -> Iterable[tuple[RouteId, Route]]:
    """Yield the routes that are as wanted, but go through devices that are made anew."""
    if not gone:
        return
    for id, route in wanted.items():
        if actual.get(id) == route and any(hop.device in gone for hop in route.hops):
            yield id, route
