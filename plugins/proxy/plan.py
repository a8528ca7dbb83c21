"""Wanted against actual → steps (pure).

Additions come first and in the order in which traffic needs them: ownership before the service it is for, service
before servers, a new server before an old one goes. Removals come last and only once the cluster is in sync; whatever
a presumption from the journal does not want stays until the live source has spoken.

What is foreign stays: a service in the kernel that is neither wanted, nor in ``owned``, nor a leftover of kube-router
is not looked at. One that is wanted and there already is adopted: owned, and brought to our settings in place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kube_router.core.delta import compare
from kube_router.plugins.proxy.model import (
    Actual,
    AddAddress,
    AddServer,
    AddService,
    Disown,
    FlushFlows,
    IpvsStep,
    Own,
    RemoveAddress,
    RemoveServer,
    RemoveService,
    Server,
    ServerId,
    ServiceId,
    SetServer,
    SetService,
    SetSource,
    Step,
    VirtualService,
    Wanted,
    WriteTable,
)
from kube_router.plugins.proxy.render import stamp

EMPTY: Mapping[ServerId, Server] = {}


def plan(wanted: Wanted, actual: Actual, *, in_sync: bool) -> list[Step]:
    """Return the steps that turn all of ``actual`` into ``wanted``; none where they agree."""
    ours = actual.owned | actual.leftovers
    steps = _table(wanted, actual)
    adding, removing = _places(wanted.services, actual, wanted.services.keys() | ours)
    addresses = compare(wanted.addresses, actual.addresses)
    steps += [AddAddress(*item) for item in addresses.added.items()]
    steps += [SetSource(*item) for item in addresses.changed.items()]
    steps += adding
    if in_sync:
        steps += removing
        steps += [RemoveAddress(address) for address in addresses.removed]
        steps += _disown(actual.owned - wanted.services.keys())
    return steps


def plan_places(
    services: Mapping[ServiceId, VirtualService],
    addresses: Mapping[str, str | None],
    actual: Actual,
    places: Iterable[ServiceId],
    *,
    in_sync: bool,
) -> list[Step]:
    """Return the steps for some places only; ``addresses`` maps theirs to the source wanted, None for not wanted.

    Right only while ``actual`` is known to be exact everywhere else.
    """
    places = sorted(places)
    steps = _own(place for place in places if place in services and place not in actual.owned)
    for address, source in addresses.items():
        if source is not None and address not in actual.addresses:
            steps.append(AddAddress(address, source))
        elif source is not None and actual.addresses[address] != source:
            steps.append(SetSource(address, source))
    adding, removing = _places(services, actual, places)
    steps += adding
    if in_sync:
        steps += removing
        steps += [RemoveAddress(a) for a, source in addresses.items() if source is None and a in actual.addresses]
        steps += _disown(place for place in places if place in actual.owned and place not in services)
    return steps


def carry_out(actual: Actual, steps: Iterable[Step]) -> None:
    """Change ``actual`` as the kernel does when it is given the steps. FlushFlows changes nothing that is held here."""
    for step in steps:
        if isinstance(step, WriteTable):
            actual.table, actual.owned = stamp(step.masquerade), set(step.owned)
        elif isinstance(step, Own):
            actual.owned |= set(step.ids)
        elif isinstance(step, Disown):
            actual.owned -= set(step.ids)
        elif isinstance(step, AddAddress | SetSource):
            actual.addresses[step.address] = step.source
        elif isinstance(step, RemoveAddress):
            actual.addresses.pop(step.address, None)
        elif not isinstance(step, FlushFlows):
            _carry_out_ipvs(actual.services, step)


def _carry_out_ipvs(services: dict[ServiceId, VirtualService], step: IpvsStep) -> None:
    if isinstance(step, RemoveService):
        services.pop(step.id, None)
    elif isinstance(step, AddService):
        services[step.id] = VirtualService(step.settings, {})
    elif isinstance(step, SetService):
        services[step.id] = replace(services[step.id], settings=step.settings)
    else:
        service = services[step.id]
        servers = {server: its for server, its in service.servers.items() if server != step.server}
        if not isinstance(step, RemoveServer):
            servers[step.server] = step.settings
        services[step.id] = replace(service, servers=servers)


def _table(wanted: Wanted, actual: Actual) -> list[Step]:
    """Return how our table gets its rules and the ids it does not hold yet: as a whole only where the rules differ."""
    if actual.table != stamp(wanted.masquerade):
        return [WriteTable(wanted.masquerade, tuple(sorted(actual.owned | wanted.services.keys())))]
    return _own(place for place in sorted(wanted.services) if place not in actual.owned)


def _own(places: Iterable[ServiceId]) -> list[Step]:
    ids = tuple(places)
    return [Own(ids)] if ids else []


def _disown(places: Iterable[ServiceId]) -> list[Step]:
    ids = tuple(sorted(places))
    return [Disown(ids)] if ids else []


def _places(
    services: Mapping[ServiceId, VirtualService], actual: Actual, places: Iterable[ServiceId]
) -> tuple[list[Step], list[Step]]:
    """Return the IPVS steps for some places: what adds and changes, and what removes."""
    adding: list[Step] = []
    removing: list[Step] = []
    for place in sorted(places):
        want, have = services.get(place), actual.services.get(place)
        if want is None:
            if have is not None:
                removing.append(RemoveService(place))
                removing += _flush(place, have.servers)
            continue
        if have is None:
            adding.append(AddService(place, want.settings))
        elif have.settings != want.settings:
            adding.append(SetService(place, want.settings))
        servers = compare(want.servers, EMPTY if have is None else have.servers)
        adding += [AddServer(place, *item) for item in servers.added.items()]
        adding += [SetServer(place, *item) for item in servers.changed.items()]
        removing += [RemoveServer(place, server) for server in servers.removed]
        removing += _flush(place, servers.removed)
    return adding, removing


def _flush(place: ServiceId, servers: Iterable[ServerId]) -> list[Step]:
    """Return what ends the UDP flows of servers that are gone; TCP and SCTP end by themselves."""
    return [FlushFlows(place, server) for server in servers] if place.protocol == "UDP" else []
