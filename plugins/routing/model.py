"""What routing wants and finds in the kernel, in the words of ip(8) (pure).

A *route* is named by its destination and table: our protocol and metric are the same everywhere, and the kernel keeps
one of them for each. A *device* is a tunnel of ours by its name. Wanted and actual state use the same types, so that
they compare by ``==``; addresses and prefixes are canonical text, and their family is told by a colon.

A route through an overlay names its device, and where the kernel needs one a gateway: IPv4 over a tunnel has none; IPv6
over a tunnel has a link-local one, without which the kernel makes no multipath of several; over vxlan the gateway is
what the neighbour entry turns into the other node's MAC. ``tunnel_hop`` and ``vxlan_hop`` know this.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

PROTOCOL = 75  # of our routes and rules; the proxy's local routes have it too, but in another table
METRIC = 75  # a route that somebody else made to the same prefix has another one, and stays
RULE_PRIORITY = 32700  # before the main table's 32766
MAIN, OVERLAY_TABLE = 254, 77
ALIAS = "kube-router"  # IFLA_IFALIAS of our devices; kube-router (Go) leaves it empty

BRIDGE, DUMMY = "kube-bridge", "kube-dummy-if"
VXLAN, VXLAN6 = "kube-vxlan", "kube-vxlan6"
VNI, VXLAN_PORT = 75, 4789
TUNNEL_NAME = re.compile(r"tun-[0-9a-f]{11}")
GATEWAY6 = "fe80::1"  # of every IPv6 hop through a tunnel: a tunnel has but one other end


def is_own_link(name: str) -> bool:
    """Return whether an interface of this name is one of ours, the proxy's and the pods' bridge included."""
    return name in (BRIDGE, DUMMY, VXLAN, VXLAN6) or TUNNEL_NAME.fullmatch(name) is not None


def tunnel_name(remote: str) -> str:
    """Return the name of the tunnel to this address."""
    return f"tun-{sha256(remote.encode()).hexdigest()[:11]}"


# -- routes ------------------------------------------------------------------------------------------------------------


class RouteId(NamedTuple):
    """What identifies a route of ours."""

    destination: str  # "10.244.2.0/24"
    table: int = MAIN


class Hop(NamedTuple):
    """A next hop. ``via`` is "" for what is on the device itself; ``onlink`` asks no route about the gateway."""

    via: str
    device: str
    onlink: bool = False


class Route(NamedTuple):
    """Where packets to a destination go: one hop, or several equally good ones, sorted.

    ``source`` is the preferred source address, "" without one. A route without hops is one that somebody spoilt.
    """

    hops: tuple[Hop, ...]
    source: str = ""


class Rule(NamedTuple):
    """Packets from these addresses look into this table first."""

    source: str
    table: int = OVERLAY_TABLE


# -- devices -----------------------------------------------------------------------------------------------------------


class Tunnel(NamedTuple):
    """A device of ours. ``kind``: ipip | ip6tnl | fou | fou6 | vxlan, where fou is ipip in GUE, and fou6 ip6tnl in it.

    ``port`` is the UDP port of fou and vxlan. ``mtu`` 0 leaves it to the kernel. A vxlan has no ``remote``: neighbours
    and forwards say where its packets go; ``mac`` is its own.
    """

    kind: str
    local: str
    remote: str = ""
    port: int = 0
    mtu: int = 0
    mac: str = ""


class Neighbour(NamedTuple):
    """What identifies a permanent neighbour entry; its value is a MAC."""

    device: str
    address: str


class Forward(NamedTuple):
    """What identifies an entry of a vxlan's forwarding table; its value is the other node's address."""

    device: str
    mac: str


class FouPort(NamedTuple):
    """A UDP port on which the kernel takes GUE packets. ``family`` is 4 or 6."""

    port: int
    family: int = 4


def tunnel_hop(next_hop: str) -> Hop:
    """Return the hop through the tunnel to this node."""
    return Hop(GATEWAY6 if ":" in next_hop else "", tunnel_name(next_hop))


def vxlan(local: str, *, port: int = VXLAN_PORT, mtu: int = 0) -> Tunnel:
    """Return the vxlan device of a node with this address."""
    return Tunnel("vxlan", local, "", port, mtu, vxlan_mac(local))


def vxlan_name(address: str) -> str:
    """Return the name of the vxlan device for an address' family."""
    return VXLAN6 if ":" in address else VXLAN


def vxlan_mac(address: str) -> str:
    """Return the MAC of the vxlan device of the node with this address.

    An IPv4 address fits; of an IPv6 one it is a hash of 40 bits: two nodes of 5000 share one in 1 of 90000 clusters.
    """
    if ":" in address:
        octets = b"\x0e" + sha256(address.encode()).digest()[:5]
    else:
        octets = b"\x0a\x5c" + IPv4Address(address).packed
    return octets.hex(":")


def vxlan_gateway(address: str) -> str:
    """Return the gateway that stands for a node in routes over vxlan.

    For IPv6 it is link-local: the kernel refuses a global one that it has another route to, ``onlink`` or not.
    """
    if ":" not in address:
        return address
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + sha256(address.encode()).digest()[:8]))


def vxlan_hop(next_hop: str) -> Hop:
    """Return the hop over vxlan to this node."""
    return Hop(vxlan_gateway(next_hop), vxlan_name(next_hop), onlink=":" not in next_hop)


def vxlan_entries(next_hop: str) -> tuple[Neighbour, Forward, str]:
    """Return what the vxlan device has to know about a node: its neighbour entry, its forward, and the MAC of both."""
    device, mac = vxlan_name(next_hop), vxlan_mac(next_hop)
    return Neighbour(device, vxlan_gateway(next_hop)), Forward(device, mac), mac


def host_prefix(address: str) -> str:
    """Return the prefix that holds an address alone."""
    return f"{ip_address(address)}/{128 if ':' in address else 32}"


# -- state -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Wanted:
    """All that the kernel should hold. A hop's device is one of ``devices`` or an interface of the host."""

    routes: Mapping[RouteId, Route] = field(default_factory=dict)
    devices: Mapping[str, Tunnel] = field(default_factory=dict)
    neighbours: Mapping[Neighbour, str] = field(default_factory=dict)
    forwards: Mapping[Forward, str] = field(default_factory=dict)
    rules: frozenset[Rule] = frozenset()
    fou_ports: frozenset[FouPort] = frozenset()


class Device(NamedTuple):
    """A device as it was found. ``marked`` tells whether it has our alias."""

    tunnel: Tunnel
    up: bool = True
    marked: bool = True


@dataclass(slots=True)
class Actual:
    """What of it the kernel holds, ours only: observed at first, then carried along by ``plan.carry_out``.

    ``devices`` are ours by name and kind, kube-router's (Go) among them. ``fou_ports`` are those that our devices use,
    since a port itself carries no mark, and ``foreign_fou_ports`` all others that take GUE packets.
    """

    routes: dict[RouteId, Route] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    neighbours: dict[Neighbour, str] = field(default_factory=dict)
    forwards: dict[Forward, str] = field(default_factory=dict)
    rules: set[Rule] = field(default_factory=set)
    fou_ports: set[FouPort] = field(default_factory=set)
    foreign_fou_ports: frozenset[FouPort] = frozenset()


# -- steps: what a plan is made of, applied in order -------------------------------------------------------------------


class AddFouPort(NamedTuple):
    port: FouPort


class RemoveFouPort(NamedTuple):
    port: FouPort


class RenameDevice(NamedTuple):
    """Give a device the name that its other end calls for: kube-router (Go) names the same tunnel differently."""

    name: str
    wanted: str


class AddDevice(NamedTuple):
    """Make a device, marked and up."""

    name: str
    tunnel: Tunnel


class SetDevice(NamedTuple):
    """Change a device in place: marked and up besides.

    Only with ``new_mac`` its MAC is set, for then the kernel drops all its neighbours, even if it is the same.
    """

    name: str
    tunnel: Tunnel
    new_mac: bool = False


class RemoveDevice(NamedTuple):
    """Remove a device; the kernel removes with it what goes through it."""

    name: str


class SetNeighbour(NamedTuple):
    """Make or change a permanent neighbour entry."""

    neighbour: Neighbour
    mac: str


class RemoveNeighbour(NamedTuple):
    neighbour: Neighbour


class SetForward(NamedTuple):
    """Make or change an entry of a vxlan's forwarding table."""

    forward: Forward
    remote: str


class RemoveForward(NamedTuple):
    forward: Forward


class AddRoute(NamedTuple):
    """Add a route where none of this destination, table and metric is."""

    id: RouteId
    route: Route


class SetRoute(NamedTuple):
    """Put a route in the place of ours."""

    id: RouteId
    route: Route


class RemoveRoute(NamedTuple):
    id: RouteId


class AddRule(NamedTuple):
    rule: Rule


class RemoveRule(NamedTuple):
    rule: Rule


RouteStep = AddRoute | SetRoute | RemoveRoute
DeviceStep = RenameDevice | AddDevice | SetDevice | RemoveDevice
EntryStep = SetNeighbour | RemoveNeighbour | SetForward | RemoveForward
FouStep = AddFouPort | RemoveFouPort
Step = RouteStep | DeviceStep | EntryStep | FouStep | AddRule | RemoveRule
