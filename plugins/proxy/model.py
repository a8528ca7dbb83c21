"""What the proxy wants and finds in the kernel, in the words of ipvsadm(8), ip(8) and nft(8) (pure).

IPVS holds *virtual services*, each with *real servers* (the kernel says destinations). Both wanted and actual state use
these types, so that they compare by ``==``. What the proxy does not set itself stays out of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class ServiceId(NamedTuple):
    """What identifies a virtual service. ``protocol`` is TCP, UDP or SCTP; ``address`` canonical text."""

    protocol: str
    address: str
    port: int


class ServerId(NamedTuple):
    """What identifies a real server within its virtual service."""

    address: str
    port: int


class Server(NamedTuple):
    """A real server's settings. ``method``: masq | tunnel | route | local (ip_vs.h: IP_VS_CONN_F_MASQ …)."""

    weight: int = 1
    method: str = "masq"


class Settings(NamedTuple):
    """A virtual service's settings.

    ``flags`` are the IP_VS_SVC_F_* bits of linux/ip_vs.h without HASHED, which is the kernel's own. ``timeout_s``
    counts only with PERSISTENT. ``netmask`` is 0 for the full mask (all 32 or 128 bits), else the kernel's number: for
    IPv4 the mask as an integer in host order, for IPv6 the prefix length.
    """

    scheduler: str = "rr"
    flags: int = 0
    timeout_s: int = 0
    netmask: int = 0


ROUND_ROBIN = Settings()


@dataclass(frozen=True, slots=True)
class VirtualService:
    """One virtual service with its real servers."""

    settings: Settings = ROUND_ROBIN
    servers: Mapping[ServerId, Server] = field(default_factory=dict)


class Masquerade(NamedTuple):
    """When service traffic is source-translated on its way out, per family.

    Neither end in ``pod_cidrs`` → translated to ``node_ips`` of the family, or, where the node's address is not known,
    to that of the interface it leaves by. Without any pod CIDR of a family, or with ``everything``, all of it is.
    """

    pod_cidrs: tuple[str, ...] = ()
    node_ips: tuple[str, ...] = ()  # at most one per family
    everything: bool = False


ALL_TRAFFIC = Masquerade()

NO_ROUTE = "none"  # in Actual.addresses, for an address without any local route; "" is the one the kernel makes itself


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that the kernel should hold. ``addresses``: service address → the node's own address, "" where unknown."""

    services: Mapping[ServiceId, VirtualService] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    masquerade: Masquerade = ALL_TRAFFIC


@dataclass(slots=True)
class Actual:
    """What the kernel holds: observed at first, then carried along by ``plan.carry_out``.

    ``services`` are all of IPVS, ``owned`` the content of our set: a service that is not in it is foreign, unless it is
    one of the ``leftovers``, which kube-router (Go) made. ``addresses`` are those on kube-dummy-if with the source
    address of their local route, "" without one. ``table`` is the stamp of the rules in our nftables table
    (``render.stamp``), "" where there is no table.
    """

    services: dict[ServiceId, VirtualService] = field(default_factory=dict)
    owned: set[ServiceId] = field(default_factory=set)
    addresses: dict[str, str] = field(default_factory=dict)
    table: str = ""
    leftovers: frozenset[ServiceId] = frozenset()


# -- steps: what a plan is made of, applied in order -------------------------------------------------------------------


class WriteTable(NamedTuple):
    """Replace our nftables table as a whole, with ``owned`` in its sets."""

    masquerade: Masquerade
    owned: tuple[ServiceId, ...]


class Own(NamedTuple):
    """Add to the set ``owned``: before the services themselves."""

    ids: tuple[ServiceId, ...]


class Disown(NamedTuple):
    """Cut from the set ``owned``: after the services themselves are gone."""

    ids: tuple[ServiceId, ...]


class AddAddress(NamedTuple):
    """Add a service address to kube-dummy-if, and its local route with this source."""

    address: str
    source: str


class SetSource(NamedTuple):
    """Set the source of an address's local route."""

    address: str
    source: str


class RemoveAddress(NamedTuple):
    """Remove a service address from kube-dummy-if; its local route goes with it."""

    address: str


class AddService(NamedTuple):
    id: ServiceId
    settings: Settings


class SetService(NamedTuple):
    """Change the settings in place: connections and servers stay."""

    id: ServiceId
    settings: Settings


class RemoveService(NamedTuple):
    id: ServiceId


class AddServer(NamedTuple):
    id: ServiceId
    server: ServerId
    settings: Server


class SetServer(NamedTuple):
    """Change weight or method in place."""

    id: ServiceId
    server: ServerId
    settings: Server


class RemoveServer(NamedTuple):
    id: ServiceId
    server: ServerId


class FlushFlows(NamedTuple):
    """Delete the conntrack entries of UDP flows to ``id`` that ``server`` answered: nothing else would end them."""

    id: ServiceId
    server: ServerId


IpvsStep = AddService | SetService | RemoveService | AddServer | SetServer | RemoveServer
AddressStep = AddAddress | SetSource | RemoveAddress
Step = WriteTable | Own | Disown | IpvsStep | AddressStep | FlushFlows
